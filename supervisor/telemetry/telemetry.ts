/** Traces, where they are configured: when a turn has ended, its spans are made from the journal
 *  and sent. Nothing of a turn is held here meanwhile, so the death of a supervisor in mid-turn
 *  neither loses a span nor repeats one: whoever ends the turn sends all of it. A receiver that
 *  fails or hangs costs a queue of small, bounded entries; what does not fit, or cannot be sent,
 *  is counted. Never on the path of an event: nothing here is awaited by who appends. */
import type { Clock } from '../../base/clock.ts';
import { PrxError, toPrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { EventEnvelope } from '../../protocol/events.ts';
import { type SessionId, sessionIdSchema } from '../../protocol/ids.ts';
import type { Store } from '../../store/contract.ts';
import { createTurnSpans, type Span, spanEventTypes } from './spans.ts';

export interface SpanExporter {
  /** Sends them in one request. Rejects when they were not accepted in time. */
  export(spans: readonly Span[]): Promise<void>;
  close(): Promise<void>;
}

export interface TelemetryDeps {
  readonly store: Pick<Store, 'readTurn' | 'getSession'>;
  readonly clock: Pick<Clock, 'sleep'>;
  readonly logger: Logger;
  /** As gen_ai.provider.name. */
  readonly provider: () => string;
  /** Called when the first turn has ended: what it loads is not loaded before. */
  readonly openExporter: () => Promise<SpanExporter>;
}

/** Turns, one trace each. */
export interface TraceCounts {
  readonly exported: number;
  /** Not accepted by the receiver, or not readable any more. */
  readonly failed: number;
  /** Never tried: the queue was full, or the supervisor stopped. */
  readonly dropped: number;
}

export interface Telemetry {
  /** Called for every event that is published. */
  observe(event: EventEnvelope): void;
  counts(): TraceCounts;
  /** Sends what waits, for at most STOP_MS. Never rejects. */
  stop(): Promise<void>;
}

/** Ended turns that wait, each a few numbers. */
const QUEUE_MAX = 1000;
const PAGE_EVENTS = 500;
const SPANS_PER_REQUEST = 512;
const STOP_MS = 2000;

interface Ended {
  readonly session: SessionId;
  readonly turn: number;
  /** Of its turn.completed. */
  readonly seq: number;
}

export function createTelemetry(deps: TelemetryDeps): Telemetry {
  const { store, clock, logger } = deps;
  const queue: Ended[] = [];
  const counts = { exported: 0, failed: 0, dropped: 0 };
  let exporter: Promise<SpanExporter> | undefined;
  let sending: Promise<void> | undefined;
  let isFailing = false;
  let isStopped = false;

  async function sendAll(): Promise<void> {
    for (let next = queue[0]; next !== undefined && !isStopped; next = queue[0]) {
      const failure = await send(next).then(
        () => undefined,
        (error: unknown) => toPrxError(error).message,
      );
      // Given up meanwhile, and counted by who did.
      if (isStopped) return;
      queue.shift();
      counts[failure === undefined ? 'exported' : 'failed'] += 1;
      hear(failure);
    }
    sending = undefined;
  }

  /** Said when it begins and when it ends, not for each turn in between. */
  function hear(failure: string | undefined): void {
    if (isFailing === (failure !== undefined)) return;
    isFailing = failure !== undefined;
    if (isFailing) logger.warn('telemetry.failing', { error: failure });
    else logger.info('telemetry.recovered', { failed: counts.failed });
  }

  async function send({ session, turn, seq }: Ended): Promise<void> {
    exporter ??= deps.openExporter();
    const [receiver, record] = await Promise.all([exporter, store.getSession(session)]);
    if (record === undefined) throw new PrxError('SESSION_NOT_FOUND', `${session} was removed`);
    const facts = { session, turn, agent: record.agent, provider: deps.provider() };
    const spans = createTurnSpans(facts);
    let batch: Span[] = [];
    for (let since = 0; since < seq; ) {
      const range = { turn, since, until: seq, limit: PAGE_EVENTS, types: spanEventTypes };
      const events = await store.readTurn(session, range);
      batch.push(...events.flatMap((event) => spans.take(event)));
      const isLast = events.length < PAGE_EVENTS;
      for (; batch.length >= SPANS_PER_REQUEST; batch = batch.slice(SPANS_PER_REQUEST)) {
        await receiver.export(batch.slice(0, SPANS_PER_REQUEST));
      }
      since = isLast ? seq : (events.at(-1)?.seq ?? seq);
    }
    if (batch.length > 0) await receiver.export(batch);
  }

  async function close(): Promise<void> {
    await sending;
    await (await exporter)?.close();
  }

  return {
    counts: () => counts,
    observe({ type, session, turn, seq }) {
      if (type !== 'turn.completed' || turn === undefined || isStopped) return;
      if (queue.length >= QUEUE_MAX) {
        counts.dropped += 1;
        return;
      }
      queue.push({ session: sessionIdSchema.parse(session), turn, seq });
      sending ??= sendAll();
    },
    async stop() {
      const timer = new AbortController();
      // An exporter that could not be opened was heard of with the turn that needed it.
      const closed = close().catch(() => undefined);
      await Promise.race([closed, clock.sleep(STOP_MS, timer.signal)]);
      timer.abort();
      isStopped = true;
      counts.dropped += queue.length;
      if (queue.length > 0) logger.warn('telemetry.dropped', { turns: queue.length });
      queue.length = 0;
    },
  };
}
