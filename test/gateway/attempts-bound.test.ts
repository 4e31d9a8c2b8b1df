/** How many attempts run at once, and when the end of one is synced. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { realClock } from '../../base/clock.ts';
import { silentLogger } from '../../base/logger.ts';
import { realRandom } from '../../base/random.ts';
import { runAttempt } from '../../gateway/attempt.ts';
import { type AttemptPlan, createAttempts } from '../../gateway/attempts.ts';
import type { Provider } from '../../gateway/providers/provider.ts';
import { EFFECT, SESSION, toSettings } from './harness.ts';

const RUNNING_MAX = 1024;

/** Never says a word, and ends when it is cancelled. */
const silent: Provider = {
  target: 'nowhere',
  listModels: async () => [],
  async *generate(_, signal) {
    yield [];
    if (signal.aborted) return;
    await new Promise((resolve) => signal.addEventListener('abort', resolve));
  },
};

/** Says one word. */
const brief: Provider = {
  ...silent,
  async *generate() {
    yield [
      { kind: 'text', text: 'word' },
      { kind: 'finish', reason: 'stop' },
    ];
  },
};

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'prx-attempts-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

const toPlan = (attempt: number, own: Partial<AttemptPlan> = {}): AttemptPlan => ({
  request: { model: 'm', messages: [], tools: [], parallelToolCalls: true },
  effect: EFFECT,
  attempt,
  spoolPath: join(dir, `${attempt}.log`),
  provider: silent,
  settings: toSettings(),
  report: async () => undefined,
  isOrphaned: () => false,
  clock: realClock,
  random: realRandom,
  logger: silentLogger,
  ...own,
});

test('as many attempts as may run at once are run; one more is refused by name', async () => {
  const attempts = createAttempts(realClock);
  const start = (attempt: number) =>
    attempts.run({ session: SESSION, effect: EFFECT, attempt }, toPlan(attempt));
  const running = Array.from({ length: RUNNING_MAX }, (_, index) => start(index + 1));
  expect(attempts.runningCount()).toBe(RUNNING_MAX);
  const surplus = start(RUNNING_MAX + 1);
  attempts.cancelAll();
  await expect(surplus).rejects.toMatchObject({ code: 'AT_CAPACITY' });
  await Promise.all(running);
  expect(attempts.runningCount()).toBe(0);
});

test('what could not be spooled is told with the end: who follows the deltas has the whole text (regression)', async () => {
  const said: string[] = [];
  const report = async ({ text }: { text: string }) => void said.push(text);
  const own = { spoolPath: '/dev/full', provider: brief, report };
  const outcome = await runAttempt({ ...toPlan(1, own), cancel: new AbortController().signal });
  expect(outcome).toMatchObject({ kind: 'completed', message: { text: 'word' }, unsaid: 'word' });
  expect(said).toEqual([]);
});

// A pipe takes records and cannot be synced: who tries is heard of.
test.each([
  ['synced where there is no supervisor', true, 1],
  ['not synced where one syncs its journal', false, 0],
])('the end of an attempt is %s', async (_, isOrphaned, failures) => {
  const errors: string[] = [];
  const logger = { ...silentLogger, error: (event: string) => void errors.push(event) };
  const spoolPath = join(dir, 'pipe');
  execFileSync('mkfifo', [spoolPath]);
  const cancel = new AbortController().signal;
  const own = { spoolPath, provider: brief, isOrphaned: () => isOrphaned, logger };
  const outcome = await runAttempt({ ...toPlan(1, own), cancel });
  expect(outcome).toMatchObject({ kind: 'completed', message: { text: 'word' } });
  expect(errors).toEqual(Array.from({ length: failures }, () => 'spool.unwritable'));
});
