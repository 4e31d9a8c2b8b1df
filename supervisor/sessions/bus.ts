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
   *  first commit of a session.
   *  @param bufferSize events held for one of its live readers; absent: as the others'. */
  open(session: string, publishedSeq: number, bufferSize?: () => number): void;
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
  bufferSize: () => number;
  /** Committed, but an earlier one is still syncing. */
  waiting: Map<number, { event: EventEnvelope; apply: (event: EventEnvelope) => void }>;
  readers: Set<Reader>;
  /** By the number before their first event, the newest last; none without readers. */
  pages: Map<number, Promise<readonly EventEnvelope[]>>;
  /** Waits for a sequence number to be published. */
  barriers: { seq: number; resolve: () => void }[];
}

/** Few: a reader that stands still holds the page that it is at. */
const PAGE_EVENTS = 100;
/** Pages of a channel that readers at the same place share: a crowd that connects at once, or
 *  falls behind together, costs one read of the journal and one copy of its events. */
const SHARED_PAGES_MAX = 4;

/** @param bufferSize of sessions that do not say their own.
 *  @param observe is shown each event once, right after it was applied. */
export function createBus(
  bufferSize: number,
  observe: (event: EventEnvelope) => void = () => undefined,
): Bus {
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
      bufferSize: () => bufferSize,
      waiting: new Map(),
      readers: new Set(),
      pages: new Map(),
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
      observe(next.event);
      for (const reader of channel.readers) offer(reader, next.event, channel.bufferSize());
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
    open(session, publishedSeq, own) {
      const channel = open(session, publishedSeq, true);
      if (own !== undefined) channel.bufferSize = own;
    },
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
          const events = await readShared(channel, source, last);
          if (events.length === 0 || signal.aborted || reader.ended) break;
          for (const event of events) {
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
    if (channel.readers.size === 0) channel.pages.clear();
    follow.forget(session, channel);
    signal.removeEventListener('abort', onAbort);
  }
}

/** The events behind a number, from the journal or as another reader was just given them. Pages
 *  begin at round numbers, so that readers who fell behind to different places share them too.
 *  What another asked for is whole when it fills a page, or when nothing was published behind it:
 *  this reader's live queue begins where its reading ends, with nothing in between. */
async function readShared(
  channel: Channel,
  source: FollowSource,
  since: number,
): Promise<readonly EventEnvelope[]> {
  // Open here: what may be seen ends at what was published, and need not be asked for.
  if (channel.owned && since === channel.published) return [];
  const start = since - (since % PAGE_EVENTS);
  const isBehind = ({ seq }: EventEnvelope): boolean => seq > since;
  // Not awaited when there is none: of a crowd, the first to look is the one that reads.
  const shared = channel.pages.get(start);
  // What failed for another may go well for us.
  const known = shared === undefined ? undefined : await shared.catch(() => undefined);
  const isFull = known?.length === PAGE_EVENTS;
  if (known !== undefined && (isFull || known.at(-1)?.seq === channel.published)) {
    const events = known.filter(isBehind);
    if (events.length > 0) return events;
  }
  const reading = source.read(start, PAGE_EVENTS).then(({ events }) => events);
  keepPage(channel, start, reading);
  try {
    const events = (await reading).filter(isBehind);
    if (events.length > 0 || start === since) return events;
    // A page is bounded in bytes as well: it may end before this reader's place.
  } catch (error) {
    // The round number may be one that retention removed, or a power loss.
    if (start === since) throw error;
  }
  return (await source.read(since, PAGE_EVENTS)).events;
}

function keepPage(
  { pages }: Channel,
  start: number,
  reading: Promise<readonly EventEnvelope[]>,
): void {
  pages.delete(start);
  pages.set(start, reading);
  const [oldest] = pages.keys();
  if (pages.size > SHARED_PAGES_MAX && oldest !== undefined) pages.delete(oldest);
}
