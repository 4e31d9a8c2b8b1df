/** Workers: started ahead (the warm pool), given to one session once, never reused. A spare knows
 *  nothing of any session; `initialize` makes it one session's worker. Asks of a worker that is
 *  not (or no longer) bound are refused: an older generation has no voice. */

import type { z } from 'zod';
import { PrxError } from '../../base/errors.ts';
import type { RequestHandlers } from '../../protocol/connection.ts';
import type { AcceptedInput, SessionHistory } from '../../protocol/content.ts';
import type { SessionId } from '../../protocol/ids.ts';
import {
  type AgentManifest,
  askNotifications,
  askRequests,
  workerNotifications,
  workerRequests,
} from '../../protocol/worker-methods.ts';
import type { Cgroups, Enclosure } from './cgroup.ts';
import {
  type Child,
  type ChildDeps,
  type ChildExit,
  type ChildSpec,
  type ExitCause,
  startChild,
} from './child.ts';
import type { Registry } from './registry.ts';
import { backoffMs } from './restart.ts';

const remote = { requests: workerRequests, notifications: workerNotifications };
const local = { requests: askRequests, notifications: askNotifications };

export type AskHandlers = RequestHandlers<typeof askRequests>;
export type TurnResult = z.infer<(typeof workerRequests)['turn/run']['result']>;

export interface Binding {
  readonly sessionId: SessionId;
  readonly generation: number;
  readonly manifest: AgentManifest;
  readonly history: SessionHistory;
  readonly asks: AskHandlers;
}

export interface Worker {
  /** The process that runs our code (under a launcher it is not the child we started). */
  readonly pid: number;
  readonly startedAtMs: number;
  readonly exited: Promise<ChildExit>;
  initialize(binding: Binding): Promise<void>;
  /** Rejects with PEER_CLOSED when the worker dies. */
  runTurn(turn: number, input: AcceptedInput): Promise<TurnResult>;
  interrupt(turn: number): void;
  /** A spare compiles its code with a turn about nothing. */
  warm(): void;
  /** Rejects with DEADLINE_EXCEEDED when the loop does not answer. */
  ping(timeoutMs: number): Promise<{ loopLagMs: number; rssBytes: number }>;
  /** Asks it to collect garbage; rejects when it does not within the time. */
  collect(timeoutMs: number): Promise<{ rssBytes: number }>;
  kill(cause: ExitCause): void;
  isAlive(): boolean;
}

export interface WorkerPool {
  /** A spare that is ready, or a new one. Throws WORKER_START_TIMEOUT, SPAWN_FAILED. */
  take(): Promise<{ readonly worker: Worker; readonly warm: boolean }>;
  /** Fills the pool; called once at start. */
  fill(): void;
  warm(): number;
  /** What confines a worker, as the first one said. */
  confinement(): readonly string[];
  resize(size: number): void;
  stop(): void;
  /** Every live worker: for the memory watch. */
  live(): readonly Worker[];
}

export interface WorkerPoolDeps extends ChildDeps {
  readonly spec: () => ChildSpec;
  /** The kernel's own limit, where we may set one. */
  readonly cgroups?: Cgroups | undefined;
  readonly memoryLimitBytes: () => number;
  readonly registry: Registry;
  readonly random: { next(): number };
}

const INITIALIZE_TIMEOUT_MS = 30_000;
/** A new spare is started when the prompt that took the last one is on its way: side by side the
 *  prompt took 17 ms instead of 9 (measured on two cores). */
const REFILL_DELAY_MS = 250;

