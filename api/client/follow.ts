/** A stream of server-sent events that survives its connection: on a cut it connects again from
 *  the last id it has seen, with bounded, growing pauses. A refusal (404, 409, 410 …) is final and
 *  thrown: content is never spliced over a gap. */
import type { IncomingMessage } from 'node:http';
import type { Clock } from '../../base/clock.ts';
import { type ErrorCode, isPrxError, PrxError } from '../../base/errors.ts';
import { toPrxErrorOf } from './request.ts';
import { createSseParser, type SseFrame } from './sse-parser.ts';

/** What happens to the connection of a stream, for status lines. */
export type ConnectionNews =
  /** `lastSeq`: the newest event when the stream was opened; events up to it are history. */
  | { readonly kind: 'open'; readonly lastSeq: number | undefined }
  | { readonly kind: 'lost'; readonly attempt: number; readonly delayMs: number };

export interface FollowDeps {
  readonly clock: Clock;
  readonly signal: AbortSignal | undefined;
  readonly onConnection: ((news: ConnectionNews) => void) | undefined;
  /** Opens the stream behind what was received so far. */
  readonly connect: () => Promise<IncomingMessage>;
}

/** Attempts in a row without a byte received; with the pauses below about half a minute. */
const RECONNECT_ATTEMPTS_MAX = 10;
const RECONNECT_DELAY_MS_MIN = 100;
const RECONNECT_DELAY_MS_MAX = 5000;
/** Three missed heartbeats: the connection is dead although nobody said so. */
const SILENCE_MS_MAX = 45_000;

const RECOVERABLE: ReadonlySet<ErrorCode> = new Set([
  'NOT_RUNNING',
  'PEER_CLOSED',
  'SHUTTING_DOWN',
  'AT_CAPACITY',
  'STORE_DEGRADED',
  'DEADLINE_EXCEEDED',
]);

/** Pause before reconnect attempt `attempt` (from 1): doubling, bounded. Pure. */
export function reconnectDelayMs(attempt: number): number {
  return Math.min(RECONNECT_DELAY_MS_MAX, RECONNECT_DELAY_MS_MIN * 2 ** (attempt - 1));
}

/** Yields frames until the signal aborts (then it ends without error) or a final refusal. The
 *  first connection is tried once: whether anyone is there at all is an answer, not a cut. */
export async function* followFrames(deps: FollowDeps): AsyncGenerator<SseFrame> {
  let attempt = 0;
  let isFirst = true;
  while (!deps.signal?.aborted) {
    try {
      const head = await deps.connect();
      deps.onConnection?.({ kind: 'open', lastSeq: lastSeqOf(head) });
      isFirst = false;
      for await (const frame of readFrames(head, deps)) {
        attempt = 0;
        yield frame;
      }
    } catch (error) {
      if (deps.signal?.aborted) return;
      const isFinal = isFirst || !(error instanceof PrxError) || !RECOVERABLE.has(error.code);
      if (isFinal || attempt >= RECONNECT_ATTEMPTS_MAX) throw error;
    }
    attempt += 1;
    const delayMs = reconnectDelayMs(attempt);
    deps.onConnection?.({ kind: 'lost', attempt, delayMs });
    await deps.clock.sleep(delayMs, deps.signal);
  }
}

function lastSeqOf(head: IncomingMessage): number | undefined {
  const header = head.headers['x-prx-last-seq'];
  return typeof header === 'string' ? Number(header) : undefined;
}

async function* readFrames(head: IncomingMessage, deps: FollowDeps): AsyncGenerator<SseFrame> {
  const parser = createSseParser();
  const giveUp = (): void => void head.destroy(new Error('no heartbeat'));
  let timer = deps.clock.setTimer(SILENCE_MS_MAX, giveUp);
  head.setEncoding('utf8');
  try {
    for await (const chunk of head as AsyncIterable<string>) {
      timer.cancel();
      // While the consumer is busy with these frames no timer runs: its pace is its own affair.
      for (const frame of parser.push(chunk)) yield checkFrame(frame);
      timer = deps.clock.setTimer(SILENCE_MS_MAX, giveUp);
    }
  } catch (error) {
    if (isPrxError(error)) throw error;
    throw new PrxError('PEER_CLOSED', 'the event stream broke', { cause: error });
  } finally {
    timer.cancel();
    head.destroy();
  }
}

/** A frame of the server's that ends the stream with its reason. */
function checkFrame(frame: SseFrame): SseFrame {
  if (frame.event === 'problem') throw toPrxErrorOf(200, frame.data);
  return frame;
}
