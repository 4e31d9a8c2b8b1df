/** The supervisor's face: all that doors (the HTTP api, tests) may use of this room. */
import type { EventEnvelope } from '../protocol/events.ts';
import type { EffectId, SessionId } from '../protocol/ids.ts';
import type { BackupView, JournalPage, JournalReport } from '../protocol/journal.ts';
import type { KeptRule } from '../protocol/kept-rules.ts';
import type { ExplainPolicy, PolicyView } from '../protocol/policy-view.ts';
import type {
  ApprovalView,
  CreateSession,
  EventPage,
  InputAccepted,
  ProcessView,
  ResolveApproval,
  SendInput,
  SessionView,
  StatusView,
} from '../protocol/resources.ts';
import type { SessionState } from '../protocol/states.ts';
import type { SweepView } from '../protocol/sweep.ts';
import type { CreatedToken, CreateToken, Scope, TokenView } from '../protocol/tokens.ts';

/** A token of the TCP door as requests are compared with it. */
export interface Credential {
  readonly name: string;
  /** SHA-256 of the token, hex: the token itself is stored nowhere. */
  readonly sha256: string;
  readonly scopes: readonly Scope[];
  /** Wall ms; absent: never. */
  readonly expiresAtMs?: number;
}

/** Who may use the TCP door. */
export interface TokenBook {
  /** Expired ones too: a refusal says which. */
  tokens(): readonly Credential[];
  list(): readonly TokenView[];
  /** Durable and journaled when it resolves; the only time the value is told.
   *  @throws STATE_INVALID for a name that is taken, LIMIT_EXCEEDED, STATE_DIR_UNUSABLE. */
  create(params: CreateToken, by: string): Promise<CreatedToken>;
  /** In force at the call, durable when it resolves. @throws NOT_FOUND; STATE_INVALID for a token
   *  of the configuration; STATE_DIR_UNUSABLE when only this supervisor knows of it. */
  revoke(name: string, by: string): Promise<void>;
  /** A request with this token was let in; saved within a minute. */
  noteUse(name: string): void;
  /** Replaces the tokens of the configuration. */
  configure(tokens: readonly Credential[]): void;
  /** Called after each change. */
  onChanged(hear: () => void): void;
}

export interface ListFilter {
  readonly state?: readonly SessionState[];
  readonly labels?: Readonly<Record<string, string>>;
  /** The real path of the folder. */
  readonly workspace?: string;
  readonly name?: string;
}

export interface FollowOptions {
  readonly since: number;
  /** Epoch of the event at `since`, when the client remembers it: without it, a client whose
   *  newest events a power loss withdrew cannot be told once others took their numbers. */
  readonly epoch?: number;
  readonly types?: readonly string[];
  readonly signal: AbortSignal;
}

/** Wherever a `ref` is taken, an id, an unambiguous part of one, a name or @last will do; it
 *  throws SESSION_NOT_FOUND or SESSION_AMBIGUOUS. `by` names who asks, for the journal. */
