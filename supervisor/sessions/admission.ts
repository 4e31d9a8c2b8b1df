/** Who may hold a worker: at most `capacity` sessions at once, the rest wait first-come. When slots
 *  are short, the least recently used idle session is asked to give its own. Bounded: more
 *  than WAITING_MAX waiting sessions are refused with AT_CAPACITY. */
import { PrxError } from '../../base/errors.ts';
import type { SessionId } from '../../protocol/ids.ts';

export interface Slot {
  /** Idempotent. */
  release(): void;
}

export interface Admission {
  /** Resolves with a slot, in order of asking; rejects with CANCELLED when the signal aborts. */
  acquire(session: SessionId, signal: AbortSignal): Promise<Slot>;
  /** A slot is free right now and nobody waits. */
  hasRoom(): boolean;
  /** Somebody waits, or more are held than there are since a smaller capacity. */
  isShort(): boolean;
  counts(): { readonly held: number; readonly waiting: number };
  setCapacity(capacity: number): void;
}

const WAITING_MAX = 10_000;

interface Waiter {
  readonly session: SessionId;
  readonly grant: () => void;
}

/** @param reclaim asks one idle session to hibernate; true when one will. */
export function createAdmission(capacityAtStart: number, reclaim: () => boolean): Admission {
  let capacity = capacityAtStart;
  let held = 0;
  const waiting: Waiter[] = [];

  function createSlot(): Slot {
    let released = false;
    return {
      release() {
        if (released) return;
        released = true;
        held -= 1;
        admit();
      },
    };
  }

  function admit(): void {
    while (held < capacity && waiting.length > 0) {
      held += 1;
      waiting.shift()?.grant();
    }
    if (isShort()) reclaim();
  }

  function isShort(): boolean {
    return waiting.length > 0 || held > capacity;
  }

  return {
    isShort,
    counts: () => ({ held, waiting: waiting.length }),
    hasRoom: () => held < capacity && waiting.length === 0,
    setCapacity(next) {
      capacity = next;
      admit();
    },
    acquire(session, signal) {
      if (waiting.length >= WAITING_MAX) {
        const message = `${WAITING_MAX} sessions wait for a worker already; try again later`;
        return Promise.reject(new PrxError('AT_CAPACITY', message));
      }
      return new Promise((resolve, reject) => {
        const waiter: Waiter = {
          session,
          grant() {
            signal.removeEventListener('abort', onAbort);
            resolve(createSlot());
          },
        };
        const onAbort = (): void => {
          const index = waiting.indexOf(waiter);
          if (index >= 0) waiting.splice(index, 1);
          reject(new PrxError('CANCELLED', `session ${session} no longer waits for a worker`));
        };
        if (signal.aborted) return onAbort();
        signal.addEventListener('abort', onAbort, { once: true });
        waiting.push(waiter);
        admit();
      });
    },
  };
}
