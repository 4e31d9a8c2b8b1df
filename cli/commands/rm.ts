/** Removes sessions with their journals and private workspaces. One that fails does not keep the
 *  others from being removed. */
import { isPrxError } from '../../base/errors.ts';
import { defineCommand } from '../command.ts';
import { EXIT } from '../outcome.ts';
import { reportError } from '../report.ts';

export const command = defineCommand({
  build: (yargs) =>
    yargs.positional('ids', {
      type: 'string',
      array: true,
      demandOption: true,
      describe: 'Ids, parts of them, names, or @last',
    }),
  run: async (context, { ids }) => {
    const client = context.connect();
    let exit: number = EXIT.done;
    for (const id of ids) {
      try {
        await client.deleteSession(id);
        if (context.json) context.printJson({ removed: id });
        else if (!context.quiet) context.print(`removed ${id}`);
      } catch (error) {
        if (!isPrxError(error) || error.code === 'NOT_RUNNING') throw error;
        exit = reportError(context, error);
      }
    }
    return exit;
  },
});
