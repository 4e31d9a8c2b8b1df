/** The post-mortem of a session: from its journal to what went wrong, in which order, and what
 *  became of it. Pure. An event type that is not known here says nothing; each list keeps its
 *  newest entries, `counts` has them all. */
import type { EventData, KnownEvent } from '../../protocol/events.ts';

/** Where in the journal: every finding can be looked up. */
interface At {
  readonly seq: number;
  readonly time: string;
  /** Absent outside of turns. */
  readonly turn?: number;
}

type ExitData = EventData<'worker.exited'>;

export interface Death extends At {
  readonly generation: number;
  readonly pid: number;
  /** lost: another worker began and the journal does not say how this one ended, because the
   *  supervisor died too. */
  readonly cause: ExitData['cause'] | 'lost';
  readonly code: number | null;
  readonly signal: string | null;
  readonly uptime_ms: number | null;
  readonly peak_rss_bytes: number | null;
  readonly stderr_tail: string;
  /** Effects under way: "model call 3.2", "shell 3.2.1". */
  readonly during: readonly string[];
  readonly restart?: { readonly attempt: number; readonly delay_ms: number };
  /** The worker that followed. */
  readonly replaced_by?: number;
}

export interface ModelFailure extends At {
  readonly step: number;
  readonly attempt: number;
  readonly code: string;
  readonly message: string;
  readonly retry_in_ms: number | null;
  /** A later attempt of the same step was answered. */
  readonly recovered: boolean;
}

export interface ToolFailure extends At {
  readonly call_id: string;
  readonly tool: string;
  readonly status: string;
  readonly duration_ms: number;
  readonly says: string;
}

export interface EffectNote extends At {
  readonly id: string;
  /** adopted: an earlier supervisor's effect whose outcome was found; resolved: one whose outcome
   *  nobody knows, and what was done about it. */
  readonly kind: 'adopted' | 'resolved';
  readonly how: string;
}

export interface Report {
  readonly deaths: readonly Death[];
  readonly model_failures: readonly ModelFailure[];
  readonly tool_failures: readonly ToolFailure[];
  readonly effects: readonly EffectNote[];
  readonly limits: readonly (At & EventData<'limit.exceeded'> & { own?: true })[];
  readonly approvals_timed_out: readonly (At & { call_id: string; tool: string })[];
  readonly quarantined: readonly (At & EventData<'input.quarantined'>)[];
  /** Turns that another worker went on with. */
  readonly resumed: readonly (At & { generation: number; outcome?: string })[];
  /** Turns that ended otherwise than completed. */
  readonly turns: readonly (At & { outcome: string; reason?: string; code?: string })[];
  /** Transitions to `failed`. */
  readonly failures: readonly (At & { reason: string })[];
  readonly store: readonly (At & { kind: 'degraded' | 'repaired'; reason: string })[];
  readonly counts: Readonly<Record<ListName, number>> & { readonly peaceful_exits: number };
}

type ListName = Exclude<keyof Report, 'counts'>;

/** What of the journal is needed: everything but the streams. */
export const REPORT_TYPES = [
  'session.created',
  'worker.started',
  'worker.exited',
  'worker.restarting',
  'turn.started',
  'turn.completed',
  'model.started',
  'model.completed',
  'model.failed',
  'tool.requested',
  'tool.started',
  'tool.completed',
  'approval.requested',
  'approval.resolved',
  'effect.adopted',
  'effect.resolved',
  'input.quarantined',
  'limit.exceeded',
  'session.state',
  'store.degraded',
  'store.repaired',
] as const satisfies readonly KnownEvent['type'][];

/** Entries of one list. */
export const LIST_MAX = 100;
const SAYS_CHARS_MAX = 300;

type Lists = { -readonly [K in ListName]: Report[K][number][] };

interface Worker {
  readonly generation: number;
  readonly pid: number;
  readonly startedAt: string;
}

/** What is known at one point of the journal. */
interface Fold {
  readonly lists: Lists;
  readonly counts: Record<ListName, number>;
  peacefulExits: number;
  worker: Worker | undefined;
  turn: number | undefined;
  /** Workers that served the open turn before the present one. */
  turnHadWorker: boolean;
  /** Limits that it was created with: not those of the configuration. */
  own: Readonly<Record<string, number>>;
  readonly open: Map<string, string>;
  readonly tools: Map<string, string>;
}

