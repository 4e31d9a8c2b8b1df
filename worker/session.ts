/** One worker as the supervisor sees it: a spare until `worker/initialize`, then the worker of
 *  one session, running one turn at a time. Holds nothing that the journal does not: the manifest
 *  and the history it was given, and the turns it has run since. */
import type { z } from 'zod';
import type { Clock } from '../base/clock.ts';
import { PrxError } from '../base/errors.ts';
import {
  type Connection,
  createConnection,
  type RequestContext,
  type Side,
  type Transport,
} from '../protocol/connection.ts';
import type { SessionHistory } from '../protocol/content.ts';
import {
  type AgentManifest,
  askNotifications,
  askRequests,
  workerNotifications,
  workerRequests,
} from '../protocol/worker-methods.ts';
import { createAsk } from './ask.ts';
import { createInterrupt, type Interrupt } from './interrupt.ts';
import { createLagMeter } from './lag.ts';
import { runTurn } from './loop.ts';

export interface WorkerSpec {
  readonly transport: Transport;
  readonly clock: Clock;
  readonly pid: number;
  readonly confinement: readonly string[];
  readonly readRssBytes: () => number;
  /** Collects garbage; absent: nothing is done about `worker/collect`. */
  readonly collect?: () => void;
  /** What a spare does with `worker/warm`; absent: nothing. */
  readonly onWarm?: () => void;
}

const localSide = {
  requests: workerRequests,
  notifications: workerNotifications,
} satisfies Side;
const remoteSide = { requests: askRequests, notifications: askNotifications } satisfies Side;

type Params<M extends keyof typeof workerRequests> = z.infer<(typeof workerRequests)[M]['params']>;
type Result<M extends keyof typeof workerRequests> = z.infer<(typeof workerRequests)[M]['result']>;

interface Agent {
  readonly manifest: AgentManifest;
  readonly history: SessionHistory;
}

/** Serves one supervisor over `transport`; says `worker/ready` first.
 *  @throws (to the asker) STATE_INVALID: initialize twice, a turn before it, two turns at once,
 *  or a turn that is already closed. */
export function serveWorker(spec: WorkerSpec): Connection<typeof remoteSide> {
  const { clock } = spec;
  const lag = createLagMeter(clock);
  let agent: Agent | undefined;
  let running: { readonly turn: number; readonly interrupt: Interrupt } | undefined;

  async function run(
    { turn, input, first }: Params<'turn/run'>,
    { signal }: RequestContext,
  ): Promise<Result<'turn/run'>> {
    const { manifest, history } = assertReady(turn);
    const interrupt = createInterrupt(clock);
    running = { turn, interrupt };
    signal.addEventListener('abort', interrupt.request, { once: true });
    lag.start();
    try {
      const ask = createAsk(connection, interrupt);
      const isInterrupted = interrupt.isRequested;
      const end = await runTurn({ manifest, history, turn, input, first, ask, isInterrupted });
      const { history: grown, ...result } = end;
      agent = { manifest, history: grown };
      return result;
    } finally {
      lag.stop();
      interrupt.close();
      running = undefined;
    }
  }

  function assertReady(turn: number): Agent {
    if (agent === undefined) {
      throw invalid(`turn ${turn} cannot run: this worker was not initialized`);
    }
    if (running !== undefined) {
      throw invalid(`turn ${turn} cannot run: turn ${running.turn} is running in this worker`);
    }
    const last = agent.history.turns.at(-1)?.turn ?? 0;
    if (turn <= last) throw invalid(`turn ${turn} cannot run: turn ${last} is closed already`);
    return agent;
  }

  const connection = createConnection({
    transport: spec.transport,
    clock,
    peer: 'supervisor',
    local: localSide,
    remote: remoteSide,
    requests: {
      'worker/initialize': async ({ manifest, history }) => {
        if (agent !== undefined) throw invalid('this worker was initialized already');
        agent = { manifest, history };
        return {};
      },
      'turn/run': run,
      'worker/collect': async () => {
        spec.collect?.();
        return { rssBytes: spec.readRssBytes() };
      },
      'worker/ping': async () => ({
        loopLagMs: lag.takeMaxMs(),
        rssBytes: spec.readRssBytes(),
      }),
    },
    notifications: {
      'turn/interrupt': ({ turn }) => {
        // Of another turn: it came too late, and there is nothing left to stop.
        if (running?.turn === turn) running.interrupt.request();
      },
      // Once it serves a session it has better things to do.
      'worker/warm': () => {
        if (agent === undefined) spec.onWarm?.();
      },
    },
  });
  void connection.notify('worker/ready', { pid: spec.pid, confinement: [...spec.confinement] });
  return connection;
}

function invalid(message: string): PrxError {
  return new PrxError('STATE_INVALID', message);
}
