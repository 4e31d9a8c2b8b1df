/** The file in which a tool call's own process writes what came of it before anybody hears it. */
import { type AppendLog, openAppendLog } from '../base/append-log.ts';
import { systemCode } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { ToolSpoolRecord } from '../protocol/sandbox-methods.ts';

export interface Spool {
  readonly kind: 'open';
  /** Returns the offset behind the record; after a failure the last good one. */
  append(record: ToolSpoolRecord): number;
  finish(record: ToolSpoolRecord): void;
}

/** A call without a spool file has never begun: that is how its asker knows, whoever died. So one
 *  whose file cannot be made is not run. A disk that is full later on stops nothing: the answer
 *  then stands in the journal only. */
export function openSpool(
  path: string,
  logger: Logger,
  isOrphaned: () => boolean,
): Spool | { readonly kind: 'refused'; readonly message: string } {
  let log: AppendLog;
  try {
    log = openAppendLog(path);
  } catch (error) {
    logger.error('spool.open_failed', { path, error });
    const reason = systemCode(error) ?? 'unknown';
    const message = `The call was not started: its record could not be made (${reason}). Nothing ran.`;
    return { kind: 'refused', message };
  }
  let offset = 0;
  let failed = false;

  function attempt(act: () => void): void {
    if (failed) return;
    try {
      act();
    } catch (error) {
      failed = true;
      logger.error('spool.write_failed', { path, error });
    }
  }

  return {
    kind: 'open',
    append(record) {
      attempt(() => {
        offset = log.append(record);
      });
      return offset;
    },
    finish(record) {
      attempt(() => {
        log.append(record);
        // A supervisor that hears the outcome syncs it in its journal.
        if (isOrphaned()) log.sync();
      });
      failed = false;
      attempt(() => log.close());
    },
  };
}
