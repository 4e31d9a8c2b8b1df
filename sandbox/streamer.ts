/** Sends a call's output while it runs: merged within a turn of the event loop, one piece under
 *  way at a time (the producer waits for it, which is the back-pressure), and only up to a bound,
 *  so that a flood does not fill the journal. */
import type { ToolOutput } from '../protocol/sandbox-methods.ts';

export type StreamName = ToolOutput['stream'];

export interface Streamer {
  /** Resolves when there is room for more. */
  push(stream: StreamName, text: string): Promise<void>;
  /** Resolves when everything pushed was sent. */
  flush(): Promise<void>;
}

export interface StreamerSpec {
  readonly bytesMax: number;
  readonly send: (stream: StreamName, text: string) => Promise<void>;
}

/** Text that may wait while one piece is under way. */
const PENDING_CHARS_MAX = 128 * 1024;

export function createStreamer(spec: StreamerSpec): Streamer {
  let pending: { stream: StreamName; text: string }[] = [];
  let pendingChars = 0;
  let leftBytes = spec.bytesMax;
  let sending: Promise<void> | undefined;

  async function sendAll(): Promise<void> {
    while (pending.length > 0) {
      await nextLoopTurn();
      const pieces = pending;
      pending = [];
      pendingChars = 0;
      for (const { stream, text } of pieces) await spec.send(stream, text);
    }
  }

  function start(): Promise<void> {
    sending ??= sendAll().finally(() => {
      sending = undefined;
    });
    return sending;
  }

  return {
    async push(stream, text) {
      if (leftBytes <= 0 || text === '') return;
      leftBytes -= Buffer.byteLength(text);
      const shown = leftBytes >= 0 ? text : `${text}\n[more output follows; it is not streamed]\n`;
      const last = pending.at(-1);
      if (last?.stream === stream) last.text += shown;
      else pending.push({ stream, text: shown });
      pendingChars += shown.length;
      const running = start();
      if (pendingChars > PENDING_CHARS_MAX) await running;
    },
    async flush() {
      await (sending ?? Promise.resolve());
    },
  };
}

function nextLoopTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
