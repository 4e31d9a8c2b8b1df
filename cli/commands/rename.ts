/** Gives a session a name, which then works as its id. */
import { defineCommand } from '../command.ts';
import { EXIT } from '../outcome.ts';
import { toName } from '../session-action.ts';

export const command = defineCommand({
  build: (yargs) =>
    yargs
      .positional('id', { type: 'string', demandOption: true, describe: 'Id, name, or @last' })
      .positional('name', {
        type: 'string',
        demandOption: true,
        describe: 'Letters, digits, . _ -; at most 64',
      }),
  run: async (context, { id, name }) => {
    const view = await context.connect().renameSession(id, name);
    if (context.json) context.printJson(view);
    else if (!context.quiet) context.print(`renamed ${toName(view)}`);
    return EXIT.done;
  },
});
