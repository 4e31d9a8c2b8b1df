/** What makes a stored event tamper-evident. Each row carries a CRC-32 of its own fields, which
 *  every read checks, and a link of its session's hash chain: sha-256 over the previous link and
 *  the same fields, cut to 132 bits. A flipped bit fails the CRC; a row that was removed, moved
 *  or replaced as a whole breaks the chain. SQLite has no page checksums of its own. */
import { PrxError, toPrxError } from '../base/errors.ts';
import type { SessionProblem } from './contract.ts';
import { findTrouble } from './sqlite.ts';

/** One row of the table `events`. */
export interface EventRow {
  readonly id: number;
  readonly session: string;
  readonly seq: number;
  readonly epoch: number;
  readonly time_ms: number;
  readonly type: string;
  readonly turn: number | null;
  readonly ref: string | null;
  /** 1: a power-durable event. */
  readonly power: number;
  readonly crc: number;
  readonly hash: string;
  readonly data: string;
}

export type SealedFields = Pick<
  EventRow,
  'session' | 'seq' | 'epoch' | 'time_ms' | 'type' | 'turn' | 'ref' | 'power' | 'data'
>;

/** The chain's link before the first event. */
export const CHAIN_START = '';

const LINK_CHARS = 22;

/** No field before `data` can hold a line feed, so the text is unambiguous. */
function toText(row: SealedFields): string {
  const { session, seq, epoch, time_ms, type, turn, ref, power, data } = row;
  const place = `${session}\n${seq}\n${epoch}\n${time_ms}`;
  return `${place}\n${type}\n${turn ?? ''}\n${ref ?? ''}\n${power}\n${data}`;
}

/** CRC and link of a row that follows the link `previous`. */
export function seal(row: SealedFields, previous: string): { crc: number; hash: string } {
  const text = toText(row);
  return { crc: crc32(text), hash: chain(text, previous) };
}

/** Both built-ins take 6 ms to load in a thread, and opening the journal needs neither: so they
 *  are looked up where they are used (0.07 us), not imported. */
function crc32(text: string): number {
  return process.getBuiltinModule('node:zlib').crc32(text);
}

/** The link of `text` behind the link `previous`. */
export function chain(text: string, previous: string): string {
  const { hash } = process.getBuiltinModule('node:crypto');
  return hash('sha256', `${previous}\n${text}`, 'base64url').slice(0, LINK_CHARS);
}

/** What is wrong with a row, or undefined. `previous`: the link before it, where it is known. */
export function findDamage(row: EventRow, previous: string | undefined): string | undefined {
  const text = toText(row);
  if (crc32(text) !== row.crc) return 'its checksum does not match its content';
  if (previous !== undefined && chain(text, previous) !== row.hash) {
    return 'its hash does not continue the chain of its session';
  }
  return undefined;
}

/** Throws STORE_CORRUPT when the row is damaged. */
export function checkRow(row: EventRow, previous?: string): void {
  const damage = findDamage(row, previous);
  if (damage !== undefined) throw corruptError(row.session, row.seq, damage);
}

export function corruptError(
  session: string,
  seq: number,
  problem: string,
  more: Readonly<Record<string, unknown>> = {},
): PrxError {
  return new PrxError(
    'STORE_CORRUPT',
    `event ${seq} of ${session} is damaged: ${problem}; stop the supervisor and run ` +
      '`prx-supervisor journal repair`, restore a backup, or remove this session',
    { data: { session, seq, problem, ...more } },
  );
}

/** What a read of a session threw, as a problem of that session; thrown again when it is none. A
 *  page that SQLite cannot read is one: it names no event. */
export function toProblem(session: string, error: unknown): SessionProblem {
  const { code, data, message } = toPrxError(error);
  if (code === 'STORE_CORRUPT') {
    const seq = Number(data['seq'] ?? 0);
    return { session, seq, problem: String(data['problem'] ?? message) };
  }
  if (findTrouble(error) !== 'corrupt') throw error;
  return { session, seq: 0, problem: `its pages in the file cannot be read: ${message}` };
}

/** CRC of a session row: its projection as text. */
export function recordCrc(session: string, record: string): number {
  return crc32(`${session}\n${record}`);
}
