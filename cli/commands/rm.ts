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
    const tried = async (act: () => Promise<void>): Promise<void> => {
      try {
        await act();
      } catch (error) {
        if (!isPrxError(error) || error.code === 'NOT_RUNNING') throw error;
        exit = reportError(context, error);
      }
    };
    // Before any is gone: after that @last, or part of an id, would be another one.
    const refs = new Map<string, string>();
    for (const ref of ids) {
      await tried(async () => {
        const { id } = await client.getSession(ref);
        if (!refs.has(id)) refs.set(id, ref);
      });
    }
    for (const [id, ref] of refs) {
      await tried(async () => {
        await client.deleteSession(id);
        if (context.json) context.printJson({ removed: ref });
        else if (!context.quiet) context.print(`removed ${ref}`);
      });
    }
    return exit;
  },
});
