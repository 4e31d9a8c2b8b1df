/** Stream clients of one session: each follows it from its beginning, loses its connection at
 *  random, comes back with its last sequence number, and keeps a digest of every event. */
import type { ApiClient } from '../api/client.ts';
import type { Clock } from '../base/clock.ts';
import { isPrxError, toPrxError } from '../base/errors.ts';
import { createSeededRandom } from '../base/random.ts';
import type { EventEnvelope } from '../protocol/events.ts';
import { drawBoolean, drawInt } from './choice.ts';
import { type ClientLog, digestEvent } from './history.ts';

export interface StreamClient {
  log(): ClientLog;
  lastSeq(): number;
  /** Ended without having been stopped. */
  isBroken(): boolean;
  stop(): Promise<void>;
}

export interface ClientSpec {
  readonly session: string;
  readonly name: string;
  readonly seed: string;
  readonly connect: () => ApiClient;
  readonly clock: Clock;
  readonly onEvent: (event: EventEnvelope) => void;
  readonly onReconnect: () => void;
}

/** A refused cursor, a deleted session: no new connection mends these. */
const FINAL = ['CURSOR_SUPERSEDED', 'CURSOR_GONE', 'SESSION_NOT_FOUND', 'INVALID_REQUEST'] as const;
const STAY_MS = [50, 4000] as const;
const AWAY_MS = [0, 400] as const;

export function startClient(spec: ClientSpec): StreamClient {
  const { session, clock } = spec;
  const random = createSeededRandom(`${spec.seed}/client/${spec.name}`);
  const digests: string[] = [];
  const problems: string[] = [];
  const stopping = new AbortController();
  let epoch: number | undefined;
  let broken = false;

  function take(event: EventEnvelope): void {
    if (event.seq !== digests.length + 1) {
      problems.push(`got event ${event.seq} after ${digests.length}`);
      stopping.abort();
      return;
    }
    digests.push(digestEvent(event));
    epoch = event.epoch;
    spec.onEvent(event);
  }

  /** One connection, until it breaks or its time is over. */
  async function visit(): Promise<void> {
    const leave = new AbortController();
    const stay = clock.setTimer(drawInt(random, ...STAY_MS), () => leave.abort());
    const isSlow = drawBoolean(random, 0.15);
    const signal = AbortSignal.any([leave.signal, stopping.signal]);
    const position = { since: digests.length, ...(epoch === undefined ? {} : { epoch }) };
    try {
      const events = spec.connect().followEvents(session, { ...position, signal });
      for await (const event of events) {
        if (stopping.signal.aborted) return;
        take(event);
        if (isSlow) await clock.sleep(2, signal);
        if (leave.signal.aborted) return;
      }
    } catch (error) {
      if (FINAL.some((code) => isPrxError(error, code))) {
        problems.push(`was refused at event ${digests.length}: ${toPrxError(error).message}`);
        stopping.abort();
      }
    } finally {
      stay.cancel();
    }
  }

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      await visit();
      spec.onReconnect();
      await clock.sleep(drawInt(random, ...AWAY_MS), stopping.signal);
    }
    broken = problems.length > 0;
  }

  const done = run();
  return {
    log: () => ({ session, client: spec.name, digests, problems }),
    lastSeq: () => digests.length,
    isBroken: () => broken,
    async stop() {
      stopping.abort();
      await done;
    },
  };
}
