/** What /metrics counts while the supervisor runs, from the events as they are published: how long
 *  effects took, what workers died of, how turns ended, how far publication is behind. Fixed
 *  series only: memory does not grow, and a counter begins at 0 with each supervisor, as
 *  Prometheus expects of one. */
import type { EventData, EventEnvelope, EventType } from '../protocol/events.ts';

/** Seconds; a tool call may take milliseconds, a model call minutes. */
const EFFECT_BUCKETS = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800];
const LAG_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5];

export interface Histogram {
  readonly labels: string;
  /** Upper bounds, seconds. */
  readonly bounds: readonly number[];
  /** Per bound, and one for what is above all of them. */
  readonly counts: readonly number[];
  readonly sum: number;
}

export interface Measured {
  readonly modelCalls: readonly Histogram[];
  readonly firstTokens: readonly Histogram[];
  readonly toolCalls: readonly Histogram[];
  readonly journalLag: Histogram;
  /** [labels, count] */
  readonly modelFailures: readonly (readonly [string, number])[];
  readonly workerExits: readonly (readonly [string, number])[];
  /** Also the causes that none had yet. */
  readonly workerRestarts: readonly (readonly [string, number])[];
  readonly turns: readonly (readonly [string, number])[];
}

export interface Measures {
  /** Called for every event that is published; on the path of a token, so it does little. */
  observe(event: EventEnvelope): void;
  read(): Measured;
}

/** `start`: no worker could be started. */
const RESTART_CAUSES = 'crashed memory timeout unresponsive protocol completed start'.split(' ');
/** Sessions whose worker died and is not replaced yet; beyond it, the oldest is forgotten. */
const DEATHS_MAX = 1000;

export function createMeasures(clock: { wallMs(): number }): Measures {
  const modelCalls = createTimer('', EFFECT_BUCKETS);
  const firstTokens = createTimer('', EFFECT_BUCKETS);
  const restarts = createRestartCounter();
  const lag = createTimer('', LAG_BUCKETS);
  const toolCalls = new Map<string, Timer>();
  const modelFailures = new Map<string, number>();
  const workerExits = new Map<string, number>();
  const turns = new Map<string, number>();
  const count = (counts: Map<string, number>, name: string, value: string): void => {
    const labels = `{${name}="${value}"}`;
    counts.set(labels, (counts.get(labels) ?? 0) + 1);
  };
  const observers: { readonly [T in EventType]?: (data: EventData<T>) => void } = {
    'model.completed': ({ latency_ms: ms, first_token_ms: firstMs }) => {
      modelCalls.add(ms / 1000);
      if (firstMs !== undefined) firstTokens.add(firstMs / 1000);
    },
    'model.failed': ({ error }) => count(modelFailures, 'code', error.code),
    'tool.completed': ({ status, duration_ms: ms }) => {
      const labels = `status="${status}"`;
      const timer = toolCalls.get(labels) ?? createTimer(labels, EFFECT_BUCKETS);
      toolCalls.set(labels, timer);
      timer.add(ms / 1000);
    },
    'worker.exited': ({ cause }) => count(workerExits, 'cause', cause),
    'turn.completed': ({ outcome }) => count(turns, 'outcome', outcome),
  };
  return {
    observe({ session, type, data, time }) {
      // Deltas are the many; what they wait for, the others wait for too.
      if (type === 'model.delta' || type === 'tool.output') return;
      lag.add(Math.max(0, clock.wallMs() - Date.parse(time)) / 1000);
      // The schema of its type was applied before it was journaled.
      (observers as Record<string, ((data: never) => void) | undefined>)[type]?.(data as never);
      restarts.observe(session, type, data as { cause?: string });
    },
    read: () => ({
      modelCalls: [modelCalls.read()],
      firstTokens: [firstTokens.read()],
      toolCalls: [...toolCalls.values()].map((timer) => timer.read()),
      journalLag: lag.read(),
      modelFailures: [...modelFailures],
      workerExits: [...workerExits],
      workerRestarts: restarts.read(),
      turns: [...turns],
    }),
  };
}

interface RestartCounter {
  observe(session: string, type: string, data: { readonly cause?: string }): void;
  read(): readonly (readonly [string, number])[];
}

/** Why a worker is started anew is why the one before it ended. */
function createRestartCounter(): RestartCounter {
  const causes = new Map<string, string>();
  const counts = new Map(RESTART_CAUSES.map((cause) => [cause, 0]));
  return {
    observe(session, type, { cause }) {
      if (type === 'worker.exited' && cause !== undefined && cause !== 'stopped') {
        causes.set(session, cause);
        const [oldest] = causes.keys();
        if (causes.size > DEATHS_MAX && oldest !== undefined) causes.delete(oldest);
      } else if (type === 'worker.restarting') {
        const known = causes.get(session) ?? 'start';
        counts.set(known, (counts.get(known) ?? 0) + 1);
        causes.delete(session);
      }
    },
    read: () => [...counts].map(([cause, count]) => [`{cause="${cause}"}`, count]),
  };
}

interface Timer {
  add(seconds: number): void;
  read(): Histogram;
}

function createTimer(labels: string, bounds: readonly number[]): Timer {
  const counts = [...bounds, Number.POSITIVE_INFINITY].map(() => 0);
  let sum = 0;
  return {
    add(seconds) {
      const found = bounds.findIndex((bound) => seconds <= bound);
      const at = found < 0 ? bounds.length : found;
      counts[at] = (counts[at] ?? 0) + 1;
      sum += seconds;
    },
    read: () => ({ labels, bounds, counts: [...counts], sum }),
  };
}
