/** What goes on behind the journal while it serves: checkpoints, and one full verification after
 *  each start. Both run on the reader threads and give way to everything else. */
import { background } from '../base/background.ts';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { VerifyReport } from './contract.ts';
import type {
  CheckpointReport,
  Problem,
  ReaderTasks,
  VerifyReportStep,
  VerifyStep,
} from './thread-protocol.ts';

/** Written since the last checkpoint: about what SQLite's own default is (1000 pages). */
const CHECKPOINT_BYTES = 4 * 1024 * 1024;
/** The log cannot begin anew while somebody reads an old state of it (a copy made by hand, a query
 *  left open in another program; our own reads are short). Beyond this it is told. */
const HELD_BYTES_MAX = 64 * 1024 * 1024;
const PAGE_BYTES = 4096;
const STEP_EVENTS = 2000;
/** The verification in the background rests four times as long as it works. */
const REST_SHARE = 4;
const PROBLEMS_MAX = 1000;

export interface UpkeepDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly read: <T>(kind: keyof ReaderTasks, input: ReaderTasks[keyof ReaderTasks]) => Promise<T>;
  readonly onProblem: (problem: Problem) => void;
}

export class Upkeep {
  readonly #deps: UpkeepDeps;
  readonly #closed = new AbortController();
  #checkpointedBytes = 0;
  #isCheckpointing = false;
  #isHeld = false;

  constructor(deps: UpkeepDeps) {
    this.#deps = deps;
  }

  /** @param writtenBytes  since the journal was opened. */
  onWritten(writtenBytes: number): void {
    if (this.#isCheckpointing || this.#closed.signal.aborted) return;
    if (writtenBytes - this.#checkpointedBytes < CHECKPOINT_BYTES) return;
    this.#checkpointedBytes = writtenBytes;
    background(this.checkpoint('PASSIVE'), 'store.checkpoint', this.#deps.logger);
  }

  async checkpoint(mode: 'PASSIVE' | 'TRUNCATE'): Promise<void> {
    this.#isCheckpointing = true;
    try {
      const report = await this.#deps.read<CheckpointReport>('checkpoint', { mode });
      if (this.#judge(report)) await this.#deps.read('checkpoint', { mode: 'TRUNCATE' });
    } finally {
      this.#isCheckpointing = false;
    }
  }

  /** @returns true when a log that had grown is free again: it is to give its space back. */
  #judge({ heldPages }: CheckpointReport): boolean {
    const { logger } = this.#deps;
    const bytes = heldPages * PAGE_BYTES;
    if (!this.#isHeld && bytes > HELD_BYTES_MAX) {
      this.#isHeld = true;
      logger.warn('store.log_held', { bytes, max: HELD_BYTES_MAX, file: 'journal.db-wal' });
    }
    if (!this.#isHeld || heldPages > 0) return false;
    this.#isHeld = false;
    logger.info('store.log_free', {});
    return true;
  }

  /** Verifies one session or all. `rest`: with pauses, and until close() only. */
  async verify(session: string | undefined, rest: boolean): Promise<VerifyReport> {
    const sessions =
      session === undefined ? await this.#deps.read<string[]>('verifyList', null) : [session];
    const problems: Problem[] = [];
    let events = 0;
    for (const each of sessions) {
      const found = await this.#verifySession(each, rest);
      events += found.events;
      if (problems.length < PROBLEMS_MAX) problems.push(...found.problems);
      if (rest && this.#closed.signal.aborted) break;
    }
    return { sessions: sessions.filter((each) => each !== 'system').length, events, problems };
  }

  verifyInBackground(): void {
    const work = this.verify(undefined, true).then(({ problems }) => {
      for (const problem of problems) this.#deps.onProblem(problem);
    });
    const untilClosed = work.catch((error: unknown) => {
      // The readers are gone then.
      if (!this.#closed.signal.aborted) throw error;
    });
    background(untilClosed, 'store.verify', this.#deps.logger);
  }

  close(): void {
    this.#closed.abort();
  }

  async #verifySession(
    session: string,
    rest: boolean,
  ): Promise<{ events: number; problems: readonly Problem[] }> {
    const { clock, read } = this.#deps;
    let next: VerifyStep | undefined = {
      session,
      seq: 0,
      link: '',
      record: null,
      limit: STEP_EVENTS,
    };
    let events = 0;
    while (next !== undefined) {
      const startedMs = clock.nowMs();
      const step: VerifyReportStep = await read<VerifyReportStep>('verify', next);
      events += step.events;
      if (step.problems.length > 0) return { events, problems: step.problems };
      next = step.next;
      if (!rest) continue;
      await clock.sleep((clock.nowMs() - startedMs) * REST_SHARE, this.#closed.signal);
      if (this.#closed.signal.aborted) break;
    }
    return { events, problems: [] };
  }
}
