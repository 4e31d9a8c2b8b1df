/** Which sessions are known to be damaged. A damaged session refuses appends, because nothing may
 *  be folded or chained behind what cannot be trusted; all others go on. The system's own session
 *  is named like any other but is written on: nothing folds it, its newest link is a fact whatever
 *  stands before it, and it is where the damage is told. */
import { type PrxError, toPrxError } from '../base/errors.ts';
import type { NewEvent, SessionProblem } from './contract.ts';
import { SYSTEM } from './fold-row.ts';
import { corruptError } from './integrity.ts';

/** More are counted by the verification, not remembered. */
const SESSIONS_MAX = 10_000;

export class DamageList {
  readonly #problems = new Map<string, SessionProblem>();
  readonly #onFound: (problem: SessionProblem) => void;

  constructor(onFound: (problem: SessionProblem) => void) {
    this.#onFound = onFound;
  }

  /** The first problem of a session stands. */
  report(problem: SessionProblem): void {
    if (this.#problems.has(problem.session) || this.#problems.size >= SESSIONS_MAX) return;
    this.#problems.set(problem.session, problem);
    this.#onFound(problem);
  }

  /** Notes what an error says of a damaged session, if it does. */
  hear(error: unknown): void {
    const { code, data } = toPrxError(error);
    const { session, seq, problem } = data;
    if (code !== 'STORE_CORRUPT' || typeof session !== 'string') return;
    this.report({ session, seq: Number(seq), problem: String(problem) });
  }

  /** Why these events may not be appended; undefined: they may. */
  findRefusal(events: readonly NewEvent[]): PrxError | undefined {
    if (this.#problems.size === 0) return undefined;
    for (const { session } of events) {
      const found = session === SYSTEM ? undefined : this.#problems.get(session);
      if (found !== undefined) return corruptError(session, found.seq, found.problem);
    }
    return undefined;
  }

  forget(session: string): void {
    this.#problems.delete(session);
  }

  list(): readonly SessionProblem[] {
    return [...this.#problems.values()];
  }
}
