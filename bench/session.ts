/** A session under measurement: made, prompted and watched through the unix socket. */
import { join } from 'node:path';
import type { EventEnvelope } from '../protocol/events.ts';
import type { Home, Lab } from './lab.ts';
import { readFrames, send } from './sse.ts';

export interface Seen {
  readonly event: EventEnvelope;
  readonly atMs: number;
}

export interface WatchedSession {
  readonly id: string;
  /** Everything so far, in order. */
  readonly seen: readonly Seen[];
  /** Resolves when `count` events of this type were seen.
   *  @param longMs  what it takes when all goes well. @throws Error a minute after that. */
  reached(type: string, count: number, longMs?: number): Promise<void>;
  /** Sends a prompt; resolves when its turn was seen to end. */
  runTurn(text: string, longMs?: number): Promise<void>;
  /** Ends the stream; the session stays. */
  unwatch(): void;
}

const PATIENCE_MS = 60_000;

export async function openSession(home: Home): Promise<WatchedSession> {
  const { view } = await home.client.createSession({ workspace: home.workspace });
  return watchSession(home, view.id);
}

/** @param since  what came before is not read again. */
export async function watchSession(home: Home, id: string, since = 0): Promise<WatchedSession> {
  const stream = await send({
    socketPath: join(home.stateDir, 'api.sock'),
    path: `/api/v1/sessions/${id}/events?follow=true&since=${since}`,
    headers: { accept: 'text/event-stream' },
  });
  const seen: Seen[] = [];
  const counts = new Map<string, number>();
  let waiters: (() => boolean)[] = [];
  void readFrames(stream, ({ data, atMs }) => {
    const event = JSON.parse(data) as EventEnvelope;
    seen.push({ event, atMs });
    counts.set(event.type, (counts.get(event.type) ?? 0) + 1);
    waiters = waiters.filter((isDone) => !isDone());
  });
  function reached(type: string, count: number, longMs = 0): Promise<void> {
    const has = (): boolean => (counts.get(type) ?? 0) >= count;
    if (has()) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const patience = setTimeout(() => {
        const tail = seen.slice(-5).map(({ event }) => JSON.stringify(event).slice(0, 300));
        reject(new Error(`${type} number ${count} does not come; last:\n${tail.join('\n')}`));
      }, PATIENCE_MS + longMs);
      waiters.push(() => {
        if (!has()) return false;
        clearTimeout(patience);
        resolve();
        return true;
      });
    });
  }
  return {
    id,
    seen,
    reached,
    async runTurn(text, longMs) {
      const ended = (counts.get('turn.completed') ?? 0) + 1;
      await home.client.sendInput(id, { text });
      await reached('turn.completed', ended, longMs);
    },
    unwatch: () => void stream.destroy(),
  };
}

/** When an event that `isWanted` was seen, ms. @throws Error when it was not. */
export function seenAtMs(
  { seen }: WatchedSession,
  isWanted: (event: EventEnvelope) => boolean,
): number {
  const found = seen.findLast(({ event }) => isWanted(event));
  if (found === undefined) throw new Error('an event that was waited for was not seen');
  return found.atMs;
}

export const isResident = ({ type, data }: EventEnvelope): boolean =>
  // The schema of its type was applied when it was journaled.
  type === 'session.residency' && (data as { to: string }).to === 'resident';

/** Waits until the spare workers are there, so that nothing else starts meanwhile. */
export async function settle(home: Home, warm: number): Promise<void> {
  for (const deadlineMs = performance.now() + PATIENCE_MS; performance.now() < deadlineMs; ) {
    const { capacity } = await home.client.getStatus();
    if (capacity.warm >= warm) return;
    await pause(20);
  }
  throw new Error(`no ${warm} spare workers within a minute`);
}

/** Lets the supervisor run sessions of one turn: V8 compiles only what has run often. */
export async function warmUp({ quick }: Lab, home: Home): Promise<void> {
  const sessions = quick ? 2 : 300;
  for (let done = 0; done < sessions; done += 1) {
    const session = await openSession(home);
    await session.runTurn('warm');
    session.unwatch();
    await home.client.close(session.id);
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)));
}
