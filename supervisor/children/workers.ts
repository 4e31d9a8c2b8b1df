/** Workers: started ahead (the warm pool), given to one session once, never reused. A spare knows
 *  nothing of any session; `initialize` makes it one session's worker. Asks of a spare are refused.
 *  An older generation has no voice: its connection is closed before its death is known here. */

import type { z } from 'zod';
import { PrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { RequestHandlers } from '../../protocol/connection.ts';
import type { AcceptedInput, SessionHistory } from '../../protocol/content.ts';
import type { SessionId } from '../../protocol/ids.ts';
import {
  type AgentManifest,
  askNotifications,
  askRequests,
  type StepStart,
  workerNotifications,
  workerRequests,
} from '../../protocol/worker-methods.ts';
import type { Cgroups } from './cgroup.ts';
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
import { createStartGate } from './start-gate.ts';

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
  /** From now on hears of what the process writes to stderr. */
  readonly logger: Logger;
}

export interface Worker {
  /** The process that runs our code (under a launcher it is not the child we started). */
  readonly pid: number;
  /** The child we started: whatever a worker leaves behind becomes this one's, and dies with it. */
  readonly rootPid: number;
  readonly startedAtMs: number;
  readonly exited: Promise<ChildExit>;
  initialize(binding: Binding): Promise<void>;
  /** Rejects with PEER_CLOSED when the worker dies.
   *  @param first  what the first step begins with, where it need not be asked for. */
  runTurn(turn: number, input: AcceptedInput, first?: StepStart): Promise<TurnResult>;
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
  /** A spare that is ready, or a new one. Throws WORKER_START_TIMEOUT, SPAWN_FAILED; CANCELLED
   *  when the signal aborts, or the pool is stopped, before the new one is ready. */
  take(signal?: AbortSignal): Promise<{ readonly worker: Worker; readonly warm: boolean }>;
  /** Fills the pool, behind what those who waited for the start ask first; called once. */
  fillSoon(): void;
  warm(): number;
  /** What confines a worker, as the first one said. */
  confinement(): readonly string[];
  resize(size: number): void;
  /** What workers are started with changed: whoever was, or is being, started with what was before
   *  is given to nobody. */
  renew(): void;
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
/** The web page that is opened with the ready line was usable after 324 ms, instead of the 464 with
 *  two workers starting beside it (on two cores). Whoever wants a worker before has one made. */
const FIRST_FILL_DELAY_MS = 500;
/** As many as the default of max_concurrent_sessions: one that hangs at its start holds a place for
 *  its whole start time, and must not keep the others waiting. */
const STARTS_MAX = 8;

export function createWorkerPool(deps: WorkerPoolDeps, sizeAtStart: number): WorkerPool {
  const { clock, logger, registry } = deps;
  const spares: Worker[] = [];
  const live = new Set<Worker>();
  const gate = createStartGate(STARTS_MAX);
  let size = sizeAtStart;
  let starting = 0;
  let failures = 0;
  let renewals = 0;
  const stopping = new AbortController();
  let confinement: readonly string[] = [];
  const isStopped = (): boolean => stopping.signal.aborted;

  async function launch(unwanted: AbortSignal = stopping.signal): Promise<Worker> {
    let asks: AskHandlers | undefined;
    let hearer = logger;
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
      stderrLogger: () => hearer,
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
      signal: AbortSignal.any([stopping.signal, unwanted]),
      enclose: (pid) =>
        deps.cgroups?.enclose({ kind: 'worker', pid, memoryBytes: deps.memoryLimitBytes() }),
      onStarted: (identity) => registry.add({ kind: 'worker', session: undefined, identity }),
      onExited: (identity) => registry.remove(identity),
    });
    const { pid } = child;
    // Under a launcher (namespaces) the worker proper is the last of the chain we started.
    const below = deps.processes.listDescendants(pid);
    const own = below.at(-1) ?? pid;
    const started = { pid: own, atMs: clock.wallMs() };
    const bind = (binding: Pick<Binding, 'asks' | 'logger'>): void => {
      asks = binding.asks;
      hearer = binding.logger;
    };
    const exited = child.exited.then(fromLauncher);
    const worker = wrap(child, { ...started, exited }, bind);
    live.add(worker);
    void child.exited.then(() => {
      live.delete(worker);
      const index = spares.indexOf(worker);
      if (index >= 0) spares.splice(index, 1);
    });
    if (isStopped()) worker.kill('stopped');
    return worker;
  }

  async function launchCurrent(unwanted?: AbortSignal): Promise<Worker> {
    for (;;) {
      const before = renewals;
      const worker = await launch(unwanted);
      if (renewals === before) return worker;
      worker.kill('stopped');
    }
  }

  async function addSpare(): Promise<void> {
    starting += 1;
    try {
      if (failures > 0) await clock.sleep(backoffMs(failures, deps.random.next()));
      const worker = isStopped() ? undefined : await gate.run(() => launchCurrent());
      failures = 0;
      if (worker?.isAlive() && !isStopped()) {
        worker.warm();
        spares.push(worker);
      }
    } catch (error) {
      failures += 1;
      if (!isStopped()) logger.warn('worker.spare_failed', { error, failures });
    } finally {
      starting -= 1;
      fill();
    }
  }

  /** Spares start one at a time: a storm of starts would slow the sessions that work. */
  function fill(): void {
    if (!isStopped() && starting === 0 && spares.length < size) void addSpare();
  }

  return {
    fillSoon: () => void clock.setTimer(FIRST_FILL_DELAY_MS, fill),
    warm: () => spares.length,
    confinement: () => confinement,
    live: () => [...live],
    resize(next) {
      size = next;
      for (const spare of spares.splice(size)) spare.kill('stopped');
      fill();
    },
    renew() {
      renewals += 1;
      for (const spare of spares.splice(0)) spare.kill('stopped');
      fill();
    },
    async take(signal) {
      let spare = spares.shift();
      while (spare !== undefined && !spare.isAlive()) spare = spares.shift();
      // After the session has its worker: a start costs processor time it can use better.
      clock.setTimer(REFILL_DELAY_MS, fill);
      if (spare !== undefined) return { worker: spare, warm: true };
      return { worker: await gate.run(() => launchCurrent(signal)), warm: false };
    },
    stop() {
      stopping.abort();
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
  bind: (binding: Pick<Binding, 'asks' | 'logger'>) => void,
): Worker {
  const { connection } = child;
  return {
    pid: started.pid,
    rootPid: child.pid,
    startedAtMs: started.atMs,
    exited: started.exited,
    isAlive: child.isAlive,
    kill: child.kill,
    async initialize({ asks, logger, ...params }) {
      bind({ asks, logger });
      await connection.request('worker/initialize', params, { timeoutMs: INITIALIZE_TIMEOUT_MS });
    },
    runTurn(turn, input, first) {
      // No deadline of its own: the session's turn timer and the heartbeat cover this wait.
      const timeoutMs = Number.POSITIVE_INFINITY;
      return connection.request('turn/run', { turn, input, first }, { timeoutMs });
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
