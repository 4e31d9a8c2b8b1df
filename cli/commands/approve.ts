/** Allows a waiting tool call, as it is or with edited arguments. */

import type { ApiClient } from '../../api/client.ts';
import { PrxError } from '../../base/errors.ts';
import { type Context, defineCommand } from '../command.ts';
import { EXIT } from '../outcome.ts';
import { sanitizeLine } from '../text/width.ts';

const SCOPES = ['once', 'session', 'rule'] as const;

export const command = defineCommand({
  build: (yargs) =>
    yargs
      .positional('id', { type: 'string', demandOption: true, describe: 'Session: id or name' })
      .positional('call', {
        type: 'string',
        demandOption: true,
        describe: 'The call, such as 3.1.1; see approvals',
      })
      .option('edit', {
        type: 'string',
        requiresArg: true,
        describe: 'Other arguments for the call, as a JSON object',
      })
      .option('scope', {
        choices: SCOPES,
        requiresArg: true,
        describe: 'This call, calls like it in this session, or by a rule from now on',
      })
      .option('answer', {
        type: 'string',
        requiresArg: true,
        describe: 'What you say to a question of ask_user',
      })
      .example('prx-supervisor approve @last 3.1.1 --edit \'{"command":"ls -l"}\'', ''),
  run: async (context, { id, call, edit, scope, answer }) => {
    const client = context.connect();
    const seen = scope === 'rule' ? await showRule(context, client, { id, call }) : {};
    await client.resolveApproval(id, call, {
      ...seen,
      decision: 'approve',
      ...(edit === undefined ? {} : { arguments: parseArguments(edit) }),
      ...(scope === undefined ? {} : { scope }),
      ...(answer === undefined ? {} : { answer }),
    });
    if (context.json) context.printJson({ session: id, call_id: call, decision: 'approve' });
    else if (!context.quiet) context.print(`approved ${call}`);
    return EXIT.done;
  },
});

/** Says what will be kept before it is, and binds the answer to what was shown. */
async function showRule(
  context: Context,
  client: ApiClient,
  { id, call }: { readonly id: string; readonly call: string },
): Promise<{ digest?: string }> {
  const session = await client.getSession(id);
  const waiting = await client.listApprovals();
  const approval = waiting.find((one) => one.session === session.id && one.call_id === call);
  // Without one, or without a rule to keep, the supervisor says why.
  if (approval?.keeps === undefined) return {};
  const { describeKeptRule } = await import('../../protocol/approval-words.ts');
  context.say(`keeps the rule: allow ${sanitizeLine(describeKeptRule(approval.keeps))}`);
  context.say(`it is listed by ${context.self} approvals --rules, and ends with --forget`);
  return { digest: approval.digest };
}

/** @throws INVALID_REQUEST for anything but a JSON object. */
export function parseArguments(text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new PrxError('INVALID_REQUEST', `the arguments are not JSON: ${reason}`, { cause });
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value };
  throw new PrxError('INVALID_REQUEST', 'the arguments must be a JSON object, {"name": value}');
}
