/** JSON-line logs through pino: an event name and fields, no prose, no secrets. Logs go to stderr
 *  (stdout belongs to protocols and command output). */
import { destination, type Level, pino } from 'pino';
import { realClock, toTimestamp } from './clock.ts';

export interface LogFields {
  readonly [key: string]: unknown;
}

export interface Logger {
  error(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  debug(event: string, fields?: LogFields): void;
  child(bindings: LogFields): Logger;
}

export type LogLevel = 'error' | 'warn' | 'info' | 'debug' | 'silent';

interface PinoLike {
  error(fields: object, event: string): void;
  warn(fields: object, event: string): void;
  info(fields: object, event: string): void;
  debug(fields: object, event: string): void;
  child(bindings: object): PinoLike;
}

function wrap(inner: PinoLike): Logger {
  return {
    error: (event, fields = {}) => inner.error(fields, event),
    warn: (event, fields = {}) => inner.warn(fields, event),
    info: (event, fields = {}) => inner.info(fields, event),
    debug: (event, fields = {}) => inner.debug(fields, event),
    child: (bindings) => wrap(inner.child(bindings)),
  };
}

/** A logger of the given level that writes to file descriptor 2, synchronously: the last line
 *  before a crash is not lost. `room` stands on every line. */
export function createLogger(room: string, level: LogLevel): Logger {
  const options = {
    level: level as Level | 'silent',
    base: { room, pid: process.pid },
    messageKey: 'event',
    timestamp: () => `,"time":"${toTimestamp(realClock.wallMs())}"`,
    formatters: { level: (label: string) => ({ level: label }) },
    serializers: { error: serializeError },
  };
  return wrap(pino(options, destination({ dest: 2, sync: true })));
}

/** A logger that writes nothing, for tests and one-shot commands. */
export const silentLogger: Logger = {
  error: () => undefined,
  warn: () => undefined,
  info: () => undefined,
  debug: () => undefined,
  child: () => silentLogger,
};

function serializeError(error: unknown): unknown {
  if (!(error instanceof Error)) return String(error);
  const code = 'code' in error ? error.code : undefined;
  return { name: error.name, code, message: error.message, stack: error.stack };
}
