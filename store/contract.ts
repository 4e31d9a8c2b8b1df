/** What the rest of the house may ask of the store. The journal is the only durable truth; the
 *  session record is a projection of it, folded by the one writer in the same transaction.
 *  Invariants: per session the sequence is gapless from 1; an append resolves only when its
 *  durability class holds; appends of one caller are committed in call order. */

import type { ProcessIdentity } from '../base/process.ts';
import type { SessionHistory, TurnOutcome, Usage } from '../protocol/content.ts';
import type { EventData, EventEnvelope, EventType, SYSTEM_SESSION } from '../protocol/events.ts';
import type { EffectId, InputId, SessionId } from '../protocol/ids.ts';
import type { KeptRuleBody } from '../protocol/kept-rules.ts';
import type { ProcessStart } from '../protocol/processes.ts';
import type { ApproveMode, EventPage } from '../protocol/resources.ts';
import type { SessionState } from '../protocol/states.ts';

export type JournalKey = SessionId | typeof SYSTEM_SESSION;

export interface NewEvent {
  readonly session: JournalKey;
  readonly type: EventType;
  readonly turn?: number;
  /** Set on every model.*, tool.* and approval.* event: finds the events of one effect. */
  readonly effect?: EffectId;
  readonly data: unknown;
}

export interface AppendRequest {
  /** One transaction: all or none, consecutive in each session. At least one. */
  readonly events: readonly NewEvent[];
  /** Claims (scope, key) for the first event; a second claim appends nothing and returns the
   *  first one's event. `digest` tells whether the second claim means the same. */
  readonly unique?: { readonly scope: string; readonly key: string; readonly digest: string };
}

export type AppendResult =
  | { readonly kind: 'appended'; readonly events: readonly EventEnvelope[] }
  | { readonly kind: 'duplicate'; readonly event: EventEnvelope; readonly sameDigest: boolean };

export interface QueuedInput {
  readonly input_id: InputId;
  readonly seq: number;
  readonly on_busy: 'enqueue' | 'interrupt' | 'reject' | 'steer';
}

export interface PendingApproval {
  readonly call_id: EffectId;
  readonly tool: string;
  readonly arguments: unknown;
  readonly digest: string;
  readonly requested_at: string;
  readonly expires_at: string;
  readonly rule?: string;
  /** What scope `session` approves; absent: the tool. */
  readonly covers?: readonly string[];
  /** What scope `rule` would keep; absent: nothing. */
  readonly keeps?: KeptRuleBody;
}

/** A call that a person refused, or that nobody answered. */
export interface DeniedCall {
  readonly call_id: EffectId;
  readonly tool: string;
  readonly digest: string;
}

export interface TurnDeath {
  readonly at: string;
  readonly cause: EventData<'worker.exited'>['cause'];
}

/** How long a turn has been executing: `ms`, and since then `since`. */
export interface SpentTime {
  readonly ms: number;
  /** Absent: nobody executes it. */
  readonly since?: string;
  /** Its worker waits: the session is not `running`. */
  readonly paused?: true;
}

export interface OpenTurn {
  readonly turn: number;
  readonly input_id: InputId;
  readonly started_at: string;
  /** Steering inputs already given to a step of this turn. */
  readonly steered: readonly { readonly input_id: InputId; readonly step: number }[];
  /** The tombstone is set: nothing of this turn may start any more. */
  readonly interrupted: boolean;
  /** model.completed seen so far. */
  readonly steps: number;
  readonly usage: Usage;
  readonly cost_usd: number;
  /** Effects reserved (model.started, tool.started) without a terminal event yet. */
  readonly unfinished: readonly EffectId[];
  /** Workers that died in this turn since anything of it was committed, oldest first; the restart
   *  budget outlives a supervisor in here. Absent: none. */
  readonly deaths?: readonly TurnDeath[];
  /** Absent: a version that did not count began it. */
  readonly time?: SpentTime;
  /** How it ends, as its tombstone says; absent: it has none, or that does not say. */
  readonly ending?: { readonly outcome: TurnOutcome; readonly reason: string };
  /** The newest ones, oldest first. Absent: none. */
  readonly denied?: readonly DeniedCall[];
}

/** The projection of one session; what `ps` and `inspect` start from. Small by construction:
 *  no content of the conversation. */
