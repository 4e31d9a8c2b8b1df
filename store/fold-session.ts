/** The projection of one session: what its record is after one more event. Pure, and the only
 *  place that knows. The writer runs it in the transaction that appends the event, the supervisor
 *  on what was committed, the verifier over the whole journal; all three must agree. */
import { assert } from '../base/assert.ts';
import type { Usage } from '../protocol/content.ts';
import type { EventEnvelope, EventType, KnownEvent } from '../protocol/events.ts';
import type { EffectId } from '../protocol/ids.ts';
import type { ProcessStart } from '../protocol/processes.ts';
import type { OpenTurn, SessionRecord, SpentTime } from './contract.ts';
import { cutTime, pauseTime, resumeTime, startTime } from './spent-time.ts';

type Event<T extends EventType> = Extract<KnownEvent, { type: T }>;
type Fold<T extends EventType> = (record: SessionRecord, event: Event<T>) => SessionRecord;

const noUsage: Usage = { input_tokens: 0, output_tokens: 0 };
/** One more than the greatest restart budget (max_restart_attempts). */
const DEATHS_MAX = 1001;
const DENIED_MAX = 64;
/** Of a background process, as `ps` shows it. */
const COMMAND_CHARS_MAX = 200;

/** `none`: the event moves nothing but the record's place in the journal. `session.created` is
 *  the one event that needs no record. */
const folds: { readonly [T in EventType]: Fold<T> | 'none' } = {
  'session.created': (record, event) => createRecord(event, record),
  'session.state': changeState,
  'session.residency': (record, { data }) =>
    // Its worker is that of a supervisor that died, and was seen last by the event before this.
    data.from === 'hibernated'
      ? withTime(record, (time) => cutTime(time, record.updated_at))
      : record,
  'session.renamed': (record, { data }) => ({ ...record, name: data.name }),
  'session.restarted': withoutBlame,
  'input.accepted': (record, { data, seq }) => ({
    ...record,
    queued: [...record.queued, { input_id: data.input_id, seq, on_busy: data.on_busy }],
  }),
  'input.steered': (record, { data }) =>
    inOpenTurn(withoutInput(record, data.input_id), (turn) => ({
      ...turn,
      steered: [...turn.steered, { input_id: data.input_id, step: data.step }],
    })),
  'input.quarantined': (record, { data }) => ({
    ...withoutInput(record, data.input_id),
    ...(data.in_a_row === undefined ? {} : { quarantines: data.in_a_row }),
  }),
  'interrupt.accepted': interruptTurn,
  'turn.started': startTurn,
  'turn.completed': completeTurn,
  'model.started': (record, event) => startEffect(record, modelEffect(event)),
  'model.delta': 'none',
  'model.completed': (record, event) =>
    inOpenTurn(withoutBlame(endEffect(record, modelEffect(event))), (turn) => ({
      ...turn,
      steps: turn.steps + 1,
      usage: addUsage(turn.usage, event.data.usage),
      cost_usd: turn.cost_usd + event.data.cost_usd,
    })),
  'model.failed': (record, event) =>
    event.data.retry_in_ms === null ? endEffect(record, modelEffect(event)) : record,
  'model.mismatched': 'none',
  'tool.requested': 'none',
  'tool.decided': 'none',
  'approval.requested': (record, { data, time }) => ({
    ...record,
    approvals: [
      ...record.approvals.filter((approval) => approval.call_id !== data.call_id),
      {
        call_id: data.call_id,
        tool: data.tool,
        arguments: data.arguments,
        digest: data.digest,
        requested_at: time,
        expires_at: data.expires_at,
        ...(data.rule === undefined ? {} : { rule: data.rule }),
        ...(data.covers === undefined ? {} : { covers: data.covers }),
        ...(data.keeps === undefined ? {} : { keeps: data.keeps }),
      },
    ],
  }),
  'approval.resolved': resolveApproval,
  'approval.notified': 'none',
  'tool.started': (record, { data }) => startEffect(record, data.call_id),
  'tool.output': 'none',
  'tool.completed': (record, { data }) => withoutBlame(endEffect(record, data.call_id)),
  'worker.started': startWorker,
  'worker.exited': exitWorker,
  'worker.restarting': 'none',
  'effect.adopted': 'none',
  'effect.resolved': 'none',
  'rule.kept': 'none',
  'rule.removed': 'none',
  'supervisor.started': 'none',
  'supervisor.stopped': 'none',
  'sandbox.changed': 'none',
  'token.created': 'none',
  'token.revoked': 'none',
  'mcp.changed': 'none',
  'store.degraded': 'none',
  'store.repaired': 'none',
  'network.request': 'none',
  'process.started': (record, { data }) => ({
    ...record,
    processes: [
      ...withoutProcess(record, data.call_id),
      { ...data, command: data.command.slice(0, COMMAND_CHARS_MAX) },
    ],
  }),
  'process.exited': endProcess,
  'limit.exceeded': 'none',
  'context.compacted': withoutBlame,
};

