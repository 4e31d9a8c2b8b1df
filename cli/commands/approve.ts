/** Allows a waiting tool call, as it is or with edited arguments. */
import { PrxError } from '../../base/errors.ts';
import { defineCommand } from '../command.ts';
import { EXIT } from '../outcome.ts';

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
      .example('prx-supervisor approve @last 3.1.1 --edit \'{"command":"ls -l"}\'', ''),
  run: async (context, { id, call, edit, scope }) => {
    await context.connect().resolveApproval(id, call, {
      decision: 'approve',
      ...(edit === undefined ? {} : { arguments: parseArguments(edit) }),
      ...(scope === undefined ? {} : { scope }),
    });
    if (context.json) context.printJson({ session: id, call_id: call, decision: 'approve' });
    else if (!context.quiet) context.print(`approved ${call}`);
    return EXIT.done;
  },
});

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