export interface Supervisor {
  /** Durable when it resolves. @throws AT_CAPACITY, WORKSPACE_REFUSED, IDEMPOTENCY_CONFLICT. */
  createSession(
    params: CreateSession,
    by: string,
  ): Promise<{ view: SessionView; created: boolean }>;
  /** Newest first. */
  listSessions(filter: ListFilter): Promise<readonly SessionView[]>;
  getSession(ref: string): Promise<SessionView>;
  /** Closes the session first when it is open; removes its journal and private workspace.
   *  @param only  `stopped`: one that is open, or is being opened, is kept.
   *  @throws STATE_INVALID. */
  deleteSession(ref: string, by: string, only?: 'stopped'): Promise<void>;
  renameSession(ref: string, name: string): Promise<SessionView>;
  /** @throws SESSION_NOT_OPEN, SESSION_BUSY, QUEUE_FULL, IDEMPOTENCY_CONFLICT, STORE_DEGRADED. */
  acceptInput(ref: string, params: SendInput, by: string): Promise<InputAccepted>;
  /** The agents that a session can be made of, the default one first. */
  listAgents(): readonly { readonly name: string }[];
  /** Idempotent: without a running turn nothing happens. */
  interrupt(ref: string, by: string): Promise<SessionView>;
  suspend(ref: string, by: string): Promise<SessionView>;
  resume(ref: string, by: string): Promise<SessionView>;
  /** A stopped or failed session opens again; a running one gets a new worker. */
  restart(ref: string, by: string): Promise<SessionView>;
  close(ref: string, by: string): Promise<SessionView>;
  fork(ref: string, at: number | undefined, name: string | undefined): Promise<SessionView>;
  /** Of a session, or of `system`. @throws CURSOR_SUPERSEDED, CURSOR_GONE. */
  readEvents(
    ref: string,
    options: { since: number; limit: number; epoch?: number; types?: readonly string[] },
  ): Promise<EventPage>;
  /** Replays from `since`, then goes live: no gap, no duplicate. A slow consumer holds no memory
   *  of ours: it is served from the journal. Ends when the signal aborts or the session is
   *  deleted. `last_seq` of the moment of the call comes first, so that a client knows when it
   *  has caught up. */
  followEvents(ref: string, options: FollowOptions): Promise<AsyncIterable<EventEnvelope>>;
  /** One page of all sessions' events, in commit order, without waiting for new ones; `cursor`
   *  of the answer is where the next page starts (the given one when nothing is new).
   *  @throws CURSOR_SUPERSEDED, CURSOR_GONE, INVALID_REQUEST for a cursor that is not ours. */
  readAllEvents(
    cursor: string | undefined,
    limit: number,
  ): Promise<{ events: readonly EventEnvelope[]; cursor: string }>;
  /** All sessions, in commit order; the cursor after each event is opaque. */
  followAll(
    cursor: string | undefined,
    signal: AbortSignal,
  ): AsyncIterable<{ event: EventEnvelope; cursor: string }>;
  listApprovals(): Promise<readonly ApprovalView[]>;
  /** @throws APPROVAL_NOT_FOUND, APPROVAL_RESOLVED, TOOL_ARGUMENTS_INVALID. */
  resolveApproval(
    ref: string,
    callId: EffectId,
    params: ResolveApproval,
    by: string,
  ): Promise<void>;
  /** Decides as for a call that was asked for now, and runs nothing. @throws INVALID_REQUEST. */
  explainPolicy(asked: ExplainPolicy): Promise<PolicyView>;
  /** Rules that people kept with an approval, oldest first. */
  listKeptRules(): Promise<readonly KeptRule[]>;
  /** @throws NOT_FOUND. */
  removeKeptRule(id: string, by: string): Promise<void>;
  /** What a signed link is about. @throws FORBIDDEN, APPROVAL_RESOLVED. */
  readLink(token: string): Promise<ApprovalView>;
  /** Answers it, once. @throws FORBIDDEN, APPROVAL_RESOLVED, APPROVAL_NOT_FOUND. */
  answerLink(token: string, decision: 'approve' | 'deny'): Promise<void>;
  listProcesses(ref: string | undefined): Promise<readonly ProcessView[]>;
  /** Absolute path of an artifact's file. @throws NOT_FOUND. */
  findArtifact(ref: string, artifactId: string): Promise<{ path: string; session: SessionId }>;
  /** Of one session, of `system`, or of all; damage is named, whatever else is read. */
  exportJournal(
    ref: string | undefined,
    options: { after: number; limit: number; aside: boolean },
  ): Promise<JournalPage>;
  verifyJournal(ref: string | undefined): Promise<JournalReport>;
  /** Into a new file (absolute path). @throws INVALID_REQUEST, LIMIT_EXCEEDED, STORE_CORRUPT. */
  backup(path: string): Promise<BackupView>;
  status(deep: boolean): Promise<StatusView>;
  /** Re-reads the config; keeps the last good one and throws CONFIG_INVALID when it is not valid.
   *  Returns the keys that changed, and those of them that need a restart. */
  reload(): Promise<{ changed: readonly string[]; needs_restart: readonly string[] }>;
  /** Starts the graceful stop: no new input, running turns get `drainMs`; resolves when begun. */
  requestStop(drainMs: number, by: string): Promise<void>;
  /** Kills processes, and removes files, that earlier supervisors left and nothing needs. It also
   *  runs at the start and each minute. */
  sweep(): Promise<SweepView>;
  /** Prometheus text. */
  metrics(): Promise<string>;
}
