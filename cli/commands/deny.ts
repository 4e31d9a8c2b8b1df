/** Refuses a waiting tool call; the model is told, with the reason. */
import { defineCommand } from '../command.ts';
import { EXIT } from '../outcome.ts';

export const command = defineCommand({
  build: (yargs) =>
    yargs
      .positional('id', { type: 'string', demandOption: true, describe: 'Session: id or name' })
      .positional('call', {
        type: 'string',
        demandOption: true,
        describe: 'The call, such as 3.1.1; see approvals',
      })
      .option('reason', { type: 'string', requiresArg: true, describe: 'Told to the model' }),
  run: async (context, { id, call, reason }) => {
    await context.connect().resolveApproval(id, call, {
      decision: 'deny',
      ...(reason === undefined ? {} : { reason }),
    });
    if (context.json) context.printJson({ session: id, call_id: call, decision: 'deny' });
    else if (!context.quiet) context.print(`denied ${call}`);
    return EXIT.done;
  },
});
