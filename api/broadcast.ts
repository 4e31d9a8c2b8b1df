/** Live readers of one session share one follower of its events. A reader comes in when it has
 *  all that was sent so far and goes when it does not take what it is given; then it reads on by
 *  itself until it has caught up. So an event costs one pass through the supervisor, and for each
 *  reader one write: a follower for each costs about twice that, much of it garbage. */
import type { LiveSource, StreamFrame } from './route.ts';

export interface LiveReader {
  /** The newest event that it has; moved on with each that it takes. */
  seq: number;
  readonly signal: AbortSignal;
  /** Must not wait. False: it has this one, and takes no further one for now. */
  take(frame: StreamFrame): boolean;
}

/** `full`: it did not take more, or left. `over`: there are no more events. `failed`: reading
 *  them broke; the reader finds out why by reading on itself. */
export type Leaving = 'full' | 'over' | 'failed';

export interface Broadcasts {
  /** Resolves when the reader does not get events from here any more. Undefined: it is behind. */
  join(source: LiveSource, reader: LiveReader): Promise<Leaving> | undefined;
}

interface Cast {
  /** The newest event that was sent. */
  seq: number;
  readonly readers: Map<LiveReader, (how: Leaving) => void>;
  readonly stop: AbortController;
}

export function createBroadcasts(): Broadcasts {
  const casts = new Map<string, Cast>();

  function start(source: LiveSource, seq: number): Cast {
    const cast: Cast = { seq, readers: new Map(), stop: new AbortController() };
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
      if (reader.signal.aborted || reader.seq < (known?.seq ?? lastSeq)) return undefined;
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
  try {
    for await (const frame of await source.open(cast.seq, cast.stop.signal)) {
      cast.seq = Number(frame.id);
      for (const [reader, leave] of cast.readers) {
        if (reader.seq >= cast.seq) continue;
        reader.seq = cast.seq;
        if (!reader.take(frame)) leave('full');
      }
      if (cast.stop.signal.aborted) break;
    }
    return 'over';
  } catch {
    return 'failed'; // Each reader meets the cause again, and tells its client.
  }
}
