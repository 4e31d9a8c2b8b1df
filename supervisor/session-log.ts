/** The log of a session: each line has the session and its turn, goes where all lines go, and, of
 *  every level, into a file of the session's worker: logs/SESSION/worker.log in the state
 *  directory. What its processes write to stderr is in there. The file is bounded in size, and a
 *  flood in its rate: what is beyond is counted, and the count is a line. A file that cannot be
 *  written keeps nobody from working. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { appendBounded } from '../base/bounded-file.ts';
import type { Clock } from '../base/clock.ts';
import { systemCode } from '../base/errors.ts';
import { createLogger, type LogFields, type Logger, teeLoggers } from '../base/logger.ts';

export interface SessionLogDeps {
  readonly stateDir: string;
  readonly clock: Pick<Clock, 'nowMs'>;
  readonly logger: Logger;
  /** A line without what must not be in it. */
  readonly redact: (line: string) => string;
}

/** @param turn  the number of the session's newest turn. */
export type OpenSessionLog = (session: string, turn: () => number) => Logger;

/** Of one file; the one before is kept beside it. */
const BYTES_MAX = 1024 * 1024;
const LINES_MAX = 200;
const WINDOW_MS = 1000;

export function toSessionLogDir(stateDir: string, session: string): string {
  return join(stateDir, 'logs', session);
}

export function createSessionLogs(deps: SessionLogDeps): OpenSessionLog {
  const { logger, redact } = deps;
  let failing: string | undefined;

  /** Said when the reason changes, not for each line. */
  function hear(code: string | undefined): void {
    if (code !== undefined && code !== failing) logger.warn('log.file_failed', { code });
    failing = code;
  }

  return (session, turn) => {
    const append = createAppend(deps, session, hear);
    const bindings = (): LogFields => ({ session, turn: turn() });
    const say = (lines: number): void => file.warn('log.unsaid', { lines });
    const write = limitRate(deps, append, say);
    const file = createLogger('supervisor', 'debug', { redact, write }).child(bindings);
    return teeLoggers(logger.child(bindings), file);
  };
}

function createAppend(
  { stateDir }: SessionLogDeps,
  session: string,
  hear: (code: string | undefined) => void,
): (text: string) => void {
  const folder = toSessionLogDir(stateDir, session);
  let isMade = false;
  return (text) => {
    try {
      if (!isMade) mkdirSync(folder, { recursive: true, mode: 0o700 });
      isMade = true;
      appendBounded(join(folder, 'worker.log'), text, BYTES_MAX);
      hear(undefined);
    } catch (error) {
      const code = systemCode(error) ?? 'unknown';
      // Removed with its session: the last words of its processes are nobody's.
      if (code !== 'ENOENT') hear(code);
    }
  };
}

function limitRate(
  { clock }: SessionLogDeps,
  append: (text: string) => void,
  say: (unsaid: number) => void,
): (line: string) => void {
  let windowMs = Number.NEGATIVE_INFINITY;
  let lines = 0;
  let unsaid = 0;
  return (line) => {
    const nowMs = clock.nowMs();
    if (nowMs - windowMs >= WINDOW_MS) [windowMs, lines] = [nowMs, 0];
    if (lines >= LINES_MAX) {
      unsaid += 1;
      return;
    }
    lines += 1;
    const before = unsaid;
    unsaid = 0;
    if (before > 0) say(before);
    append(line);
  };
}
