/** When the workspace of a session is looked through for repositories that became active, and what
 *  its next result says of it. Never while a call runs, which might be in the middle of one. */
import { background } from '../base/background.ts';
import type { Clock, Timer } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { WorkspaceGuard } from './launch/workspace-guard.ts';
import { toWithheldSentence } from './outcome.ts';

/** After a burst of calls, in a pause of the session. */
const SCAN_PAUSE_MS = 1000;

/** And again while something runs that no call ends; of a large workspace more seldom, so that it
 *  takes a twentieth of the time at most. */
const SCAN_REST_MS = 5000;
const SCAN_REST_FACTOR = 20;
const NOTICE_CHARS_MAX = 4000;

export interface ScannerSpec {
  readonly guard: WorkspaceGuard;
  readonly clock: Clock;
  readonly logger: Logger;
}

interface Activity {
  /** No call runs. */
  isIdle(): boolean;
  hasProcesses(): boolean;
}

/** Scans when no call runs; what it put aside is said with the next result. */
export function createScanner({ guard, clock, logger }: ScannerSpec, activity: Activity) {
  let timer: Timer | undefined;
  let notice = '';
  let isDue = false;
  let scanning: Promise<unknown> = Promise.resolve();

  async function scan(): Promise<void> {
    timer?.cancel();
    // Who ends the host waits for a scan that has begun: it has found and not yet renamed.
    await scanning;
    if (!isDue) return;
    isDue = false;
    const current = look();
    scanning = Promise.allSettled([current]);
    await current;
  }

  async function look(): Promise<void> {
    const withheld = await guard.scan();
    if (withheld.length === 0) return;
    logger.warn('sandbox.withheld', { withheld });
    if (notice.length < NOTICE_CHARS_MAX) {
      notice = [notice, toWithheldSentence(withheld)].filter((text) => text !== '').join(' ');
    }
  }

  function scanLater(pauseMs = SCAN_PAUSE_MS): void {
    isDue = true;
    timer?.cancel();
    timer = clock.setTimer(pauseMs, () => {
      if (activity.isIdle()) background(scanOnTime(), 'sandbox.scan', logger);
    });
  }

  async function scanOnTime(): Promise<void> {
    const startMs = clock.nowMs();
    await scan();
    const restMs = Math.max(SCAN_REST_MS, SCAN_REST_FACTOR * (clock.nowMs() - startMs));
    if (activity.isIdle() && activity.hasProcesses()) scanLater(restMs);
  }

  return {
    scan,
    scanLater,
    takeNotice(): string {
      const said = notice;
      notice = '';
      return said;
    },
  };
}