/** The record after one more event of its session. Pure.
 *  @param record  undefined only before the first event, which must be session.created. A later
 *    session.created is that of a fork: the conversation stays, everything else starts anew.
 *  @param event  as it was journaled: its data was validated then and checksummed since. */
export function foldSession(
  record: SessionRecord | undefined,
  event: EventEnvelope,
): SessionRecord {
  const place = { last_seq: event.seq, updated_at: event.time, epoch: event.epoch };
  if (record === undefined) {
    assert(event.type === 'session.created', `the first event is session.created: ${event.type}`);
    // The type was compared on the line above.
    return { ...createRecord(event as Event<'session.created'>, undefined), ...place };
  }
  if (!changesRecord(event.type)) return { ...record, ...place };
  // The table's row of exactly this type takes exactly this event.
  const fold = folds[event.type as EventType] as Fold<EventType>;
  return { ...fold(record, event as KnownEvent), ...place };
}

/** False for events that move only `last_seq`, `updated_at` and `epoch`, and for types that a
 *  newer version wrote. */
export function changesRecord(type: string): boolean {
  return Object.hasOwn(folds, type) && folds[type as EventType] !== 'none';
}

/** True when the session has something to go on with by itself after a start. */
export function isUnfinished(record: SessionRecord): boolean {
  return (
    record.open_turn !== undefined ||
    record.queued.length > 0 ||
    record.approvals.length > 0 ||
    record.processes !== undefined ||
    record.state === 'starting' ||
    record.state === 'stopping'
  );
}

function addUsage(one: Usage, other: Usage): Usage {
  const cached = addOptional(one.cached_input_tokens, other.cached_input_tokens);
  const reasoning = addOptional(one.reasoning_tokens, other.reasoning_tokens);
  return {
    input_tokens: one.input_tokens + other.input_tokens,
    output_tokens: one.output_tokens + other.output_tokens,
    ...(cached === undefined ? {} : { cached_input_tokens: cached }),
    ...(reasoning === undefined ? {} : { reasoning_tokens: reasoning }),
  };
}

/** A count that nobody gave stays unknown; it is not zero. */
function addOptional(one: number | undefined, other: number | undefined): number | undefined {
  return one === undefined && other === undefined ? undefined : (one ?? 0) + (other ?? 0);
}

function createRecord(
  { data, session, time, seq, epoch }: Event<'session.created'>,
  origin: SessionRecord | undefined,
): SessionRecord {
  assert(session !== 'system', 'the system session has no record');
  return {
    id: session,
    name: data.name,
    agent: data.agent,
    model: data.model,
    workspace: data.workspace,
    private_workspace: data.private_workspace,
    labels: data.labels,
    limits: data.limits ?? {},
    approve: data.approve,
    state: 'created',
    state_reason: data.forked_from === undefined ? 'created' : 'forked',
    created_at: time,
    updated_at: time,
    last_seq: seq,
    epoch,
    turn: origin?.turn ?? 0,
    open_turn: undefined,
    last_outcome: origin?.last_outcome,
    last_reason: origin?.last_reason,
    queued: [],
    approvals: [],
    approved_tools: [],
    usage: noUsage,
    cost_usd: 0,
    generation: 0,
    restarts: 0,
  };
}

/** A second start of the same turn is a new attempt: what it did before still counts. */
function startTurn(record: SessionRecord, { data, time }: Event<'turn.started'>): SessionRecord {
  const rest = withoutInput(record, data.input_id);
  if (record.open_turn?.turn === data.turn) return rest;
  const opened: OpenTurn = {
    turn: data.turn,
    input_id: data.input_id,
    started_at: time,
    steered: [],
    interrupted: false,
    steps: 0,
    usage: noUsage,
    cost_usd: 0,
    unfinished: [],
    ...(data.spent_ms === undefined ? {} : { time: startTime(data.spent_ms, time, true) }),
  };
  return { ...rest, turn: data.turn, open_turn: opened };
}

function changeState(
  record: SessionRecord,
  { data, time: at }: Event<'session.state'>,
): SessionRecord {
  const moved = { ...record, state: data.to, state_reason: data.reason };
  const count = data.to === 'running' ? resumeTime : pauseTime;
  return withTime(moved, (time) => count(time, at));
}

/** The first tombstone says how the turn ends. */
function interruptTurn(
  record: SessionRecord,
  { data: { outcome, reason } }: Event<'interrupt.accepted'>,
): SessionRecord {
  return inOpenTurn(record, (turn) => {
    if (turn.interrupted) return turn;
    const own = outcome === undefined ? {} : { ending: { outcome, reason: reason ?? '' } };
    return { ...turn, interrupted: true, ...own };
  });
}