export function createWorkerPool(deps: WorkerPoolDeps, sizeAtStart: number): WorkerPool {
  const { clock, logger, registry } = deps;
  const spares: Worker[] = [];
  const live = new Set<Worker>();
  let size = sizeAtStart;
  let starting = 0;
  let failures = 0;
  let stopped = false;
  let confinement: readonly string[] = [];

  async function launch(): Promise<Worker> {
    let asks: AskHandlers | undefined;
    const bound = (): AskHandlers => {
      if (asks === undefined)
        throw new PrxError('STALE_GENERATION', 'this worker serves no session');
      return asks;
    };
    let markReady: () => void = () => undefined;
    const ready = new Promise<void>((resolve) => {
      markReady = resolve;
    });
    const child: Child<typeof remote> = await startChild({
      ...deps,
      spec: deps.spec(),
      local,
      remote,
      requests: {
        'turn/step': (params, context) => bound()['turn/step'](params, context),
        'model/generate': (params, context) => bound()['model/generate'](params, context),
        'tool/call': (params, context) => bound()['tool/call'](params, context),
        'context/compact': (params, context) => bound()['context/compact'](params, context),
      },
      notifications: {
        'worker/ready': (params) => {
          confinement = params.confinement;
          markReady();
        },
      },
      ready,
      onStarted: (identity) => registry.add({ kind: 'worker', session: undefined, identity }),
      onExited: (identity) => registry.remove(identity),
    });
    const { pid } = child;
    // Under a launcher (namespaces) the worker proper is the last of the chain we started.
    const below = deps.processes.listDescendants(pid);
    const own = below.at(-1) ?? pid;
    const enclosure = deps.cgroups?.enclose([pid, ...below], deps.memoryLimitBytes());
    const started = { pid: own, atMs: clock.wallMs() };
    const bind = (handlers: AskHandlers): void => {
      asks = handlers;
    };
    const exited = child.exited.then((exit) => fromEnclosure(fromLauncher(exit), enclosure));
    const worker = wrap(child, { ...started, exited }, bind);
    live.add(worker);
    void child.exited.then(() => {
      asks = undefined;
      live.delete(worker);
      const index = spares.indexOf(worker);
      if (index >= 0) spares.splice(index, 1);
    });
    if (stopped) worker.kill('stopped');
    return worker;
  }

  async function addSpare(): Promise<void> {
    starting += 1;
    try {
      if (failures > 0) await clock.sleep(backoffMs(failures, deps.random.next()));
      const worker = stopped ? undefined : await launch();
      failures = 0;
      if (worker?.isAlive() && !stopped) {
        worker.warm();
        spares.push(worker);
      }
    } catch (error) {
      failures += 1;
      logger.warn('worker.spare_failed', { error, failures });
    } finally {
      starting -= 1;
      fill();
    }
  }

  /** Spares start one at a time: a storm of starts would slow the sessions that work. */
  function fill(): void {
    if (!stopped && starting === 0 && spares.length < size) void addSpare();
  }

  return {
    fill,
    warm: () => spares.length,
    confinement: () => confinement,
    live: () => [...live],
    resize(next) {
      size = next;
      for (const spare of spares.splice(size)) spare.kill('stopped');
      fill();
    },
    async take() {
      let spare = spares.shift();
      while (spare !== undefined && !spare.isAlive()) spare = spares.shift();
      // After the session has its worker: a start costs processor time it can use better.
      clock.setTimer(REFILL_DELAY_MS, fill);
      if (spare !== undefined) return { worker: spare, warm: true };
      return { worker: await launch(), warm: false };
    },
    stop() {
      stopped = true;
      for (const worker of live) worker.kill('stopped');
    },
  };
}

function wrap(
  child: Child<typeof remote>,
  started: {
    readonly pid: number;
    readonly atMs: number;
    readonly exited: Promise<ChildExit>;
  },
  bind: (handlers: AskHandlers) => void,
): Worker {
  const { connection } = child;
  return {
    pid: started.pid,
    startedAtMs: started.atMs,
    exited: started.exited,
    isAlive: child.isAlive,
    kill: child.kill,
    async initialize({ asks, ...params }) {
      bind(asks);
      await connection.request('worker/initialize', params, { timeoutMs: INITIALIZE_TIMEOUT_MS });
    },
    runTurn(turn, input) {
      // No deadline of its own: the session's turn timer and the heartbeat cover this wait.
      const timeoutMs = Number.POSITIVE_INFINITY;
      return connection.request('turn/run', { turn, input }, { timeoutMs });
    },
    interrupt: (turn) => void connection.notify('turn/interrupt', { turn }),
    warm: () => void connection.notify('worker/warm', {}),
    collect: (timeoutMs) => connection.request('worker/collect', {}, { timeoutMs }),
    ping: (timeoutMs) => connection.request('worker/ping', {}, { timeoutMs }),
  };
}

const SIGNALS: Readonly<Record<number, NodeJS.Signals>> = {
  134: 'SIGABRT',
  137: 'SIGKILL',
  139: 'SIGSEGV',
  143: 'SIGTERM',
};

/** A launcher tells the death of its child by signal as exit code 128 + n. */
function fromLauncher(exit: ChildExit): ChildExit {
  const signal = exit.code === undefined ? undefined : SIGNALS[exit.code];
  return signal === undefined ? exit : { ...exit, code: undefined, signal };
}

/** A kill by the kernel is a crash to whoever does not ask the group. */
function fromEnclosure(exit: ChildExit, enclosure: Enclosure | undefined): ChildExit {
  const isMemory = exit.cause === 'crashed' && enclosure?.wasOutOfMemory() === true;
  enclosure?.remove();
  return isMemory ? { ...exit, cause: 'memory' } : exit;
}
