/** The bounds around the conversion of a page: threads with a heap limit and a deadline, few at a
 *  time. */
import { Worker } from 'node:worker_threads';
import type { Clock } from '../../base/clock.ts';

export interface Page {
  readonly html: string;
  readonly url: string;
}

/** Gives undefined for a page that takes too much time, memory or depth, and when the signal
 *  aborts. Never rejects. */
export type ToMarkdown = (page: Page, signal: AbortSignal) => Promise<string | undefined>;

/** What the thread says: first that it is up, then the text. */
export interface Answer {
  readonly text?: string;
}

/** Of a page, and of a page with the start of its thread. */
const TIME_MS_MAX = 10_000;
const WHOLE_MS_MAX = 60_000;
const HEAP_MB_MAX = 256;
const THREADS_MAX = 2;

export function createToMarkdown(program: string, clock: Clock): ToMarkdown {
  const running = new Set<Promise<unknown>>();

  return async (page, signal) => {
    while (running.size >= THREADS_MAX) await Promise.race(running);
    const converted = convert({ program, clock }, page, signal);
    running.add(converted);
    return await converted.finally(() => running.delete(converted));
  };
}

async function convert(
  { program, clock }: { readonly program: string; readonly clock: Clock },
  page: Page,
  signal: AbortSignal,
): Promise<string | undefined> {
  if (signal.aborted) return undefined;
  const thread = new Worker(program, {
    workerData: page,
    env: {},
    stdout: true,
    stderr: true,
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MB_MAX, maxYoungGenerationSizeMb: 32 },
  });
  const done = new AbortController();
  const over = AbortSignal.any([signal, done.signal]);
  const { promise: given, resolve } = Promise.withResolvers<string | undefined>();
  const giveUpAfter = (ms: number): void => {
    void clock.sleep(ms, over).then(() => resolve(undefined));
  };
  giveUpAfter(WHOLE_MS_MAX);
  thread.on('message', ({ text }: Answer) => {
    // It is up. That it took its time on a busy machine is not the page's doing.
    if (text === undefined) giveUpAfter(TIME_MS_MAX);
    else resolve(text);
  });
  for (const event of ['error', 'exit'] as const) thread.once(event, () => resolve(undefined));
  try {
    return await given;
  } finally {
    done.abort();
    await thread.terminate();
  }
}
