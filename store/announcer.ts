/** Tells the journal of its own state: `store.degraded` and `store.repaired` in the system's
 *  session. While nothing can be written they wait here; they are written once it can. */
import { background } from '../base/background.ts';
import type { Logger } from '../base/logger.ts';
import { SYSTEM_SESSION } from '../protocol/events.ts';
import type { AppendRequest, NewEvent, SessionProblem } from './contract.ts';

/** A disk that is full and has room again all day: the oldest changes are dropped. */
const WAITING_MAX = 100;

export interface AnnouncerDeps {
  readonly append: (request: AppendRequest) => Promise<unknown>;
  readonly logger: Logger;
  /** False: nothing can be written at present. */
  readonly isWell: () => boolean;
  /** Hears when something was written. */
  readonly onWritten: () => void;
}

export class Announcer {
  readonly #deps: AnnouncerDeps;
  #waiting: NewEvent[] = [];
  #reason: string | undefined;
  #isWriting = false;

  constructor(deps: AnnouncerDeps) {
    this.#deps = deps;
  }

  /** @param reason  why the journal cannot be written; undefined: it can again. */
  onCondition(reason: string | undefined): void {
    if (reason !== undefined) this.#say('store.degraded', reason);
    else this.#say('store.repaired', `it can be written again; before: ${this.#reason ?? ''}`);
    this.#reason = reason;
  }

  onDamage({ session, seq, problem }: SessionProblem): void {
    this.#say('store.degraded', `session ${session} is damaged at event ${seq}: ${problem}`);
  }

  #say(type: 'store.degraded' | 'store.repaired', reason: string): void {
    this.#waiting = [
      ...this.#waiting,
      { session: SYSTEM_SESSION, type, data: { reason } } as const,
    ].slice(-WAITING_MAX);
    // Behind the commit that is being answered now.
    queueMicrotask(() => background(this.#write(), 'store.announce', this.#deps.logger));
  }

  async #write(): Promise<void> {
    const { append, isWell, onWritten, logger } = this.#deps;
    if (this.#isWriting) return;
    this.#isWriting = true;
    try {
      while (this.#waiting.length > 0 && isWell()) {
        const events = this.#waiting;
        await append({ events });
        this.#waiting = this.#waiting.filter((event) => !events.includes(event));
        onWritten();
      }
    } catch (error) {
      // It is degraded again, and is heard of again when it is well.
      logger.warn('store.announce_later', { error: String(error) });
    } finally {
      this.#isWriting = false;
    }
  }
}
