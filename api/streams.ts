/** The open streams of a server (SSE and WebSocket): counted, bounded, and ended together. */
import { PrxError } from '../base/errors.ts';

/** Each holds a connection and a reader of the journal, no events. */
const STREAMS_MAX = 2048;

export interface StreamSlot {
  readonly signal: AbortSignal;
  /** Ends the stream and frees its place. Idempotent. */
  release(): void;
}

export interface Streams {
  /** @throws AT_CAPACITY at STREAMS_MAX, SHUTTING_DOWN after `endAll`. */
  take(isAllowed?: () => boolean): StreamSlot;
  /** Ends those whose caller may not read any more. */
  recheck(): void;
  /** Aborts every stream; no further one starts. */
  endAll(): void;
  count(): number;
}

export function createStreams(max = STREAMS_MAX): Streams {
  const open = new Map<AbortController, () => boolean>();
  let isEnded = false;
  return {
    take(isAllowed = () => true) {
      if (isEnded) throw new PrxError('SHUTTING_DOWN', 'the supervisor is stopping');
      if (open.size >= max) {
        const message = `${open.size} streams are open; the limit is ${max}`;
        throw new PrxError('AT_CAPACITY', message, { data: { retry_after_secs: 5 } });
      }
      const controller = new AbortController();
      open.set(controller, isAllowed);
      const release = (): void => {
        open.delete(controller);
        controller.abort();
      };
      return { signal: controller.signal, release };
    },
    recheck() {
      for (const [controller, isAllowed] of open) if (!isAllowed()) controller.abort();
    },
    endAll() {
      isEnded = true;
      for (const controller of open.keys()) controller.abort();
    },
    count: () => open.size,
  };
}