const LIST_NAMES: readonly ListName[] = [
  'deaths',
  'model_failures',
  'tool_failures',
  'effects',
  'limits',
  'approvals_timed_out',
  'quarantined',
  'resumed',
  'turns',
  'failures',
  'store',
];

export function toReport(events: Iterable<KnownEvent>): Report {
  const fold: Fold = {
    lists: Object.fromEntries(LIST_NAMES.map((name) => [name, []])) as unknown as Lists,
    counts: Object.fromEntries(LIST_NAMES.map((name) => [name, 0])) as Fold['counts'],
    peacefulExits: 0,
    worker: undefined,
    turn: undefined,
    turnHadWorker: false,
    own: {},
    open: new Map(),
    tools: new Map(),
  };
  for (const event of events) {
    foldWorker(fold, event);
    foldModel(fold, event);
    foldTool(fold, event);
    foldSession(fold, event);
  }
  return { ...fold.lists, counts: { ...fold.counts, peaceful_exits: fold.peacefulExits } };
}

function add<K extends ListName>(fold: Fold, name: K, entry: Lists[K][number]): void {
  // Each list has the entries of its name: see Lists.
  const list = fold.lists[name] as Lists[K][number][];
  fold.counts[name] += 1;
  list.push(entry);
  if (list.length > LIST_MAX) list.shift();
}

/** What came of the newest death, until another worker followed it. */
function amendDeath(fold: Fold, part: Partial<Death>): void {
  const { deaths } = fold.lists;
  const newest = deaths.at(-1);
  if (newest === undefined || newest.replaced_by !== undefined) return;
  deaths[deaths.length - 1] = { ...newest, ...part };
}

function at(fold: Fold, { seq, time, turn }: KnownEvent): At {
  const known = turn ?? fold.turn;
  return { seq, time, ...(known === undefined ? {} : { turn: known }) };
}

function foldWorker(fold: Fold, event: KnownEvent): void {
  switch (event.type) {
    case 'worker.started':
      startWorker(fold, event, event.data);
      return;
    case 'worker.exited':
      endWorker(fold, event, event.data);
      return;
    case 'worker.restarting': {
      const { attempt, delay_ms } = event.data;
      amendDeath(fold, { restart: { attempt, delay_ms } });
      return;
    }
  }
}

function startWorker(fold: Fold, event: KnownEvent, data: EventData<'worker.started'>): void {
  const { generation, pid } = data;
  if (fold.worker !== undefined) {
    const unknown = { code: null, signal: null, peak_rss_bytes: null, uptime_ms: null };
    const { generation: lost, pid: lostPid } = fold.worker;
    const head = { ...at(fold, event), generation: lost, pid: lostPid, cause: 'lost' as const };
    add(fold, 'deaths', { ...head, ...unknown, stderr_tail: '', during: [...fold.open.values()] });
  }
  amendDeath(fold, { replaced_by: generation });
  if (fold.turn !== undefined && fold.turnHadWorker) {
    add(fold, 'resumed', { ...at(fold, event), generation });
  }
  fold.turnHadWorker = fold.turn !== undefined;
  fold.worker = { generation, pid, startedAt: event.time };
}

function endWorker(fold: Fold, event: KnownEvent, data: ExitData): void {
  const { worker } = fold;
  fold.worker = undefined;
  if (data.cause === 'completed' || data.cause === 'stopped') {
    fold.peacefulExits += 1;
    return;
  }
  const { generation, pid, cause, code, signal, peak_rss_bytes, stderr_tail } = data;
  const known = worker?.generation === generation ? worker.startedAt : undefined;
  const during = [...fold.open.values()];
  const exit = { generation, pid, cause, code, signal, peak_rss_bytes, stderr_tail, during };
  add(fold, 'deaths', { ...at(fold, event), ...exit, uptime_ms: toUptime(known, event.time) });
}

/** Stamps are of the wall clock, which may have jumped: then there is no figure. */
function toUptime(from: string | undefined, to: string): number | null {
  const ms = from === undefined ? Number.NaN : Date.parse(to) - Date.parse(from);
  return ms >= 0 ? ms : null;
}