function startWorker(
  record: SessionRecord,
  { data, time: at }: Event<'worker.started'>,
): SessionRecord {
  const started = { ...record, generation: Math.max(record.generation, data.generation) };
  const { spent_ms: spentMs } = data;
  if (spentMs === undefined) return started;
  return inOpenTurn(started, (turn) => ({
    ...turn,
    time: startTime(spentMs, at, record.state === 'running'),
  }));
}

/** A death that came in a turn, and before the dead one had committed anything of it, counts
 *  against the turn's input; one that was ordered does not. */
function exitWorker(before: SessionRecord, event: Event<'worker.exited'>): SessionRecord {
  const { data, turn, time } = event;
  const { spent_ms: ms } = data;
  const isCounted = ms !== undefined && before.open_turn?.turn === turn;
  const record = isCounted ? withTime(before, () => ({ ms })) : before;
  if (data.cause === 'stopped') return record;
  const restarts = record.restarts + (data.cause === 'completed' ? 0 : 1);
  const isFruitless = turn !== undefined && data.progress === false;
  if (!isFruitless || record.open_turn?.turn !== turn) return { ...record, restarts };
  return inOpenTurn({ ...record, restarts }, (open) => ({
    ...open,
    deaths: [...(open.deaths ?? []), { at: time, cause: data.cause }].slice(-DEATHS_MAX),
  }));
}

function withTime(record: SessionRecord, change: (time: SpentTime) => SpentTime): SessionRecord {
  return inOpenTurn(record, (turn) =>
    turn.time === undefined ? turn : { ...turn, time: change(turn.time) },
  );
}

/** Something got done, or a person asked for another chance: deaths and inputs set aside before
 *  that no longer count. */
function withoutBlame(record: SessionRecord): SessionRecord {
  const { quarantines: _forgotten, ...rest } = record;
  return inOpenTurn(rest, ({ deaths: _forgiven, ...turn }) => turn);
}

/** Nothing of a closed turn may start any more, so its approvals go with it. */
function completeTurn(record: SessionRecord, { data }: Event<'turn.completed'>): SessionRecord {
  return {
    ...withoutInput(record, data.input_id),
    open_turn: record.open_turn?.turn === data.turn ? undefined : record.open_turn,
    last_outcome: data.outcome,
    last_reason: data.reason,
    approvals: record.approvals.filter(({ call_id }) => !call_id.startsWith(`${data.turn}.`)),
    usage: addUsage(record.usage, data.usage),
    cost_usd: record.cost_usd + data.cost_usd,
  };
}

function resolveApproval(
  record: SessionRecord,
  { data }: Event<'approval.resolved'>,
): SessionRecord {
  const approval = record.approvals.find(({ call_id }) => call_id === data.call_id);
  const approvals = record.approvals.filter((each) => each !== approval);
  // Answered, the call still needs its end, also where a death or an interrupt comes next.
  const answered = startEffect({ ...record, approvals }, data.call_id);
  if (approval === undefined) return answered;
  if (data.decision === 'deny' || data.decision === 'timeout') {
    const { call_id, tool, digest } = approval;
    return inOpenTurn(answered, (turn) => ({
      ...turn,
      denied: [...(turn.denied ?? []), { call_id, tool, digest }].slice(-DENIED_MAX),
    }));
  }
  if (data.decision !== 'approve' || data.scope !== 'session') return answered;
  const covered = approval.covers ?? [approval.tool];
  const approved = new Set([...record.approved_tools, ...covered]);
  return { ...answered, approved_tools: [...approved] };
}

function withoutInput(record: SessionRecord, input: string): SessionRecord {
  return { ...record, queued: record.queued.filter(({ input_id }) => input_id !== input) };
}

function withoutProcess(record: SessionRecord, call: EffectId): readonly ProcessStart[] {
  return (record.processes ?? []).filter(({ call_id }) => call_id !== call);
}

function endProcess(record: SessionRecord, { data }: Event<'process.exited'>): SessionRecord {
  const { processes: _before, ...rest } = record;
  const left = withoutProcess(record, data.call_id);
  return left.length === 0 ? rest : { ...rest, processes: left };
}

/** A late event of a turn that is closed by now changes nothing. */
function inOpenTurn(record: SessionRecord, change: (turn: OpenTurn) => OpenTurn): SessionRecord {
  return record.open_turn === undefined
    ? record
    : { ...record, open_turn: change(record.open_turn) };
}

function modelEffect({
  turn,
  data,
}: {
  turn?: number | undefined;
  data: { step: number };
}): EffectId {
  // Two numbers and a dot are what the schema of effect ids asks for.
  return `${turn}.${data.step}` as EffectId;
}

function startEffect(record: SessionRecord, effect: EffectId): SessionRecord {
  return inOpenTurn(record, (turn) =>
    turn.unfinished.includes(effect) ? turn : { ...turn, unfinished: [...turn.unfinished, effect] },
  );
}

function endEffect(record: SessionRecord, effect: EffectId): SessionRecord {
  return inOpenTurn(record, (turn) => ({
    ...turn,
    unfinished: turn.unfinished.filter((each) => each !== effect),
  }));
}
