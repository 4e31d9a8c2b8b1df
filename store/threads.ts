/** The store's two pools. One writer thread, started at once and never recycled; readers started
 *  at the first question, at most two. The thread files are given as options, because in a bundle
 *  they have other names. Nothing of our environment goes into a thread. */
import { fileURLToPath } from 'node:url';
import { Piscina } from 'piscina';
import { PrxError } from '../base/errors.ts';
import type { ReaderTasks, ReadReport, Reply, WriterTasks } from './thread-protocol.ts';

export interface ThreadFiles {
  readonly writer: URL | string;
  readonly reader: URL | string;
}

const READERS_MAX = 2;
/** A reader costs about 6 MiB; the second one goes when it has nothing to do. */
const READER_IDLE_MS = 10_000;
const READ_QUEUE_MAX = 1000;
/** Far more than is ever under way (append-queue.ts: two tasks and two syncs; a probe): no task
 *  waits in the pool, so they reach the thread in the order in which they were run. */
const WRITER_TASKS_MAX = 64;

/** The supervisor stays small: measured after a long replay this takes 17 MiB less of memory than
 *  the default, at the same speed. */
const YOUNG_HEAP_MIB = 4;
/** A reader that would need more, for a history without end, dies alone; its question fails. */
const READER_HEAP_MIB = 256;

const common = {
  name: 'run',
  atomics: 'disabled',
  recordTiming: false,
  env: {},
  execArgv: [],
} as const;

export interface WriterThread {
  /** Tasks reach the thread in call order. Rejects when the thread died. */
  run<K extends keyof WriterTasks>(
    kind: K,
    input: WriterTasks[K][0],
  ): Promise<Reply<WriterTasks[K][1]>>;
  stop(): Promise<void>;
}

export function startWriter(file: ThreadFiles['writer']): WriterThread {
  const pool = new Piscina({
    ...common,
    execArgv: [],
    filename: toPath(file),
    resourceLimits: { maxYoungGenerationSizeMb: YOUNG_HEAP_MIB },
    minThreads: 1,
    maxThreads: 1,
    idleTimeout: Number.POSITIVE_INFINITY,
    concurrentTasksPerWorker: WRITER_TASKS_MAX,
  });
  // The tasks under way hear of a dead thread; nobody else needs to.
  pool.on('error', () => undefined);
  return {
    run: (kind, input) => pool.run({ kind, input }),
    stop: () => pool.destroy(),
  };
}

export interface ReaderPool {
  run<K extends keyof ReaderTasks>(
    kind: K,
    input: ReaderTasks[K],
    safeId: number,
  ): Promise<Reply<ReadReport>>;
  stop(): Promise<void>;
}

export function startReaders(file: ThreadFiles['reader'], journalPath: string): ReaderPool {
  const pool = new Piscina({
    ...common,
    execArgv: [],
    filename: toPath(file),
    resourceLimits: {
      maxYoungGenerationSizeMb: YOUNG_HEAP_MIB,
      maxOldGenerationSizeMb: READER_HEAP_MIB,
    },
    minThreads: 1,
    maxThreads: READERS_MAX,
    idleTimeout: READER_IDLE_MS,
    maxQueue: READ_QUEUE_MAX,
    workerData: journalPath,
  });
  pool.on('error', () => undefined); // Same.
  return {
    async run(kind, input, safeId) {
      if (pool.queueSize >= READ_QUEUE_MAX) {
        throw new PrxError(
          'AT_CAPACITY',
          `${READ_QUEUE_MAX} reads of the journal wait already; try again later`,
        );
      }
      return pool.run({ kind, input, safeId });
    },
    stop: () => pool.destroy(),
  };
}

function toPath(file: URL | string): string {
  return file instanceof URL ? fileURLToPath(file) : file;
}
