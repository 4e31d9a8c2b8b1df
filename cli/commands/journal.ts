/** The durable truth: verify it (of a running supervisor through its api, else by ourselves),
 *  repair it (only while none runs), export it as JSON lines. Exit code 1 when damage is found. */
import { isPrxError } from '../../base/errors.ts';
import type { JournalReport } from '../../protocol/journal.ts';
import { type Context, defineCommand } from '../command.ts';
import { columnsOf } from '../machine.ts';
import { exportOffline, runOffline } from '../offline-journal.ts';
import { EXIT } from '../outcome.ts';
import { renderTable } from '../text/table.ts';

const ACTIONS = ['verify', 'repair', 'export'] as const;
const PAGE_EVENTS = 1000;

interface JournalArgs {
  readonly id?: string | undefined;
  readonly aside: boolean;
}

interface RepairAnswer {
  readonly sessions: number;
  readonly mended: readonly {
    readonly session: string;
    readonly problem: string;
    readonly kept: number;
    readonly moved: number;
  }[];
  readonly salvage?: { readonly events: number; readonly kept: string } | undefined;
  readonly lost?: string | undefined;
}

export const command = defineCommand({
  build: (yargs) =>
    yargs
      .positional('action', { choices: ACTIONS, demandOption: true, describe: 'What to do' })
      .positional('id', {
        type: 'string',
        describe: "A session, or `system` for the supervisor's own events; all without one",
      })
      .option('aside', {
        type: 'boolean',
        default: false,
        describe: 'Export what repairs took out, instead of the journal',
      })
      .example('prx-supervisor journal verify', 'exit 1 when something is damaged')
      .example('prx-supervisor journal repair', 'with the supervisor stopped')
      .example('prx-supervisor journal export @last > session.jsonl', ''),
  run: (context, args) => {
    if (args.action === 'verify') return verify(context, args);
    return args.action === 'repair' ? repair(context, args) : exportAll(context, args);
  },
});

async function verify(context: Context, { id }: JournalArgs): Promise<number> {
  const report = await orOffline(
    context,
    () => context.connect().verifyJournal(id),
    () => runOffline<JournalReport>(context, { action: 'verify', session: id }),
  );
  const { sessions, events, problems } = report;
  if (context.json) context.printJson({ sessions, events, problems });
  else {
    const rows = problems.map((each) => [each.session, String(each.seq), each.problem]);
    show(context, ['SESSION', 'EVENT', 'PROBLEM'], rows);
    const verdict = problems.length === 0 ? 'no damage' : `${problems.length} problems`;
    if (!context.quiet) context.print(`${sessions} sessions, ${events} events: ${verdict}`);
    if (problems.length > 0) {
      context.say(`stop the supervisor and run: ${context.self} journal repair`);
    }
  }
  return problems.length === 0 ? EXIT.done : EXIT.failed;
}

/** Without a supervisor to ask we look ourselves; its answer, whatever it is, stands. */
async function orOffline<T>(
  context: Context,
  online: () => Promise<T>,
  offline: () => Promise<T>,
): Promise<T> {
  try {
    return await online();
  } catch (error) {
    if (!isPrxError(error, 'NOT_RUNNING') || context.door.kind === 'url') throw error;
    return offline();
  }
}

async function repair(context: Context, { id }: JournalArgs): Promise<number> {
  const report = await runOffline<RepairAnswer>(context, { action: 'repair', session: id });
  const { sessions, mended, salvage, lost } = report;
  if (context.json) {
    const rare = {
      ...(salvage === undefined ? {} : { salvage }),
      ...(lost === undefined ? {} : { lost }),
    };
    context.printJson({ sessions, mended, ...rare });
    return EXIT.done;
  }
  const rows = mended.map((each) => [
    each.session,
    `1 to ${each.kept}`,
    String(each.moved),
    each.problem,
  ]);
  show(context, ['SESSION', 'KEPT', 'MOVED ASIDE', 'PROBLEM'], rows);
  if (salvage !== undefined) {
    context.say(
      `${salvage.events} events read from a damaged file, which is kept: ${salvage.kept}`,
    );
  }
  if (lost !== undefined) context.say(lost);
  if (!context.quiet) context.print(`${sessions} sessions checked, ${mended.length} mended`);
  if (mended.some(({ moved }) => moved > 0)) {
    context.say(`what was taken out: ${context.self} journal export --aside`);
  }
  return EXIT.done;
}

async function exportAll(context: Context, { id, aside }: JournalArgs): Promise<number> {
  return orOffline(
    context,
    () => exportOnline(context, id, aside),
    () => exportOffline(context, { action: 'export', session: id, aside }),
  );
}

/** One page is in memory at a time. */
async function exportOnline(
  context: Context,
  session: string | undefined,
  aside: boolean,
): Promise<number> {
  const client = context.connect();
  let isStopped = false;
  const unlisten = context.machine.onInterrupt(() => {
    isStopped = true;
  });
  let after: number | null = 0;
  while (after !== null && !isStopped) {
    const page = await client.exportJournal({
      ...(session === undefined ? {} : { session }),
      after,
      limit: PAGE_EVENTS,
      aside,
    });
    for (const event of page.events) context.printJson(event);
    after = page.next;
  }
  unlisten();
  return isStopped ? EXIT.interrupted : EXIT.done;
}

function show(
  context: Context,
  titles: readonly string[],
  rows: readonly (readonly string[])[],
): void {
  if (rows.length === 0) return;
  const { machine, style, plain } = context;
  const width = machine.stdout.isTTY ? columnsOf(machine.stdout) : Number.POSITIVE_INFINITY;
  const columns = titles.map((title) => ({ title, flexible: title === 'PROBLEM' }));
  const layout = plain ? 'labelled' : 'columns';
  for (const line of renderTable(columns, rows, { layout, width, style })) context.print(line);
}
