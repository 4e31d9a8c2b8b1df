/** The audit log: one JSON line for each request that changes something, before its answer, and
 *  for each that was refused: when, who, by which token, what, on what, with which status. No
 *  content: no body, no query, no token. What was done is in the journal as well; a request that
 *  failed, or a supervisor's own actions (reload, tokens), would be nowhere else. */
import { appendBounded } from '../base/bounded-file.ts';
import { type Clock, toTimestamp } from '../base/clock.ts';
import { systemCode } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';

export interface AuditEntry {
  /** `socket`, `token:<name>`, `anonymous`; `refused`: nobody we know, or without the right. */
  readonly by: string;
  /** The first digits of its SHA-256. */
  readonly token?: string;
  /** Absent: the unix socket. */
  readonly address?: string;
  /** The operation, as /openapi.json names it. */
  readonly route: string;
  /** Of a WebSocket, the type of the message. */
  readonly message?: string;
  /** The path's parameters that say so of what; the router takes none longer than 512. */
  readonly on?: Readonly<Record<string, string>>;
  /** What was made. */
  readonly created?: string;
  readonly status: number;
  /** Of the problem. */
  readonly code?: string;
  readonly request_id?: string;
}

export interface Audit {
  /** Never throws: a full disk stops nobody from stopping a session. Then the log says it. */
  note(entry: AuditEntry): void;
}

const BYTES_MAX = 16 * 1024 * 1024;
const FINGERPRINT_CHARS = 12;
const TARGET_CHARS_MAX = 512;

/** What names a token where people read it. */
export function toFingerprint(sha256: string): string {
  return sha256.slice(0, FINGERPRINT_CHARS);
}

/** @param file  two of at most 16 MiB, the present one and `FILE.1`; undefined: nothing is kept. */
export function createAudit(
  file: string | undefined,
  { clock, logger }: { readonly clock: Pick<Clock, 'wallMs'>; readonly logger: Logger },
): Audit {
  let failing: string | undefined;
  return {
    note(entry) {
      if (file === undefined) return;
      const line = { time: toTimestamp(clock.wallMs()), ...entry };
      try {
        appendBounded(file, `${JSON.stringify(line)}\n`, BYTES_MAX);
        failing = undefined;
      } catch (error) {
        const code = systemCode(error) ?? 'unknown';
        if (code !== failing) logger.error('audit.failed', { file, code });
        failing = code;
      }
    },
  };
}

/** Of a link, the token is in the path: only what is listed here may stand in a line. */
const targets = ['id', 'call_id', 'name', 'rule', 'decision'] as const;

/** @param params  of a path, or the fields of a message. */
export function toTarget(params: unknown): Pick<AuditEntry, 'on'> {
  const given = (params ?? {}) as Readonly<Record<string, unknown>>;
  const pairs = targets.flatMap((name) => {
    const value = given[name];
    return typeof value === 'string' && value.length <= TARGET_CHARS_MAX ? [[name, value]] : [];
  });
  return pairs.length === 0 ? {} : { on: Object.fromEntries(pairs) as Record<string, string> };
}
