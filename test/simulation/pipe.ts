/** One direction of a pipe between the supervisor and a child: bytes arrive in order, after a
 *  delay, and not while either end stands still. What was written before the writer's death is
 *  read after it, as from a kernel buffer. */
import type { Random } from '../../base/random.ts';
import type { Time } from './time.ts';

export interface PipeEnds {
  /** Takes a chunk, or the end of the stream. */
  readonly take: (chunk: Buffer | undefined) => void;
  /** Nothing moves while this is true. */
  readonly isHeld: () => boolean;
}

export interface Pipe {
  write(chunk: Buffer): void;
  /** No more will be written. */
  end(): void;
  /** The writer dies in the middle of its last write, if that is still on its way. */
  cut(): void;
  /** The reader is gone: what is on its way goes nowhere. */
  drop(): void;
  /** An end that stood still goes on. */
  release(): void;
}

export interface PipeDeps {
  readonly time: Time;
  readonly random: Random;
  /** Upper bound of the delay of one chunk, ms. */
  readonly delayMsMax: () => number;
}

const AT_ONCE = 0.7;

interface Travelling {
  readonly atMs: number;
  chunk: Buffer | undefined;
}

export function createPipe({ time, random, delayMsMax }: PipeDeps, ends: PipeEnds): Pipe {
  let queue: Travelling[] = [];
  let ended = false;
  let dropped = false;

  function send(chunk: Buffer | undefined): void {
    if (dropped || ended) return;
    ended = chunk === undefined;
    const delayMs = random.next() < AT_ONCE ? 0 : random.next() * delayMsMax();
    const atMs = Math.max(time.nowMs() + delayMs, queue.at(-1)?.atMs ?? 0);
    queue.push({ atMs, chunk });
    if (queue.length === 1) deliver();
  }

  function deliver(): void {
    for (let [first] = queue; first !== undefined; [first] = queue) {
      if (dropped || ends.isHeld()) return;
      const waitMs = first.atMs - time.nowMs();
      if (waitMs > 0) {
        time.setTimer(waitMs, deliver);
        return;
      }
      queue.shift();
      ends.take(first.chunk);
    }
  }

  return {
    write: send,
    end: () => send(undefined),
    cut() {
      const last = queue.at(-1);
      if (last?.chunk === undefined) return;
      last.chunk = last.chunk.subarray(0, Math.floor(random.next() * last.chunk.length));
    },
    drop() {
      dropped = true;
      queue = [];
    },
    release: deliver,
  };
}
