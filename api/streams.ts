/** The open streams of a server (SSE and WebSocket): counted, bounded, and ended together. */
import { PrxError } from '../base/errors.ts';

/** Each holds a connection and a reader of the journal, no events. */
const STREAMS_MAX = 512;

export interface StreamSlot {
  readonly signal: AbortSignal;
  /** Ends the stream and frees its place. Idempotent. */
  release(): void;
}

export interface Streams {
  /** @throws AT_CAPACITY at STREAMS_MAX, SHUTTING_DOWN after `endAll`. */
  take(): StreamSlot;
  /** Aborts every stream; no further one starts. */
  endAll(): void;
  count(): number;
}

export function createStreams(max = STREAMS_MAX): Streams {
  const open = new Set<AbortController>();
  let isEnded = false;
  return {
    take() {
      if (isEnded) throw new PrxError('SHUTTING_DOWN', 'the supervisor is stopping');
      if (open.size >= max) {
        const message = `${open.size} streams are open; the limit is ${max}`;
        throw new PrxError('AT_CAPACITY', message, { data: { retry_after_secs: 5 } });
      }
      const controller = new AbortController();
      open.add(controller);
      const release = (): void => {
        open.delete(controller);
        controller.abort();
      };
      return { signal: controller.signal, release };
    },
    endAll() {
      isEnded = true;
      for (const controller of open) controller.abort();
    },
    count: () => open.size,
  };
}
