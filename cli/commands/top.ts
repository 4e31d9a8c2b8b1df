/** The live dashboard of a terminal. Piped, or with --plain, it is one look: labelled lines. */
import { defineCommand } from '../command.ts';
import { columnsOf } from '../machine.ts';
import { EXIT } from '../outcome.ts';
import { initialState, nothingKnown } from '../top/model.ts';
import { renderBody } from '../top/render.ts';
import { learn, runTop } from '../top/run.ts';

export const command = defineCommand({
  build: (yargs) =>
    yargs.epilogue('Keys: 1-7 tabs, arrows choose, / searches, 7 lists what can be done, q quits.'),
  run: async (context) => {
    const { machine, plain } = context;
    const isTerminal = machine.stdin.isTTY === true && machine.stdout.isTTY === true;
    if (isTerminal && !plain && !context.json) {
      await runTop(context);
      return EXIT.done;
    }
    const known = await learn(context.connect(), initialState, nothingKnown);
    if (known.problem !== undefined) throw known.problem;
    if (context.json) {
      context.printJson({
        status: known.status,
        sessions: known.sessions,
        processes: known.processes,
      });
      return EXIT.done;
    }
    const columns = machine.stdout.isTTY ? columnsOf(machine.stdout) : Number.POSITIVE_INFINITY;
    const size = { columns, rows: Number.MAX_SAFE_INTEGER, plain, style: context.style };
    const frame = { ...size, nowMs: machine.clock.wallMs() };
    for (const tab of ['Overview', 'Sessions'] as const) {
      for (const line of renderBody({ ...initialState, tab }, known, frame)) context.print(line);
    }
    return EXIT.done;
  },
});
