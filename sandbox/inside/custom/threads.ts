/** One thread for one task, by a pool of one that is thrown away: what a tool leaves in its thread
 *  (changed built-ins, modules, timers) meets no other call, and what it uses up is its own. At the
 *  end of its time, or when it is cancelled, the task is told; after a grace, its thread ends. */
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { Piscina } from 'piscina';
import type { Clock } from '../../../base/clock.ts';

export interface ThreadTask {
  readonly program: string;
  /** The function of the program. */
  readonly name: string;
  readonly task: Readonly<Record<string, unknown>>;
  readonly heapBytes: number;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  readonly onLog: (text: string) => void;
  readonly clock: Clock;
}

/** The first cause wins: a task that was told to stop has stopped, whatever it still answers. */
export type ThreadEnd = (
  | { readonly kind: 'answer'; readonly answer: unknown }
  | { readonly kind: 'timeout' | 'cancelled' | 'memory' }
  /** It ended by itself: an error that nobody caught, or process.exit. */
  | { readonly kind: 'died'; readonly reason: string }
) & {
  /** It is in a call of the system and cannot be ended by itself. */
  readonly isStuck: boolean;
};

/** From the signal to the end of the thread. */
const GRACE_MS = 500;
/** From the order to end until the thread is gone: it ends at its next step. */
const END_MS = 2000;
const YOUNG_HEAP_MIB = 8;
const STACK_MIB = 4;

export async function runInThread(spec: ThreadTask): Promise<ThreadEnd> {
  const { clock, signal } = spec;
  const pool = createPool(spec);
  const { port1, port2 } = new MessageChannel();
  const over = new AbortController();
  let cause: 'timeout' | 'cancelled' | undefined;
  port1.on('message', (text: unknown) => spec.onLog(String(text)));
  const stop = (why: 'timeout' | 'cancelled'): void => {
    if (cause !== undefined) return;
    cause = why;
    port1.postMessage(why === 'timeout' ? 'the time limit was reached' : 'the call was cancelled');
    grace = clock.setTimer(GRACE_MS, () => over.abort());
  };
  const onCancel = (): void => stop('cancelled');
  let grace: { cancel(): void } | undefined;
  const timer = clock.setTimer(spec.timeoutMs, () => stop('timeout'));
  signal.addEventListener('abort', onCancel, { once: true });
  if (signal.aborted) onCancel();
  const options = { name: spec.name, signal: over.signal, transferList: [port2] };
  const end = await pool
    .run({ ...spec.task, port: port2 }, toRunOptions(options))
    .then((answer: unknown) => ({ kind: 'answer' as const, answer }), toDeath);
  timer.cancel();
  grace?.cancel();
  signal.removeEventListener('abort', onCancel);
  const gone = await Promise.race([
    pool.destroy().then(() => true),
    clock.sleep(END_MS).then(() => false),
  ]);
  port1.close();
  return { ...(cause === undefined ? end : { kind: cause }), isStuck: !gone };
}

function createPool({ program, heapBytes }: ThreadTask): Piscina {
  const pool = new Piscina({
    filename: program,
    minThreads: 0,
    maxThreads: 1,
    atomics: 'disabled',
    recordTiming: false,
    execArgv: ['--disable-warning=MODULE_TYPELESS_PACKAGE_JSON'],
    resourceLimits: {
      maxOldGenerationSizeMb: Math.ceil(heapBytes / 2 ** 20),
      maxYoungGenerationSizeMb: YOUNG_HEAP_MIB,
      stackSizeMb: STACK_MIB,
    },
  });
  // Its task hears of a dead thread; nobody else needs to.
  pool.on('error', () => undefined);
  return pool;
}

/** Piscina took the type of its list from another overload of postMessage than that for ports. */
function toRunOptions(options: { readonly transferList: readonly MessagePort[] }) {
  return options as unknown as Parameters<Piscina['run']>[1];
}

function toDeath(error: unknown): { kind: 'memory' } | { kind: 'died'; reason: string } {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ERR_WORKER_OUT_OF_MEMORY') return { kind: 'memory' };
  return { kind: 'died', reason: error instanceof Error ? error.message : String(error) };
}