function foldModel(fold: Fold, event: KnownEvent): void {
  switch (event.type) {
    case 'model.started': {
      const name = stepName(fold, event, event.data.step);
      fold.open.set(`model ${name}`, `model call ${name}`);
      return;
    }
    case 'model.completed': {
      const { step } = event.data;
      fold.open.delete(`model ${stepName(fold, event, step)}`);
      const { turn } = at(fold, event);
      fold.lists.model_failures = fold.lists.model_failures.map((failure) =>
        failure.turn === turn && failure.step === step ? { ...failure, recovered: true } : failure,
      );
      return;
    }
    case 'model.failed': {
      const { step, attempt, error, retry_in_ms } = event.data;
      fold.open.delete(`model ${stepName(fold, event, step)}`);
      const { code, message } = error;
      const what = { step, attempt, code, message, retry_in_ms, recovered: false };
      add(fold, 'model_failures', { ...at(fold, event), ...what });
      return;
    }
  }
}

function stepName(fold: Fold, event: KnownEvent, step: number): string {
  const { turn } = at(fold, event);
  return turn === undefined ? String(step) : `${turn}.${step}`;
}

/** Outcomes that a tool did not choose itself. */
const BROKEN_STATUS: ReadonlySet<string> = new Set([
  'timeout',
  'memory',
  'killed',
  'indeterminate',
]);

function foldTool(fold: Fold, event: KnownEvent): void {
  switch (event.type) {
    case 'tool.requested':
    case 'approval.requested':
      fold.tools.set(event.data.call_id, event.data.tool);
      return;
    case 'tool.started': {
      const { call_id } = event.data;
      fold.open.set(call_id, `${toolName(fold, call_id)} ${call_id}`);
      return;
    }
    case 'tool.completed': {
      const { call_id, status, duration_ms, output } = event.data;
      fold.open.delete(call_id);
      if (!BROKEN_STATUS.has(status)) return;
      const says = output.trim().slice(0, SAYS_CHARS_MAX);
      const what = { call_id, tool: toolName(fold, call_id), status, duration_ms, says };
      add(fold, 'tool_failures', { ...at(fold, event), ...what });
      return;
    }
    case 'approval.resolved': {
      const { call_id, decision } = event.data;
      if (decision !== 'timeout') return;
      const tool = toolName(fold, call_id);
      add(fold, 'approvals_timed_out', { ...at(fold, event), call_id, tool });
      return;
    }
    case 'effect.adopted':
      add(fold, 'effects', { ...at(fold, event), kind: 'adopted', ...event.data });
      return;
    case 'effect.resolved':
      add(fold, 'effects', { ...at(fold, event), kind: 'resolved', ...event.data });
      return;
  }
}

function toolName(fold: Fold, callId: string): string {
  return fold.tools.get(callId) ?? 'call';
}

function foldSession(fold: Fold, event: KnownEvent): void {
  switch (event.type) {
    case 'session.created':
      fold.own = event.data.limits ?? {};
      return;
    case 'turn.started':
      fold.turn = event.data.turn;
      fold.turnHadWorker = fold.worker !== undefined;
      return;
    case 'turn.completed':
      completeTurn(fold, event, event.data);
      return;
    case 'session.state':
      if (event.data.to !== 'failed') return;
      add(fold, 'failures', { ...at(fold, event), reason: event.data.reason });
      return;
    case 'input.quarantined':
      add(fold, 'quarantined', { ...at(fold, event), ...event.data });
      return;
    case 'limit.exceeded': {
      const isOwn = Object.hasOwn(fold.own, event.data.limit);
      add(fold, 'limits', { ...at(fold, event), ...event.data, ...(isOwn && { own: true }) });
      return;
    }
    case 'store.degraded':
      add(fold, 'store', { ...at(fold, event), kind: 'degraded', ...event.data });
      return;
    case 'store.repaired':
      add(fold, 'store', { ...at(fold, event), kind: 'repaired', ...event.data });
      return;
  }
}

function completeTurn(fold: Fold, event: KnownEvent, data: EventData<'turn.completed'>): void {
  const { turn, outcome, reason, error } = data;
  fold.lists.resumed = fold.lists.resumed.map((each) =>
    each.turn === turn ? { ...each, outcome } : each,
  );
  if (outcome !== 'completed') {
    const said = reason ?? error?.message;
    add(fold, 'turns', {
      ...at(fold, event),
      turn,
      outcome,
      ...(said === undefined ? {} : { reason: said }),
      ...(error === undefined ? {} : { code: error.code }),
    });
  }
  fold.turn = undefined;
  fold.turnHadWorker = false;
  fold.open.clear();
  fold.tools.clear();
}
