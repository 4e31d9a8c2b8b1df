/** Our side of the monitor: asks one question at a time, starts it at the first one and again (with
 *  back-off) when it died, kills one that does not answer. A question that cannot be answered now
 *  is rejected: the memory watch then looks itself. */
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { background } from '../../base/background.ts';
import type { Clock } from '../../base/clock.ts';
import { PrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { ProcessPort, ProcessSpec, RunningProcess } from '../../base/process.ts';
import type { ReadRss } from './memory.ts';
import { backoffMs } from './restart.ts';

export const monitorQuestionSchema = z.object({ id: z.number(), pids: z.array(z.number()) });
const answerSchema = z.object({
  id: z.number(),
  rss: z.array(z.tuple([z.number(), z.number()])),
});
export type MonitorAnswer = z.infer<typeof answerSchema>;

export interface MonitorDeps {
  readonly clock: Clock;
  readonly random: { next(): number };
  readonly logger: Logger;
  readonly processes: Pick<ProcessPort, 'start'>;
  readonly spec: ProcessSpec;
}

interface Open {
  readonly id: number;
  readonly resolve: (rss: ReadonlyMap<number, number>) => void;
  readonly reject: (error: Error) => void;
}

/** Silence this long after a question is the end of the monitor. */
const ANSWER_MS = 5000;
const HEALTHY_MS = 60_000;

export function createMonitor(deps: MonitorDeps): ReadRss {
  const { clock, logger } = deps;
  let live: RunningProcess | undefined;
  let starting = false;
  let failures = 0;
  let notBeforeMs = 0;
  let questions = 0;
  let open: Open | undefined;

  async function start(): Promise<void> {
    starting = true;
    const startedMs = clock.nowMs();
    try {
      const running = await deps.processes.start(deps.spec);
      running.stderr.resume();
      createInterface({ input: running.stdout }).on('line', (line) => hear(running, line));
      live = running;
      void running.exited.then(() => {
        if (clock.nowMs() - startedMs >= HEALTHY_MS) failures = 0;
        lose(running);
      });
    } catch (error) {
      failed();
      logger.warn('monitor.start_failed', { error, failures });
    } finally {
      starting = false;
    }
  }

  function failed(): void {
    notBeforeMs = clock.nowMs() + backoffMs(failures, deps.random.next());
    failures += 1;
  }

  function lose(running: RunningProcess): void {
    if (live !== running) return;
    live = undefined;
    failed();
    logger.debug('monitor.exited', { failures });
    open?.reject(new PrxError('INTERNAL', 'the monitor died'));
    open = undefined;
  }

  function hear(running: RunningProcess, line: string): void {
    const answer = parse(line);
    if (answer === undefined) {
      logger.warn('monitor.garbage', { line: line.slice(0, 200) });
      running.kill('SIGKILL');
      return;
    }
    if (open?.id !== answer.id) return;
    open.resolve(new Map(answer.rss));
    open = undefined;
  }

  return async (pids) => {
    if (live === undefined) {
      if (!starting && clock.nowMs() >= notBeforeMs) {
        background(start(), 'monitor.start', logger);
      }
      throw new PrxError('INTERNAL', 'the monitor is not running');
    }
    if (open !== undefined) throw new PrxError('INTERNAL', 'the monitor is busy');
    const running = live;
    const id = ++questions;
    const answered = new Promise<ReadonlyMap<number, number>>((resolve, reject) => {
      open = { id, resolve, reject };
    });
    running.stdin.write(`${JSON.stringify({ id, pids })}\n`);
    const silent = clock.setTimer(ANSWER_MS, () => running.kill('SIGKILL'));
    return answered.finally(() => silent.cancel());
  };
}

function parse(line: string): MonitorAnswer | undefined {
  try {
    return answerSchema.safeParse(JSON.parse(line)).data;
  } catch {
    // No JSON: the caller ends who wrote it.
    return undefined;
  }
}
