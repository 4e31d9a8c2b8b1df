/** One session as JSON: everything the supervisor tells about it, always in this one shape. */
import { defineCommand } from '../command.ts';
import { EXIT } from '../outcome.ts';

export const command = defineCommand({
  build: (yargs) =>
    yargs.positional('id', { type: 'string', demandOption: true, describe: 'Id, name, or @last' }),
  run: async (context, { id }) => {
    const client = context.connect();
    const view = await client.getSession(id);
    const processes = await client.listProcesses(view.id);
    const value = { ...view, processes };
    context.print(context.json ? JSON.stringify(value) : JSON.stringify(value, null, 2));
    return EXIT.done;
  },
});