export interface SessionRecord {
  readonly id: SessionId;
  readonly name: string | undefined;
  readonly agent: string;
  readonly model: string | undefined;
  readonly workspace: string;
  readonly private_workspace: boolean;
  readonly labels: Readonly<Record<string, string>>;
  readonly limits: Readonly<Record<string, number>>;
  readonly approve: ApproveMode;
  readonly state: SessionState;
  readonly state_reason: string;
  readonly created_at: string;
  readonly updated_at: string;
  readonly last_seq: number;
  readonly epoch: number;
  /** Number of the newest turn; 0 before the first. */
  readonly turn: number;
  readonly open_turn: OpenTurn | undefined;
  /** Inputs set aside in a row, with nothing done in between. Absent: none. */
  readonly quarantines?: number;
  readonly last_outcome: TurnOutcome | undefined;
  readonly last_reason: string | undefined;
  /** Accepted, not yet started (nor given to a step), oldest first. */
  readonly queued: readonly QueuedInput[];
  /** Background processes without an end, oldest first; their commands may be cut. Absent: none. */
  readonly processes?: readonly ProcessStart[];
  readonly approvals: readonly PendingApproval[];
  /** Approved with scope `session`: tools, and tools under one rule. */
  readonly approved_tools: readonly string[];
  readonly usage: Usage;
  readonly cost_usd: number;
  /** Highest worker generation started. */
  readonly generation: number;
  readonly restarts: number;
}

export interface ReadOptions {
  /** Events with a greater sequence number. Throws CURSOR_SUPERSEDED beyond the newest one. */
  readonly since: number;
  /** The epoch in which the reader saw `since`. Given: CURSOR_SUPERSEDED too when that event was
   *  lost and its number given again. */
  readonly epoch?: number;
  /** At most this many (the store caps it at 1000, and a page at about 4 MiB). */
  readonly limit: number;
  readonly types?: readonly string[];
}

/** Events of one turn: behind `since`, up to and with `until`, of these types (power-durable). */
export interface TurnRange {
  readonly turn: number;
  readonly since: number;
  readonly until: number;
  readonly limit: number;
  readonly types: readonly string[];
}

/** A page over all sessions in commit order; `cursor` is opaque to clients. A damaged event is left
 *  out, so that it does not hide the others; its session is then named by `health`. */
export interface GlobalPage {
  readonly events: readonly EventEnvelope[];
  /** Behind each of them, in their order: who had one and no more goes on from there. */
  readonly cursors: readonly string[];
  /** Behind the page, and what of it was left out. */
  readonly cursor: string;
}

export interface SessionFilter {
  readonly states?: readonly SessionState[];
  readonly labels?: Readonly<Record<string, string>>;
  /** The real path of the folder. */
  readonly workspace?: string;
  readonly name?: string;
}

export interface ProcessRecord extends ProcessIdentity {
  readonly kind: 'worker' | 'gateway' | 'sandbox' | 'mcp';
  readonly session: SessionId | undefined;
  readonly started_at: string;
}

/** What is wrong with one session, and from which event on. */
export interface SessionProblem {
  readonly session: string;
  readonly seq: number;
  readonly problem: string;
}

export interface StoreHealth {
  /** Why nothing can be written; undefined: it can. */
  readonly degraded: string | undefined;
  /** Sessions that refuse appends because something of them is damaged; all others go on. */
  readonly damaged: readonly SessionProblem[];
}

export interface VerifyReport {
  readonly sessions: number;
  readonly events: number;
  readonly problems: readonly SessionProblem[];
}

/** A page of the journal as text; see docs/journal.md for the fields of a line. */
export interface JournalPage {
  readonly events: readonly unknown[];
  /** `after` of the next page; null: that was all. */
  readonly next: number | null;
}

export interface ExportOptions {
  /** Absent: all sessions, in commit order. */
  readonly session?: JournalKey;
  /** Behind this place, as the page before said; 0: from the first. */
  readonly after: number;
  readonly limit: number;
  /** What repairs took out, instead of the journal. */
  readonly aside?: boolean;
}

/** What a backup holds, verified from its file. */
export interface BackupSummary {
  readonly path: string;
  readonly bytes: number;
  readonly created_at: string;
  readonly epoch: number;
  readonly sessions: number;
  readonly events: number;
  readonly heads_sha256: string;
  readonly files: number;
  readonly file_bytes: number;
  /** What was damaged in the journal already. */
  readonly problems: readonly SessionProblem[];
}

export interface ForkOptions {
  readonly name?: string;
  /** A private workspace of the copy's own; absent: it works in the original's folder. */
  readonly workspace?: string;
}

