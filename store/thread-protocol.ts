/** What the main thread and the store's threads say to each other. Plain data; an event's content
 *  crosses as the JSON text that is stored, so that it is written once and read once. */
import { type ErrorCode, isErrorCode, PrxError, toPrxError } from '../base/errors.ts';
import type { SessionProblem, SessionRecord, TurnRange } from './contract.ts';
import type { SnapshotRow } from './snapshot.ts';
import { findTrouble } from './sqlite.ts';

export interface WireEvent {
  readonly session: string;
  readonly type: string;
  readonly turn: number | null;
  readonly ref: string | null;
  readonly power: boolean;
  readonly data: string;
}

export interface WireRequest {
  readonly timeMs: number;
  readonly events: readonly WireEvent[];
  readonly unique: { readonly scope: string; readonly key: string; readonly digest: string } | null;
}

/** An error as data: an Error loses its class and fields on the way between threads. */
export interface WireError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly data: Readonly<Record<string, unknown>>;
  /** Undefined: no trouble with the file, the request itself was refused. */
  readonly trouble: 'full' | 'fatal' | 'corrupt' | 'busy' | undefined;
}

export type Reply<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly error: WireError };

/** Faults for tests, applied inside the writer. */
export interface WriterFaults {
  /** Added before each sync, ms. */
  readonly syncDelayMs?: number;
  /** One Int32: so many syncs may be done, the next one waits until it is raised. */
  readonly syncsAllowed?: SharedArrayBuffer;
  /** This sync (1, 2, …) fails as a broken disk does. */
  readonly failSyncAt?: number;
  /** The database's operations at, at + 1, … fail with this result code of SQLite. */
  readonly failOperation?: {
    readonly at: number;
    readonly count: number;
    readonly errcode: number;
  };
  /** The journal may not grow beyond this, pages of 4 KiB: a full disk. */
  readonly pagesMax?: number;
}

export interface WriterOptions {
  readonly path: string;
  readonly bootId: string;
  readonly faults: WriterFaults;
}

export type Problem = SessionProblem;

export interface CheckpointReport {
  /** Pages that stay in the log because somebody reads an older state. */
  readonly heldPages: number;
}

/** What the writer found when it opened the journal. */
export interface OpenReport {
  readonly epoch: number;
  /** Every power-durable event up to this id is synced. */
  readonly safeId: number;
  readonly wasClean: boolean;
}

export type Outcome =
  | { readonly kind: 'appended'; readonly seqs: readonly number[]; readonly id: number }
  | {
      readonly kind: 'duplicate';
      /** The first claim's event, as JSON. */
      readonly event: string;
      readonly id: number;
      readonly sameDigest: boolean;
    }
  | { readonly kind: 'refused'; readonly error: WireError };

export interface CommitReport {
  readonly outcomes: readonly Outcome[];
  readonly safeId: number;
  /** Bytes of events written since the journal was opened: when to checkpoint. */
  readonly writtenBytes: number;
}

export interface ForkStep {
  readonly from: string;
  readonly to: string;
  /** Copy up to this sequence number. */
  readonly seq: number;
  readonly name: string | null;
  /** The copy's own private workspace; null: it works in the original's folder. */
  readonly workspace: string | null;
  readonly timeMs: number;
  /** What the step before returned; null at first. */
  readonly record: SessionRecord | null;
}

/** `done` false: the same task again, with what it returned. Each step is short, so that no
 *  session waits behind another one's removal or copy. */
export interface StepReport<T> {
  readonly done: boolean;
  readonly value: T;
}

/** Tasks of the writer and what each answers. */
export interface WriterTasks {
  readonly open: readonly [WriterOptions, OpenReport];
  /** Checks the newest events of unfinished sessions. */
  readonly tails: readonly [null, readonly Problem[]];
  readonly commit: readonly [readonly WireRequest[], CommitReport];
  /** The same, answered when it is synced: who needs both wakes this thread, and is woken, once. */
  readonly commitSynced: readonly [readonly WireRequest[], CommitReport];
  /** Answers when everything committed before is synced; with the highest such id. */
  readonly sync: readonly [null, number];
  readonly probe: readonly [null, null];
  readonly delete: readonly [string, StepReport<null>];
  readonly fork: readonly [ForkStep, StepReport<SessionRecord>];
  /** Removes the events up to a snapshot. */
  readonly trim: readonly [SnapshotRow, StepReport<null>];
  readonly putProcess: readonly [readonly (string | number | null)[], null];
  readonly removeProcess: readonly [readonly [number, number], null];
  /** Gives memory back. */
  readonly shrink: readonly [null, null];
  readonly close: readonly [null, null];
}

export interface TrimTarget {
  readonly session: string;
  /** How many it holds. */
  readonly events: number;
}

/** What may be removed of a session: the events up to `seq`. */
export interface TrimPoint {
  readonly session: string;
  readonly seq: number;
  readonly forkFrom: number;
}

export interface TrimStep {
  readonly point: TrimPoint;
  readonly step: VerifyStep;
}

