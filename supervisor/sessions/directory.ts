/** Which sessions are open in this process. A session is opened from the journal when somebody
 *  touches it and forgotten when it is quiet, so that thousands of idle ones cost nothing. */
import type { Clock, Timer } from '../../base/clock.ts';
import { type SessionId, sessionIdSchema } from '../../protocol/ids.ts';
import type { SessionRecord, Store } from '../../store/contract.ts';
import type { Bus } from './bus.ts';
import { CONTENDED } from './idleness.ts';
import { openSession, type Session } from './session.ts';
import type { SessionDeps } from './session-deps.ts';

export interface Directory {
  /** Opens (or finds) the session a reference means. @throws SESSION_NOT_FOUND … */
  open(ref: string): Promise<Session>;
  openRecord(record: SessionRecord): Session;
  find(id: SessionId): Session | undefined;
  /** The freshest record: the live one where there is one. */
  refresh(record: SessionRecord): SessionRecord;
  /** The freshest record of the session a reference means: of an open one without asking the
   *  journal. @throws SESSION_NOT_FOUND … */
  resolve(ref: string): Promise<SessionRecord>;
  all(): readonly Session[];
  /** Asks the least recently used idle session to give its worker back. */
  reclaimIdle(): boolean;
  /** It is removed. */
  drop(id: SessionId): void;
  /** Ends every loop; effects go on in their hosts. */
  halt(): Promise<void>;
}

const SWEEP_MS = 2000;

export function createDirectory(
  deps: { readonly store: Store; readonly bus: Bus; readonly clock: Clock },
  sessionDeps: () => SessionDeps,
): Directory {
  const { store, bus, clock } = deps;
  const open = new Map<SessionId, Session>();
  let timer: Timer = scheduleSweep();
  let halted = false;
  /** Sessions that were forgotten or dropped, counted. */
  let forgotten = 0;

  function scheduleSweep(): Timer {
    return clock.setTimer(SWEEP_MS, () => {
      for (const session of open.values()) if (session.isQuiet()) forget(session);
      if (!halted) timer = scheduleSweep();
    });
  }

  function forget(session: Session): void {
    open.delete(session.id);
    forgotten += 1;
    void session.halt();
    bus.close(session.id);
  }

  function openRecord(record: SessionRecord): Session {
    const existing = open.get(record.id);
    if (existing !== undefined) return existing;
    const session = openSession(sessionDeps(), record);
    open.set(record.id, session);
    return session;
  }

  /** A whole id goes before every other meaning, and an open session is there. */
  function findOpen(ref: string): Session | undefined {
    const whole = sessionIdSchema.safeParse(ref);
    return whole.success ? open.get(whole.data) : undefined;
  }

  const refresh = (record: SessionRecord): SessionRecord => open.get(record.id)?.record() ?? record;

  return {
    openRecord,
    find: (id) => open.get(id),
    all: () => [...open.values()],
    refresh,
    resolve: async (ref) => findOpen(ref)?.record() ?? refresh(await store.resolveSession(ref)),
    async open(ref) {
      const present = findOpen(ref);
      if (present !== undefined) return present;
      for (;;) {
        const before = forgotten;
        const record = await store.resolveSession(ref);
        // Opened and forgotten while it was read, it may have written more than that.
        if (open.has(record.id) || forgotten === before) return openRecord(record);
      }
    },
    reclaimIdle() {
      const idle = [...open.values()].flatMap(({ driver }) => {
        const sinceMs = driver.idleSinceMs();
        return sinceMs === undefined ? [] : [{ driver, sinceMs }];
      });
      idle.sort((a, b) => a.sinceMs - b.sinceMs);
      idle[0]?.driver.hibernate(CONTENDED);
      return idle.length > 0;
    },
    drop(id) {
      const session = open.get(id);
      open.delete(id);
      forgotten += 1;
      session?.seal();
      void session?.halt();
      bus.drop(id);
    },
    async halt() {
      halted = true;
      timer.cancel();
      await Promise.all([...open.values()].map((session) => session.halt()));
    },
  };
}
