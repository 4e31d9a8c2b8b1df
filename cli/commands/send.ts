/** Sends an input without attaching; with --wait it shows the turn and exits with it. */
import type { OnBusy } from '../../protocol/content.ts';
import { defineCommand } from '../command.ts';
import { EXIT } from '../outcome.ts';
import { checkPrompt, readPrompt } from '../prompt-input.ts';
import { watchTurn } from '../watch-turn.ts';

const ON_BUSY: readonly OnBusy[] = ['enqueue', 'interrupt', 'reject', 'steer'];

export const command = defineCommand({
  build: (yargs) =>
    yargs
      .positional('id', { type: 'string', demandOption: true, describe: 'Id, name, or @last' })
      .positional('text', {
        type: 'string',
        array: true,
        demandOption: true,
        describe: 'What to say; - reads standard input',
      })
      .option('on-busy', {
        choices: ON_BUSY,
        requiresArg: true,
        describe: 'While a turn runs: queue it, stop the turn, refuse, or give it to the turn',
      })
      .option('wait', {
        type: 'boolean',
        default: false,
        describe: 'Show the answer and exit with the turn',
      })
      .option('idempotency-key', {
        type: 'string',
        requiresArg: true,
        describe: 'The same key again is the same input',
      })
      .example("prx-supervisor send @last 'Go on' --wait", ''),
  run: async (context, args) => {
    const typed = args.text.join(' ');
    const text = typed === '-' ? await readPrompt(context.machine.stdin) : checkPrompt(typed);
    const client = context.connect();
    // First: @last may be another session when the input is in.
    const view = args.wait ? await client.getSession(args.id) : undefined;
    const input = await client.sendInput(view?.id ?? args.id, {
      text,
      ...(args.onBusy === undefined ? {} : { on_busy: args.onBusy }),
      ...(args.idempotencyKey === undefined ? {} : { idempotency_key: args.idempotencyKey }),
    });
    if (view === undefined) {
      if (context.json) context.printJson(input);
      else context.print(input.input_id);
      return EXIT.done;
    }
    const isTty = context.machine.stdin.isTTY === true && context.machine.stderr.isTTY === true;
    // Whoever can be asked is asked; otherwise the approval stays open for others to decide.
    return watchTurn(context, { client, view, input, mode: isTty ? 'ask' : undefined });
  },
});
