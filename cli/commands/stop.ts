/** Stops the supervisor: no new input, running turns get their drain time, then everything ends
 *  in order. Returns when nothing answers any more. */
import { isPrxError, PrxError } from '../../base/errors.ts';
import { type Context, defineCommand } from '../command.ts';
import { checkNotNegative } from '../numbers.ts';
import { EXIT } from '../outcome.ts';
import { formatDuration } from '../text/format.ts';

const POLL_MS = 50;
/** Beyond the drain time: what the last steps of a stop may take. */
const GRACE_MS = 30_000;
const DRAIN_SECS_DEFAULT = 10;
/** A stop that takes longer than this says what it waits for. */
const QUIET_MS = 1000;

export const command = defineCommand({
  build: (yargs) =>
    yargs.option('drain', {
      type: 'number',
      requiresArg: true,
      describe: `Seconds that running turns get to end (default ${DRAIN_SECS_DEFAULT})`,
    }),
  run: async (context, { drain = DRAIN_SECS_DEFAULT }) => {
    checkNotNegative('drain', drain);
    const { clock } = context.machine;
    const client = context.connect();
    const startedMs = clock.nowMs();
    const { pid } = await client.getStatus();
    await client.stop({ drain_secs: drain });
    const deadlineMs = startedMs + drain * 1000 + GRACE_MS;
    await waitForEnd(context, { pid, startedMs, deadlineMs, drain });
    const tookMs = Math.round(clock.nowMs() - startedMs);
    if (context.json) context.printJson({ stopped: true, pid, took_ms: tookMs });
    else if (!context.quiet) context.print(`stopped (pid ${pid}) in ${formatDuration(tookMs)}`);
    return EXIT.done;
  },
});

interface Ending {
  readonly pid: number;
  readonly startedMs: number;
  readonly deadlineMs: number;
  readonly drain: number;
}

async function waitForEnd(context: Context, ending: Ending): Promise<void> {
  const { clock } = context.machine;
  const isGone = await createGoneCheck(context, ending.pid);
  let isSaid = context.quiet || context.json || ending.drain === 0;
  while (!(await isGone())) {
    if (!isSaid && clock.nowMs() - ending.startedMs > QUIET_MS) {
      context.say(`turns still run; they get ${ending.drain} s (--drain 0 waits for none)`);
      isSaid = true;
    }
    if (clock.nowMs() > ending.deadlineMs) {
      const message = `the supervisor (pid ${ending.pid}) was told to stop and still runs`;
      throw new PrxError('DEADLINE_EXCEEDED', message, { data: { pid: ending.pid } });
    }
    await clock.sleep(POLL_MS);
  }
}

/** On this machine the process itself is watched; over TCP, whether anyone answers. */
async function createGoneCheck(context: Context, pid: number): Promise<() => Promise<boolean>> {
  if (context.door.kind === 'socket') {
    const { findIdentity, isAlive } = await import('../../base/process.ts');
    const identity = findIdentity(pid);
    return async () => identity === undefined || !isAlive(identity);
  }
  const client = context.connect();
  return async () => {
    try {
      await client.getHealth();
      return false;
    } catch (error) {
      return isPrxError(error);
    }
  };
}
