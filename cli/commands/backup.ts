/** Journal and artifacts of the running supervisor into one new, verified file. All goes on. */
import { resolve } from 'node:path';
import { defineCommand } from '../command.ts';
import { EXIT } from '../outcome.ts';

const MIB = 1024 * 1024;

export const command = defineCommand({
  build: (yargs) =>
    yargs
      .positional('file', { type: 'string', demandOption: true, describe: 'A new file' })
      .example('prx-supervisor backup /backup/prx-monday.db', ''),
  run: async (context, { file }) => {
    const report = await context.connect().backup(resolve(context.machine.cwd, file));
    const { path, bytes, sessions, events, files, problems } = report;
    if (context.json) context.printJson(report);
    else if (context.quiet) context.print(path);
    else {
      const size = `${(bytes / MIB).toFixed(1)} MiB`;
      const content = `${sessions} sessions, ${events} events, ${files} artifacts`;
      context.print(`${path}: ${size}, ${content}, verified`);
    }
    for (const { session, seq, problem } of problems) {
      context.say(`damaged before the backup: ${session} at event ${seq}: ${problem}`);
    }
    return problems.length === 0 ? EXIT.done : EXIT.failed;
  },
});
