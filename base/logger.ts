/** Logs through pino: an event name and fields, no prose, no secrets. Logs go to stderr (stdout
 *  belongs to protocols and command output), one line each: a JSON object, or the same as text. */
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
  /** @param bindings  stand on every line; a function is asked anew for each. */
  child(bindings: LogFields | (() => LogFields)): Logger;
}

export type LogLevel = 'error' | 'warn' | 'info' | 'debug' | 'silent';
export type LogFormat = 'json' | 'text';

export interface LogOptions {
  /** Absent: json. */
  readonly format?: LogFormat;
  /** The line without what must not be in it. */
  readonly redact?: (line: string) => string;
  /** Where lines go, each with its end; absent: file descriptor 2, synchronously, so that the last
   *  line before a crash is not lost. */
  readonly write?: (line: string) => void;
}

interface PinoLike {
  error(fields: object, event: string): void;
  warn(fields: object, event: string): void;
  info(fields: object, event: string): void;
  debug(fields: object, event: string): void;
}

/** Bindings are put in here and not by pino, which would write a name twice. A line below the level
 *  costs its bindings. */
function wrap(inner: PinoLike, bound: () => LogFields): Logger {
  return {
    error: (event, fields) => inner.error({ ...bound(), ...fields }, event),
    warn: (event, fields) => inner.warn({ ...bound(), ...fields }, event),
    info: (event, fields) => inner.info({ ...bound(), ...fields }, event),
    debug: (event, fields) => inner.debug({ ...bound(), ...fields }, event),
    child: (bindings) =>
      wrap(inner, () => ({
        ...bound(),
        ...(typeof bindings === 'function' ? bindings() : bindings),
      })),
  };
}

/** A logger of the given level. `room` stands on every line. */
export function createLogger(room: string, level: LogLevel, options: LogOptions = {}): Logger {
  const { format = 'json', redact = (line) => line } = options;
  const sink = options.write === undefined ? destination({ dest: 2, sync: true }) : undefined;
  const write = options.write ?? ((line) => sink?.write(line));
  const settings = {
    level: level as Level | 'silent',
    base: null,
    messageKey: 'event',
    timestamp: () => `,"time":"${toTimestamp(realClock.wallMs())}"`,
    formatters: { level: (label: string) => ({ level: label }) },
    serializers: { error: serializeError },
  };
  const toLine = format === 'json' ? (line: string) => line : toText;
  const inner = pino(settings, { write: (line) => write(toLine(redact(line))) });
  const own = { room, pid: process.pid };
  return wrap(inner, () => own);
}

/** Each line to both. */
export function teeLoggers(one: Logger, other: Logger): Logger {
  const both =
    (level: 'error' | 'warn' | 'info' | 'debug') =>
    (event: string, fields?: LogFields): void => {
      one[level](event, fields);
      other[level](event, fields);
    };
  return {
    error: both('error'),
    warn: both('warn'),
    info: both('info'),
    debug: both('debug'),
    child: (bindings) => teeLoggers(one.child(bindings), other.child(bindings)),
  };
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

/** A JSON line for people: a value that is not one plain word is JSON, so that nothing that is
 *  logged can look like a line, or like a field, of its own. */
export function toText(line: string): string {
  const { level, time, event, room, pid: _, ...fields } = JSON.parse(line) as LogFields;
  const facts = Object.entries({ room, ...fields }).map(
    ([key, value]) => `${key}=${toWord(value)}`,
  );
  return `${[time, String(level).toUpperCase().padEnd(5), event, ...facts].join(' ')}\n`;
}

function toWord(value: unknown): string {
  const isPlain = typeof value === 'string' && /^[\w.:/@+-]+$/.test(value);
  return isPlain ? value : (JSON.stringify(value) ?? '');
}