export type TrimReport =
  | { readonly kind: 'next'; readonly step: VerifyStep }
  | { readonly kind: 'damaged'; readonly problem: Problem }
  /** The session was removed meanwhile. */
  | { readonly kind: 'gone' }
  | { readonly kind: 'done'; readonly snapshot: SnapshotRow; readonly events: number };

export interface WireExport {
  /** Null: all sessions, in commit order. */
  readonly session: string | null;
  /** Behind this place; 0: from the first. */
  readonly after: number;
  readonly limit: number;
  /** What repairs took out, instead of the journal. */
  readonly aside: boolean;
}

export interface WireBackup {
  readonly path: string;
  readonly stateDir: string;
  readonly createdAt: string;
}

export interface WireReadOptions {
  readonly session: string;
  readonly since: number;
  readonly epoch: number | null;
  readonly limit: number;
  readonly types: readonly string[] | null;
}

export interface VerifyStep {
  readonly session: string;
  /** Checked up to here. */
  readonly seq: number;
  readonly link: string;
  readonly record: SessionRecord | null;
  /** How many events one step may check. */
  readonly limit: number;
}

export interface VerifyReportStep {
  /** Undefined: the session is checked to its end. */
  readonly next: VerifyStep | undefined;
  readonly events: number;
  readonly problems: readonly Problem[];
}

/** Questions to a reader and what each answers, as JSON text. */
export interface ReaderTasks {
  readonly events: WireReadOptions;
  readonly all: { readonly cursor: string | null; readonly limit: number };
  readonly history: string;
  readonly effect: { readonly session: string; readonly effect: string };
  readonly turn: TurnRange & { readonly session: string };
  readonly spoolOffset: {
    readonly session: string;
    readonly effect: string;
    readonly attempt: number;
  };
  readonly claim: { readonly scope: string; readonly key: string };
  readonly input: { readonly session: string; readonly input: string };
  readonly session: string;
  readonly census: null;
  readonly sessions: {
    readonly states: readonly string[] | null;
    readonly workspace: string | null;
    readonly name: string | null;
    readonly labels: Readonly<Record<string, string>>;
  };
  /** Sessions by state. */
  readonly counts: null;
  readonly resolve: string;
  readonly unfinished: null;
  readonly processes: null;
  readonly verifyList: null;
  readonly verify: VerifyStep;
  readonly export: WireExport;
  readonly expired: { readonly beforeMs: number; readonly limit: number };
  readonly trimTargets: number;
  readonly trimPoint: { readonly session: string; readonly keep: number };
  readonly trim: TrimStep;
  readonly backup: WireBackup;
  /** Gives memory back. */
  readonly shrink: null;
  readonly checkpoint: { readonly mode: 'PASSIVE' | 'TRUNCATE' };
}

export interface ReadReport {
  readonly json: string;
  /** The answer shows nothing newer than this power-durable event: it waits for its sync. */
  readonly powerId: number;
}

export type Task<Tasks, Kind extends keyof Tasks = keyof Tasks> = {
  readonly [K in Kind]: {
    readonly kind: K;
    readonly input: Tasks[K] extends readonly [infer Input, unknown] ? Input : Tasks[K];
    /** Readers: what is known to be synced. */
    readonly safeId?: number;
  };
}[Kind];

/** Runs `work` and turns a failure into data. */
export async function toReply<T>(work: () => T | Promise<T>): Promise<Reply<T>> {
  try {
    return { ok: true, value: await work() };
  } catch (error) {
    return { ok: false, error: toWireError(error) };
  }
}

export function toWireError(error: unknown): WireError {
  const trouble = findTrouble(error);
  if (trouble !== undefined) return troubleError(error, trouble);
  const { code, message, data } = toPrxError(error);
  const own = data['trouble'];
  return { code, message, data, trouble: own === 'fatal' || own === 'full' ? own : undefined };
}

/** The value of a reply, or its error as PrxError. */
export function fromReply<T>(reply: Reply<T>): T {
  if (reply.ok) return reply.value;
  throw fromWireError(reply.error);
}

export function fromWireError(error: WireError): PrxError {
  const code = isErrorCode(error.code) ? error.code : 'INTERNAL';
  return new PrxError(code, error.message, { data: error.data });
}

/** What to do about it. */
const sentences = {
  full: 'nothing was written; it goes on by itself when this is mended (free disk space)',
  fatal: 'what reached the disk is unknown; check the disk, then restart prx-supervisor',
  corrupt: 'restore the state directory from a backup',
  busy: 'another program has the journal open; close it',
} as const;

function troubleError(error: unknown, trouble: keyof typeof sentences): WireError {
  const reason = error instanceof Error ? error.message : String(error);
  return {
    code: trouble === 'corrupt' ? 'STORE_CORRUPT' : 'STORE_DEGRADED',
    message: `the journal cannot be used: ${reason}; ${sentences[trouble]}`,
    data: { reason },
    trouble,
  };
}
