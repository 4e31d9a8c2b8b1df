/** The heartbeat of a child: two missed in a row are a death, and nothing else is. */
import { expect, test } from '@jest/globals';
import { silentLogger } from '../../../base/logger.ts';
import { startHeartbeat } from '../../../supervisor/children/lifecycle-heartbeat.ts';
import { createSteppedClock } from '../stepped-clock.ts';

const INTERVAL_MS = 10_000;

function start(isHeld?: () => boolean) {
  const clock = createSteppedClock();
  const state = { answers: false, pings: 0, killed: undefined as string | undefined };
  let markExited: () => void = () => undefined;
  const exited = new Promise<void>((resolve) => {
    markExited = resolve;
  });
  const child = {
    ...{ pid: 9, exited, isAlive: () => state.killed === undefined },
    kill(cause: string) {
      state.killed = cause;
      markExited();
    },
  };
  const ping = async (timeoutMs: number): Promise<void> => {
    state.pings += 1;
    if (state.answers) return;
    await clock.sleep(timeoutMs);
    throw new Error('no answer');
  };
  const deps = { clock, logger: silentLogger, kind: 'gateway' as const, ping };
  const held = isHeld === undefined ? {} : { isHeld };
  startHeartbeat({ ...deps, ...held, intervalMs: () => INTERVAL_MS }, child);
  /** The next wait of this length is over. */
  const pass = async (delayMs: number): Promise<void> => {
    await clock.armed(delayMs);
    clock.advance(delayMs);
  };
  return { clock, state, child, pass, exited };
}

test('two missed in a row: killed as unresponsive, within two heartbeats (FAULTS 13)', async () => {
  const { clock, state, pass, exited } = start();
  await pass(INTERVAL_MS);
  await pass(INTERVAL_MS / 2);
  await pass(INTERVAL_MS / 2);
  await exited;
  expect(state).toMatchObject({ killed: 'unresponsive', pings: 2 });
  expect(clock.nowMs()).toBe(2 * INTERVAL_MS);
  expect(clock.waiting()).toBe(0);
});

test('one missed and one answered is none', async () => {
  const { state, pass, clock } = start();
  await pass(INTERVAL_MS);
  await clock.armed(INTERVAL_MS / 2);
  state.answers = true;
  clock.advance(INTERVAL_MS / 2);
  await pass(INTERVAL_MS);
  expect(state.killed).toBeUndefined();
});

test('a worker that stands still for 2 s at each of a hundred pings is not killed (FAULTS 16)', async () => {
  const clock = createSteppedClock();
  const blockMs = 2000;
  let [answers, killed] = [0, false];
  const ping = async (timeoutMs: number): Promise<void> => {
    // Whichever comes first: its answer, when its event loop turns again, or the end of the wait.
    await clock.sleep(Math.min(blockMs, timeoutMs));
    if (blockMs >= timeoutMs) throw new Error('no answer');
    answers += 1;
  };
  const kill = (): void => {
    killed = true;
  };
  const deps = { clock, logger: silentLogger, kind: 'worker' as const, ping };
  const child = { pid: 9, exited: new Promise(() => undefined), isAlive: () => true, kill };
  startHeartbeat({ ...deps, intervalMs: () => INTERVAL_MS }, child);
  while (answers < 100) {
    await clock.armed(INTERVAL_MS);
    clock.advance(INTERVAL_MS);
    await clock.armed(blockMs);
    clock.advance(blockMs);
    await Promise.resolve();
  }
  expect(killed).toBe(false);
});

test('an answer that we do not read is not missed', async () => {
  const { state, pass, clock } = start(() => true);
  for (let round = 0; round < 5; round += 1) {
    await pass(INTERVAL_MS);
    await pass(INTERVAL_MS / 2);
  }
  await clock.armed(INTERVAL_MS);
  expect(state).toMatchObject({ killed: undefined, pings: 5 });
});

test('nothing is late when we stood still ourselves (FAULTS 18, 19)', async () => {
  const { state, pass, clock } = start();
  await pass(INTERVAL_MS);
  for (let round = 0; round < 3; round += 1) {
    await clock.armed(INTERVAL_MS / 2);
    clock.skip(30_000);
  }
  await clock.armed(INTERVAL_MS / 2);
  expect(state).toMatchObject({ killed: undefined, pings: 4 });
});
