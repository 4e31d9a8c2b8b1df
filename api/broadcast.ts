/** Live readers of one session share one follower of its events. A reader comes in when it lacks
 *  nothing but the newest events, and goes when it does not take what it is given; then it reads
 *  on by itself until it has caught up. So an event costs one pass through the supervisor, and for
 *  each reader one write. Events that are there at once are given together: where a pass to all
 *  readers takes longer than an event, it is their number that grows, not the delay. */
import type { LiveSource, StreamFrame } from './route.ts';

export type Batch = readonly StreamFrame[];

export interface LiveReader {
  /** The newest event that it has; moved on with each that it takes. */
  seq: number;
  readonly signal: AbortSignal;
  /** Must not wait. At least one, in order; readers at the same place are given the same array.
   *  False: it has these, and takes no further one for now. */
  take(frames: Batch): boolean;
}

/** `full`: it did not take more, or left. `over`: there are no more events. `failed`: reading
 *  them broke; the reader finds out why by reading on itself. */
export type Leaving = 'full' | 'over' | 'failed';

export interface Broadcasts {
  /** Resolves when the reader does not get events from here any more. Undefined: it is behind. */
  join(source: LiveSource, reader: LiveReader): Promise<Leaving> | undefined;
}

/** Kept for those who come back at once: a lost connection costs no reading of the journal. */
const RECENT_FRAMES_MAX = 64;
/** In UTF-16 units; a session that says much at once keeps fewer. */
const RECENT_CHARS_MAX = 256 * 1024;

/** Given together: what a reader may have to hold that takes nothing more, in UTF-16 units; a
 *  single frame may be larger. */
const BATCH_CHARS_MAX = 64 * 1024;

interface Cast {
  /** The newest event that was sent. */
  seq: number;
  /** The newest frames, without a gap, up to `seq`. */
  readonly recent: StreamFrame[];
  recentChars: number;
  readonly readers: Map<LiveReader, (how: Leaving) => void>;
  readonly stop: AbortController;
}

export function createBroadcasts(): Broadcasts {
  const casts = new Map<string, Cast>();

  function start(source: LiveSource, seq: number): Cast {
    const cast: Cast = {
      ...{ seq, recent: [], recentChars: 0 },
      ...{ readers: new Map(), stop: new AbortController() },
    };
    casts.set(source.session, cast);
    void run(source, cast).then((how) => {
      forget(source.session, cast);
      for (const leave of cast.readers.values()) leave(how);
    });
    return cast;
  }

  function forget(session: string, cast: Cast): void {
    if (casts.get(session) === cast) casts.delete(session);
  }

  return {
    join(source, reader) {
      const { session, lastSeq } = source;
      const known = casts.get(session);
      if (reader.signal.aborted) return undefined;
      const missed = known === undefined ? [] : findMissed(known, reader.seq);
      if (missed === undefined || (known === undefined && reader.seq < lastSeq)) return undefined;
      // One by one: these bytes are shared already, those of a batch would be its own.
      for (const frame of missed) if (!give(reader, [frame])) return Promise.resolve('full');
      const cast = known ?? start(source, reader.seq);
      return new Promise((resolve) => {
        const onAbort = (): void => leave('full');
        const leave = (how: Leaving): void => {
          reader.signal.removeEventListener('abort', onAbort);
          cast.readers.delete(reader);
          if (cast.readers.size === 0) {
            forget(session, cast);
            cast.stop.abort();
          }
          resolve(how);
        };
        cast.readers.set(reader, leave);
        reader.signal.addEventListener('abort', onAbort, { once: true });
      });
    },
  };
}

async function run(source: LiveSource, cast: Cast): Promise<Leaving> {
  const waiting: StreamFrame[] = [];
  const flush = (): void => {
    for (const batch of toBatches(waiting.splice(0))) pass(cast, batch);
  };
  try {
    for await (const frame of await source.open(cast.seq, cast.stop.signal)) {
      // Ticks come when no promise goes on any more: by then all that is there has been read.
      if (waiting.push(frame) === 1) process.nextTick(flush);
      if (waiting.length >= RECENT_FRAMES_MAX) flush();
      if (cast.stop.signal.aborted) break;
    }
    return 'over';
  } catch {
    return 'failed'; // Each reader meets the cause again, and tells its client.
  } finally {
    flush();
  }
}

/** To all readers, of which some may have come with a part of it. */
function pass(cast: Cast, batch: Batch): void {
  const before = cast.seq;
  cast.seq = lastOf(batch, before);
  for (const frame of batch) keep(cast, frame);
  for (const [reader, leave] of cast.readers) {
    const { seq } = reader;
    const lacking = seq <= before ? batch : batch.filter(({ id }) => Number(id) > seq);
    if (!give(reader, lacking)) leave('full');
  }
}

function give(reader: LiveReader, batch: Batch): boolean {
  if (batch.length === 0) return true;
  reader.seq = lastOf(batch, reader.seq);
  return reader.take(batch);
}

function lastOf(batch: Batch, seq: number): number {
  return Number(batch.at(-1)?.id ?? seq);
}

function toBatches(frames: Batch): readonly Batch[] {
  const batches: StreamFrame[][] = [];
  let chars = Number.POSITIVE_INFINITY;
  for (const frame of frames) {
    chars += frame.data.length;
    if (chars > BATCH_CHARS_MAX) {
      batches.push([]);
      chars = frame.data.length;
    }
    batches.at(-1)?.push(frame);
  }
  return batches;
}

function keep(cast: Cast, frame: StreamFrame): void {
  cast.recent.push(frame);
  cast.recentChars += frame.data.length;
  while (cast.recent.length > RECENT_FRAMES_MAX || cast.recentChars > RECENT_CHARS_MAX) {
    cast.recentChars -= cast.recent.shift()?.data.length ?? 0;
  }
}

/** What was sent behind `seq`; undefined when not all of it is kept. */
function findMissed(
  { seq: newest, recent }: Cast,
  seq: number,
): readonly StreamFrame[] | undefined {
  if (seq >= newest) return [];
  const missed = recent.filter(({ id }) => Number(id) > seq);
  return missed.length === newest - seq ? missed : undefined;
}