export interface Spending extends Pick<Usage, 'input_tokens' | 'output_tokens'> {
  readonly cost_usd: number;
}

export interface Census {
  readonly sessions: readonly SessionRecord[];
  readonly removed: Spending;
}

export interface Store {
  readonly epoch: number;
  append(request: AppendRequest): Promise<AppendResult>;
  /** The first event of an earlier append that claimed (scope, key), if any. */
  findClaim(
    scope: string,
    key: string,
  ): Promise<{ readonly event: EventEnvelope; readonly digest: string } | undefined>;
  readEvents(session: JournalKey, options: ReadOptions): Promise<EventPage>;
  readAll(cursor: string | undefined, limit: number): Promise<GlobalPage>;
  /** Closed turns from the last compaction on, each well formed. */
  readHistory(session: SessionId): Promise<SessionHistory>;
  /** All events of one effect but deltas and output, oldest first. */
  readEffect(session: SessionId, effect: EffectId): Promise<readonly EventEnvelope[]>;
  /** What happened in a turn, oldest first, without its content: no message, argument or output
   *  leaves the journal here. Empty for a session that is not there. */
  readTurn(session: SessionId, range: TurnRange): Promise<readonly EventEnvelope[]>;
  /** The highest spool offset, bytes, among the journaled model.delta or tool.output events of one
   *  attempt of an effect (`data.attempt`, absent means 1); 0: none. */
  readSpoolOffset(session: SessionId, effect: EffectId, attempt: number): Promise<number>;
  /** One accepted input's content. Throws NOT_FOUND. */
  readInput(session: SessionId, input: InputId): Promise<EventEnvelope>;
  getSession(id: SessionId): Promise<SessionRecord | undefined>;
  /** Newest first. */
  listSessions(filter?: SessionFilter): Promise<readonly SessionRecord[]>;
  /** All sessions, and what removed ones have cost, as of one instant. */
  readCensus(): Promise<Census>;
  /** How many there are in each state that any is in: costs nothing of their records. */
  countSessions(): Promise<Readonly<Record<string, number>>>;
  /** Resolves an id, an unambiguous part of one, a name, or @last. Throws SESSION_NOT_FOUND or
   *  SESSION_AMBIGUOUS (data.candidates). */
  resolveSession(ref: string): Promise<SessionRecord>;
  /** Sessions with an open turn, queued inputs, or in a state that must move on by itself. */
  listUnfinished(): Promise<readonly SessionRecord[]>;
  /** Removes every trace of a session. */
  deleteSession(id: SessionId): Promise<void>;
  /** Copies the events 1…seq of `from` as the start of `to` (new hash chain), followed by a
   *  session.created with forked_from replacing the original one. */
  forkSession(
    from: SessionId,
    seq: number,
    to: SessionId,
    options?: ForkOptions,
  ): Promise<SessionRecord>;
  putProcess(record: ProcessRecord): Promise<void>;
  removeProcess(record: Pick<ProcessRecord, 'pid' | 'startTicks'>): Promise<void>;
  listProcesses(): Promise<readonly ProcessRecord[]>;
  /** Without a session: all, and the system's. */
  verify(session?: JournalKey): Promise<VerifyReport>;
  exportEvents(options: ExportOptions): Promise<JournalPage>;
  /** Writes the journal and the artifacts, as they are at one instant, into a new file (absolute
   *  path), and verifies it. Appends go on meanwhile.
   *  Throws INVALID_REQUEST (the path), LIMIT_EXCEEDED (no room), STORE_CORRUPT. */
  backup(path: string): Promise<BackupSummary>;
  /** Closed sessions with nothing new since a time, wall ms; oldest first. */
  listExpired(beforeMs: number, limit: number): Promise<readonly SessionId[]>;
  /** Removes the first events of sessions that hold clearly more than `keep`, behind a snapshot:
   *  none that is still needed. A cursor that stands before them gets CURSOR_GONE.
   *  @returns how many events of how many sessions. */
  trim(keep: number): Promise<{ readonly sessions: number; readonly events: number }>;
  health(): StoreHealth;
  /** Gives back memory that earlier work has left, of the threads as well. For a quiet moment: it
   *  holds each of them for tens of milliseconds. */
  shrink(): Promise<void>;
  /** Waits for what is under way, marks a clean stop, closes. Idempotent. */
  close(): Promise<void>;
}
