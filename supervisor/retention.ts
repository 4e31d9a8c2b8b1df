/** What is kept, and for how long: closed sessions go as a whole when nothing happened in them for
 *  `store.retention_days`; of long ones the first events go, behind a snapshot, beyond
 *  `store.retention_events`. Both are off by default. Sessions go by the wall clock, so one that
 *  jumped removes nothing for a day: time enough for a person to see it. One that jumped while
 *  nobody ran shows as a long absence, and so counts that. */
import { background } from '../base/background.ts';
import type { Clock, Timer } from '../base/clock.ts';
import { isPrxError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { SYSTEM_SESSION } from '../protocol/events.ts';
import type { Store } from '../store/contract.ts';
import type { Supervisor } from './index.ts';

export interface RetentionSettings {
  /** Days; 0: for ever. */
  readonly retention_days: number;
  /** Events of one session; 0: all. */
  readonly retention_events: number;
}

export interface RetentionDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly store: Pick<Store, 'listExpired' | 'trim' | 'readEvents'>;
  readonly supervisor: Pick<Supervisor, 'deleteSession'>;
  readonly settings: () => RetentionSettings;
}

export interface Retention {
  /** One round; what the timer does. @returns how many sessions were removed. */
  sweep(): Promise<number>;
  stop(): void;
}

/** After the rush of a start. */
const FIRST_MS = 60_000;
const INTERVAL_MS = 3_600_000;
/** Sessions removed in one round: removing is work, and a mistake should be noticed in time. */
const SESSIONS_MAX = 100;
const DAY_MS = 86_400_000;
/** The wall clock and the monotonic one part by more: it was set, or the machine slept. */
const JUMP_MS_MIN = 3_600_000;

export function startRetention(deps: RetentionDeps): Retention {
  const { clock, logger } = deps;
  let offsetMs = clock.wallMs() - clock.nowMs();
  let notBeforeMs = 0;
  let isStopped = false;
  let isMinded = false;
  // Asked for now: what is written from here on is of this supervisor. Unknown, it may be long.
  const absence = readAbsence(deps).catch(() => DAY_MS);
  let timer: Timer = clock.setTimer(FIRST_MS, next);

  function next(): void {
    if (isStopped) return;
    background(sweep(), 'retention.sweep', logger);
    timer = clock.setTimer(INTERVAL_MS, next);
  }

  async function sweep(): Promise<number> {
    const { retention_days: days, retention_events: events } = deps.settings();
    if (events > 0) {
      const trimmed = await deps.store.trim(events);
      if (trimmed.sessions > 0) logger.info('retention.trimmed', trimmed);
    }
    watchClock();
    await mindAbsence();
    if (days === 0 || clock.nowMs() < notBeforeMs) return 0;
    return removeExpired(deps, clock.wallMs() - days * DAY_MS);
  }

  function watchClock(): void {
    const nowOffsetMs = clock.wallMs() - clock.nowMs();
    const jumpMs = nowOffsetMs - offsetMs;
    offsetMs = nowOffsetMs;
    if (Math.abs(jumpMs) < JUMP_MS_MIN) return;
    notBeforeMs = clock.nowMs() + DAY_MS;
    logger.warn('clock.jumped', { jump_ms: Math.round(jumpMs) });
  }

  async function mindAbsence(): Promise<void> {
    const awayMs = await absence;
    if (isMinded || awayMs < DAY_MS) return;
    isMinded = true;
    notBeforeMs = clock.nowMs() + DAY_MS;
    logger.warn('clock.may_have_jumped', { away_ms: Math.round(awayMs) });
  }

  return {
    sweep,
    stop() {
      isStopped = true;
      timer.cancel();
    },
  };
}

/** Since the newest event of the last supervisor, ms by the wall clock; 0: there was none. */
async function readAbsence({ store, clock }: RetentionDeps): Promise<number> {
  const nowMs = clock.wallMs();
  const { last_seq: last } = await store.readEvents(SYSTEM_SESSION, { since: 0, limit: 1 });
  const since = Math.max(0, last - 1);
  const [newest] = (await store.readEvents(SYSTEM_SESSION, { since, limit: 1 })).events;
  return newest === undefined ? 0 : nowMs - Date.parse(newest.time);
}

async function removeExpired(
  { store, supervisor, logger }: RetentionDeps,
  beforeMs: number,
): Promise<number> {
  let count = 0;
  for (const id of await store.listExpired(beforeMs, SESSIONS_MAX)) {
    try {
      // Somebody may have opened it again since it was listed.
      await supervisor.deleteSession(id, 'retention', 'stopped');
      count += 1;
    } catch (error) {
      if (!isPrxError(error)) throw error;
      logger.warn('retention.kept', { session: id, error: error.message });
    }
  }
  if (count > 0) logger.info('retention.removed', { sessions: count });
  return count;
}
