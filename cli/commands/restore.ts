/** A backup in the place of a journal, while no supervisor runs. What is there is put aside. */
import { defineCommand } from '../command.ts';
import { runOffline } from '../offline-journal.ts';
import { EXIT } from '../outcome.ts';

interface RestoreAnswer {
  readonly created_at: string;
  readonly sessions: number;
  readonly events: number;
  readonly files: number;
  readonly new_epoch: number;
  readonly aside?: string;
}

export const command = defineCommand({
  build: (yargs) =>
    yargs
      .positional('file', { type: 'string', demandOption: true, describe: 'A backup' })
      .option('force', {
        type: 'boolean',
        default: false,
        describe: 'Put the journal that is there aside',
      })
      .example('prx-supervisor restore prx-monday.db --state-dir /srv/prx', ''),
  run: async (context, { file, force }) => {
    const report = await runOffline<RestoreAnswer>(context, { action: 'restore', file, force });
    if (context.json) context.printJson(report);
    else if (!context.quiet) {
      const { sessions, events, files, created_at: createdAt, new_epoch: epoch } = report;
      const content = `${sessions} sessions, ${events} events, ${files} artifacts`;
      context.print(`restored ${content} as of ${createdAt}; epoch ${epoch}`);
      if (report.aside !== undefined) context.say(`the old state is kept: ${report.aside}`);
    }
    return EXIT.done;
  },
});
