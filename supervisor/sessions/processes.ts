/** The background processes of one session, as its journal has them: `process.started` before one
 *  runs, exactly one `process.exited` behind it, whoever died in between. They run in the sandbox
 *  host of the session and never outlive it; what an earlier supervisor left without an end is
 *  looked up in the files of that host, once nobody can write them any more. */
import { join } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import { isPrxError, PrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { type EffectId, parseEffectId, type SessionId } from '../../protocol/ids.ts';
import {
  type ProcessEnd,
  type ProcessStart,
  processRecordSchema,
  toProcessFileName,
} from '../../protocol/processes.ts';
import { type SpoolFiles, tailSpool } from '../effects/spool.ts';
import { draft, type SessionJournal } from './journal.ts';

export interface SessionProcesses {
  /** Resolves when the journal has the start. Throws CANCELLED behind the tombstone of its turn,
   *  STORE_DEGRADED: it may not run then. */
  register(start: ProcessStart): Promise<void>;
  /** Journals the end, once. Never rejects.
   *  @param end  absent: its file is read, as soon as nobody can write it any more. */
  settle(call: EffectId, end?: ProcessEnd): Promise<void>;
  /** Those without an end. */
  count(): number;
  /** Resolves when no end is being written. */
  settled(): Promise<void>;
  /** Settles what an earlier supervisor left. */
  resume(): Promise<void>;
  /** What has no end is left to the next opening of the session. */
  close(): void;
}

export interface SessionProcessesDeps {
  readonly session: SessionId;
  readonly stateDir: string;
  readonly journal: Pick<SessionJournal, 'append' | 'record' | 'isStopped'>;
  readonly spools: SpoolFiles;
  readonly hasOrphanWriter: (effect: EffectId) => boolean;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** An end that the journal did not take is written again after this. */
const RETRY_MS = 1000;

export function createSessionProcesses(deps: SessionProcessesDeps): SessionProcesses {
  const { session, journal, clock, logger } = deps;
  const settling = new Map<EffectId, Promise<void>>();
  const closed = new AbortController();

  const listLive = (): readonly EffectId[] =>
    (journal.record().processes ?? []).map(({ call_id: call }) => call);

  async function readEnd(call: EffectId): Promise<ProcessEnd> {
    const end = await tailSpool<never, ProcessEnd>({
      files: deps.spools,
      path: join(deps.stateDir, 'spool', session, toProcessFileName(call)),
      offset: 0,
      classify(value) {
        const line = processRecordSchema.safeParse(value);
        return line.success && line.data.kind === 'end' ? { end: line.data.end } : undefined;
      },
      onProgress: () => Promise.resolve(),
      isWriterAlive: () => deps.hasOrphanWriter(call),
      clock,
      signal: closed.signal,
    });
    return end ?? { reason: 'lost' };
  }

  async function write(call: EffectId, given: ProcessEnd | undefined): Promise<void> {
    if (!listLive().includes(call)) return;
    const end = given ?? (await readEnd(call));
    // Closed while it waited: the next opening of the session reads on.
    const { exceeded } = end;
    while (!closed.signal.aborted) {
      try {
        await journal.append(
          ...(exceeded === undefined ? [] : [draft('limit.exceeded', exceeded)]),
          draft('process.exited', { call_id: call, ...end }, { effect: call }),
        );
        return;
      } catch (error) {
        logger.warn('process.exit_not_journaled', { session, call, error });
        // What fails for another reason fails for good: the store is closed, or the session gone.
        if (!isPrxError(error, 'STORE_DEGRADED')) return;
        await clock.sleep(RETRY_MS, closed.signal);
      }
    }
  }

  function settle(call: EffectId, end?: ProcessEnd): Promise<void> {
    const known = settling.get(call);
    if (known !== undefined) return known;
    const written = write(call, end).finally(() => settling.delete(call));
    settling.set(call, written);
    return written;
  }

  return {
    settle,
    async register(start) {
      const { call_id: call } = start;
      const at = { turn: parseEffectId(call).turn, effect: call };
      // Nothing is reserved behind a tombstone, nor behind the end of the turn.
      if (journal.record().open_turn?.turn !== at.turn || journal.isStopped()) {
        throw new PrxError('CANCELLED', 'the turn was interrupted; nothing was started');
      }
      await journal.append(draft('process.started', start, at));
    },
    count: () => listLive().length,
    async settled() {
      while (settling.size > 0) await Promise.allSettled([...settling.values()]);
    },
    async resume() {
      await Promise.all(listLive().map((call) => settle(call)));
    },
    close: () => closed.abort(),
  };
}
