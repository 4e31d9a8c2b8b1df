/** Brings one reader of a session its events: by itself while it is behind, together with the
 *  others (broadcast.ts) while it keeps up. Whether SSE or WebSocket is its writer's business. */
import type { Batch, Broadcasts, LiveReader } from './broadcast.ts';
import type { LiveSource, StreamFrame } from './route.ts';

/** What is written: frames from one's own place on, and who feeds them once they are live. */
export interface StreamSource {
  readonly frames: AsyncIterable<StreamFrame>;
  /** Absent: the frames are this client's alone. */
  readonly live?: LiveSource & { readonly since: number };
}

export interface FrameWriter {
  /** Resolves when the connection takes more. */
  write(frame: StreamFrame): Promise<void>;
  /** At least one frame. False: the connection takes no more for now. */
  now(batch: Batch): boolean;
  /** Resolves when the connection takes more, or the signal aborted. */
  drained(): Promise<void>;
}

export interface Reading {
  readonly broadcasts: Broadcasts;
  /** Aborted when the client is gone or the server closes. */
  readonly signal: AbortSignal;
}

/** Until the events end or the signal aborts. Rejects as reading them does. */
export async function writeFrames(
  reading: Reading,
  { frames, live }: StreamSource,
  writer: FrameWriter,
): Promise<void> {
  if (live !== undefined) return writeLive(reading, { frames, live }, writer);
  for await (const frame of frames) {
    if (reading.signal.aborted) return;
    await writer.write(frame);
  }
}

async function writeLive(
  { signal, broadcasts }: Reading,
  { frames, live }: Required<StreamSource>,
  writer: FrameWriter,
): Promise<void> {
  const reader: LiveReader = { seq: live.since, signal, take: (batch) => writer.now(batch) };
  let isShared = true;
  const join = () => (isShared ? broadcasts.join(live, reader) : undefined);
  for (let own = frames; !signal.aborted; own = await live.open(reader.seq, signal)) {
    let joined = join();
    if (joined === undefined) {
      for await (const frame of own) {
        if (signal.aborted) return;
        await writer.write(frame);
        reader.seq = Number(frame.id);
        joined = join();
        if (joined !== undefined) break;
      }
    }
    const how = await joined;
    if (how === undefined || how === 'over') return;
    isShared = how !== 'failed';
    await writer.drained();
  }
}
