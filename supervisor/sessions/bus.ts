/** From the journal to its readers. An event is published when its durability class holds, and in
 *  the order of its session's sequence: a delta committed behind an input that still syncs waits
 *  for it, so no reader ever sees a gap. Readers replay from the journal and go live; one that
 *  cannot keep up loses its live queue (never more than `bufferSize` events of memory) and goes
 *  back to the journal. */
import { assert } from '../../base/assert.ts';
import type { EventEnvelope } from '../../protocol/events.ts';
import type { EventPage } from '../../protocol/resources.ts';

export interface FollowSource {
  /** Reads a page from the journal. */
  read(since: number, limit: number): Promise<EventPage>;
}

export interface Bus {
  /** Takes committed events of one session, in any order of batches; releases them in sequence.
   *  `apply` runs for each event right before its readers see it. */
  commit(events: readonly EventEnvelope[], apply: (event: EventEnvelope) => void): void;
  /** Says up to where a session's journal was published before this process; needed before the
   *  first commit of a session. */
  open(session: string, publishedSeq: number): void;
  /** The session is not open here any more; its last reader takes the channel along. */
  close(session: string): void;
  /** Newest sequence number anyone may see; undefined: not open here, so all is published. */
  publishedSeq(session: string): number | undefined;
  /** Resolves when the session has published up to `seq`. */
  reached(session: string, seq: number): Promise<void>;
  follow(
    session: string,
    since: number,
    source: FollowSource,
    signal: AbortSignal,
  ): AsyncGenerator<EventEnvelope>;
  /** Resolves at the next publication of anything. */
  nextChange(signal: AbortSignal): Promise<void>;
  /** Something was published past the bus (a session that is not open): readers of everything
   *  look again. */
  touch(): void;
  /** Ends the streams of a deleted session. */
  drop(session: string): void;
}

interface Reader {
  queue: EventEnvelope[];
  /** The live queue overflowed: read on from the journal. */
  lagging: boolean;
  ended: boolean;
  wake: () => void;
}

interface Channel {
  published: number;
  /** Its session is open here; else only readers keep it. */
  owned: boolean;
  /** Committed, but an earlier one is still syncing. */
  waiting: Map<number, { event: EventEnvelope; apply: (event: EventEnvelope) => void }>;
  readers: Set<Reader>;
  /** Waits for a sequence number to be published. */
  barriers: { seq: number; resolve: () => void }[];
}

const PAGE_EVENTS = 500;

export function createBus(bufferSize: number): Bus {
  assert(bufferSize > 0, 'a live reader needs room for at least one event');
  const channels = new Map<string, Channel>();
  const watchers = new Set<() => void>();

  function channelOf(session: string): Channel {
    const channel = channels.get(session);
    assert(channel !== undefined, `session ${session} is open before it publishes`);
    return channel;
  }

  function open(session: string, publishedSeq: number, owned: boolean): Channel {
    const existing = channels.get(session);
    if (existing !== undefined) {
      existing.owned ||= owned;
      return existing;
    }
    const channel: Channel = {
      published: publishedSeq,
      owned,
      waiting: new Map(),
      readers: new Set(),
      barriers: [],
    };
    channels.set(session, channel);
    return channel;
  }

  function release(channel: Channel): void {
    for (;;) {
      const next = channel.waiting.get(channel.published + 1);
      if (next === undefined) break;
      channel.waiting.delete(channel.published + 1);
      channel.published += 1;
      next.apply(next.event);
      for (const reader of channel.readers) offer(reader, next.event, bufferSize);
    }
    channel.barriers = channel.barriers.filter((barrier) => {
      if (barrier.seq > channel.published) return true;
      barrier.resolve();
      return false;
    });
    touch();
  }

  function forget(session: string, channel: Channel): void {
    if (channel.owned || channel.readers.size > 0 || channel.waiting.size > 0) return;
    if (channels.get(session) === channel) channels.delete(session);
  }

  function touch(): void {
    for (const wake of watchers) wake();
    watchers.clear();
  }

  return {
    touch,
    open: (session, publishedSeq) => void open(session, publishedSeq, true),
    close(session) {
      const channel = channels.get(session);
      if (channel === undefined) return;
      channel.owned = false;
      forget(session, channel);
    },
    publishedSeq: (session) => channels.get(session)?.published,
    commit(events, apply) {
      for (const event of events) {
        const channel = channelOf(event.session);
        assert(event.seq > channel.published, 'a sequence number is published once');
        channel.waiting.set(event.seq, { event, apply });
      }
      for (const session of new Set(events.map((event) => event.session))) {
        release(channelOf(session));
      }
    },
    reached(session, seq) {
      const channel = channels.get(session);
      if (channel === undefined || channel.published >= seq) return Promise.resolve();
      return new Promise((resolve) => channel.barriers.push({ seq, resolve }));
    },
    follow: (session, since, source, signal) =>
      followChannel({ channels, session, since, source, signal, open, forget }),
    nextChange(signal) {
      if (signal.aborted) return Promise.resolve();
      return new Promise((resolve) => {
        const wake = (): void => {
          watchers.delete(wake);
          signal.removeEventListener('abort', wake);
          resolve();
        };
        watchers.add(wake);
        signal.addEventListener('abort', wake, { once: true });
      });
    },
    drop(session) {
      const channel = channels.get(session);
      channels.delete(session);
      for (const reader of channel?.readers ?? []) {
        reader.ended = true;
        reader.wake();
      }
      for (const barrier of channel?.barriers.splice(0) ?? []) barrier.resolve();
    },
  };
}

function offer(reader: Reader, event: EventEnvelope, bufferSize: number): void {
  if (reader.lagging) return;
  if (reader.queue.length >= bufferSize) {
    reader.queue = [];
    reader.lagging = true;
  } else {
    reader.queue.push(event);
  }
  reader.wake();
}

interface Follow {
  readonly channels: Map<string, Channel>;
  readonly session: string;
  readonly since: number;
  readonly source: FollowSource;
  readonly signal: AbortSignal;
  open(session: string, publishedSeq: number, owned: boolean): Channel;
  forget(session: string, channel: Channel): void;
}

async function* followChannel(follow: Follow): AsyncGenerator<EventEnvelope> {
  const { session, source, signal } = follow;
  let last = follow.since;
  // Registered before the first page is read: what is published meanwhile is queued, not lost.
  const first = follow.channels.get(session);
  const channel = first ?? follow.open(session, (await source.read(last, 1)).last_seq, false);
  const reader: Reader = { queue: [], lagging: true, ended: false, wake: () => undefined };
  const onAbort = (): void => reader.wake();
  channel.readers.add(reader);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    while (!signal.aborted && !reader.ended) {
      if (reader.lagging) {
        reader.lagging = false;
        for (;;) {
          const page = await source.read(last, PAGE_EVENTS);
          if (page.events.length === 0 || signal.aborted || reader.ended) break;
          for (const event of page.events) {
            if (signal.aborted) return;
            last = event.seq;
            yield event;
          }
        }
        continue;
      }
      const batch = reader.queue;
      reader.queue = [];
      for (const event of batch) {
        if (event.seq <= last) continue;
        assert(event.seq === last + 1, 'a live reader sees a gapless sequence');
        last = event.seq;
        yield event;
        if (signal.aborted) return;
      }
      if (batch.length > 0 || reader.lagging || reader.ended || signal.aborted) continue;
      await new Promise<void>((resolve) => {
        reader.wake = resolve;
      });
      reader.wake = () => undefined;
    }
  } finally {
    channel.readers.delete(reader);
    follow.forget(session, channel);
    signal.removeEventListener('abort', onAbort);
  }
}
