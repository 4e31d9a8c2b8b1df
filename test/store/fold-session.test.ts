import { describe, expect, it } from '@jest/globals';
import type { EventData, EventEnvelope, EventType } from '../../protocol/events.ts';
import { eventTable } from '../../protocol/events.ts';
import type { OpenTurn, SessionRecord } from '../../store/contract.ts';
import { changesRecord, foldSession, isUnfinished } from '../../store/fold-session.ts';
import { effectId, inputId, sessionId } from './setup-events.ts';

const time = (seq: number) => `2026-01-01T00:00:${String(seq).padStart(2, '0')}.000Z`;

function at<T extends EventType>(seq: number, type: T, data: EventData<T>, turn?: number) {
  const place = { session: sessionId(1), seq, epoch: 1, time: time(seq) };
  return { ...place, type, ...(turn === undefined ? {} : { turn }), data } as EventEnvelope;
}

const createdData = {
  agent: 'a',
  workspace: '/w',
  private_workspace: true,
  labels: { k: 'v' },
  approve: 'ask' as const,
  source: 'test',
};
const first = foldSession(undefined, at(1, 'session.created', createdData));

const usage = { input_tokens: 10, output_tokens: 2 };
const openTurn: OpenTurn = {
  turn: 1,
  input_id: inputId('in_1'),
  started_at: time(3),
  steered: [],
  interrupted: false,
  steps: 0,
  usage: { input_tokens: 0, output_tokens: 0 },
  cost_usd: 0,
  unfinished: [],
};
const queued = { input_id: inputId('in_1'), seq: 2, on_busy: 'enqueue' as const };
const inTurn: SessionRecord = { ...first, turn: 1, open_turn: openTurn, last_seq: 3 };
const approval = {
  call_id: effectId('1.1.1'),
  tool: 'shell',
  arguments: { command: 'ls' },
  digest: 'd',
  requested_at: time(4),
  expires_at: time(59),
};
const withApproval: SessionRecord = { ...inTurn, approvals: [approval] };
const unfinished = (...ids: string[]): SessionRecord => ({
  ...inTurn,
  open_turn: { ...openTurn, unfinished: ids.map(effectId) },
});
const message = { text: 'hi', tool_calls: [] };
const resolved = (decision: 'approve' | 'deny', scope: 'once' | 'session') =>
  at(9, 'approval.resolved', { call_id: approval.call_id, decision, by: 'user', scope }, 1);
const denied = { call_id: approval.call_id, tool: 'shell', digest: 'd' };
const answered = { open_turn: { ...openTurn, unfinished: [approval.call_id] } };

interface Row {
  readonly name: string;
  readonly from: SessionRecord;
  readonly event: EventEnvelope;
  readonly change: Partial<SessionRecord>;
}

const exitData: Omit<EventData<'worker.exited'>, 'cause'> = {
  ...{ generation: 1, pid: 9, code: 1, signal: null, stderr_tail: '', peak_rss_bytes: null },
};

const rows: readonly Row[] = [
  {
    name: 'session.state moves the state',
    from: first,
    event: at(9, 'session.state', { from: 'created', to: 'starting', reason: 'input' }),
    change: { state: 'starting', state_reason: 'input' },
  },
  {
    name: 'session.renamed renames',
    from: first,
    event: at(9, 'session.renamed', { name: 'new' }),
    change: { name: 'new' },
  },
  {
    name: 'input.accepted queues',
    from: first,
    event: at(9, 'input.accepted', {
      input_id: inputId('in_1'),
      source: 'x',
      content: [{ type: 'text', text: 'hi' }],
      on_busy: 'steer',
    }),
    change: { queued: [{ input_id: inputId('in_1'), seq: 9, on_busy: 'steer' }] },
  },
  {
    name: 'turn.started takes its input and opens the turn',
    from: { ...first, queued: [queued, { ...queued, input_id: inputId('in_2') }] },
    event: at(3, 'turn.started', { turn: 1, input_id: inputId('in_1'), attempt: 1 }, 1),
    change: {
      turn: 1,
      open_turn: openTurn,
      queued: [{ ...queued, input_id: inputId('in_2') }],
    },
  },
  {
    name: 'turn.started of a further attempt keeps what the turn did',
    from: unfinished('1.2'),
    event: at(9, 'turn.started', { turn: 1, input_id: inputId('in_1'), attempt: 2 }, 1),
    change: {},
  },
  {
    name: 'input.steered moves the input into the turn',
    from: { ...inTurn, queued: [queued] },
    event: at(9, 'input.steered', { input_id: inputId('in_1'), step: 2 }, 1),
    change: {
      queued: [],
      open_turn: { ...openTurn, steered: [{ input_id: inputId('in_1'), step: 2 }] },
    },
  },
  {
    name: 'input.quarantined drops the input',
    from: { ...first, queued: [queued] },
    event: at(9, 'input.quarantined', { input_id: inputId('in_1'), reason: 'crash loop' }),
    change: { queued: [] },
  },
  {
    name: 'interrupt.accepted sets the tombstone',
    from: inTurn,
    event: at(9, 'interrupt.accepted', { source: 'cli' }, 1),
    change: { open_turn: { ...openTurn, interrupted: true } },
  },
  {
    name: 'interrupt.accepted without a turn changes nothing',
    from: first,
    event: at(9, 'interrupt.accepted', { source: 'cli' }),
    change: {},
  },
  {
    name: 'model.started adds an unfinished effect, once',
    from: unfinished('1.1'),
    event: at(9, 'model.started', { step: 1, attempt: 2, model: 'm', request_digest: 'd' }, 1),
    change: {},
  },
  {
    name: 'tool.started adds an unfinished effect',
    from: unfinished('1.1'),
    event: at(9, 'tool.started', { call_id: effectId('1.1.1'), level: 'none', limits: {} }, 1),
    change: { open_turn: { ...openTurn, unfinished: [effectId('1.1'), effectId('1.1.1')] } },
  },
  {
    name: 'model.completed finishes the effect and counts step, usage and cost',
    from: unfinished('1.1', '1.1.1'),
    event: at(
      9,
      'model.completed',
      {
        step: 1,
        attempt: 1,
        message,
        usage,
        cost_usd: 0.5,
        finish_reason: 'stop',
        latency_ms: 1,
      },
      1,
    ),
    change: {
      open_turn: { ...openTurn, unfinished: [effectId('1.1.1')], steps: 1, usage, cost_usd: 0.5 },
    },
  },
  {
    name: 'model.failed that is retried leaves the effect unfinished',
    from: unfinished('1.1'),
    event: at(
      9,
      'model.failed',
      { step: 1, attempt: 1, error: { code: 'X', message: '' }, retry_in_ms: 5 },
      1,
    ),
    change: {},
  },
  {
    name: 'model.failed for good finishes the effect',
    from: unfinished('1.1'),
    event: at(
      9,
      'model.failed',
      { step: 1, attempt: 1, error: { code: 'X', message: '' }, retry_in_ms: null },
      1,
    ),
    change: { open_turn: openTurn },
  },
  {
    name: 'tool.completed finishes the effect',
    from: unfinished('1.1.1'),
    event: at(
      9,
      'tool.completed',
      { call_id: effectId('1.1.1'), status: 'ok', output: '', duration_ms: 1, truncated: false },
      1,
    ),
    change: { open_turn: openTurn },
  },
  {
    name: 'worker.exited in the turn, for nothing, counts against its input',
    from: inTurn,
    event: at(9, 'worker.exited', { ...exitData, cause: 'crashed', progress: false }, 1),
    change: {
      open_turn: { ...openTurn, deaths: [{ at: time(9), cause: 'crashed' }] },
      restarts: inTurn.restarts + 1,
    },
  },
  {
    name: 'worker.exited after something was committed does not',
    from: inTurn,
    event: at(9, 'worker.exited', { ...exitData, cause: 'crashed', progress: true }, 1),
    change: { restarts: inTurn.restarts + 1 },
  },
  {
    name: 'tool.completed takes the deaths before it off the record',
    from: { ...inTurn, open_turn: { ...openTurn, deaths: [{ at: time(9), cause: 'crashed' }] } },
    event: at(
      9,
      'tool.completed',
      { call_id: effectId('1.1.1'), status: 'ok', output: '', duration_ms: 1, truncated: false },
      1,
    ),
    change: { open_turn: openTurn },
  },
  {
    name: 'turn.completed closes the turn with its approvals and sums up',
    from: { ...withApproval, usage: { ...usage, cached_input_tokens: 1 }, cost_usd: 1 },
    event: at(
      9,
      'turn.completed',
      {
        turn: 1,
        input_id: inputId('in_1'),
        outcome: 'failed',
        reason: 'why',
        usage: { ...usage, reasoning_tokens: 3 },
        cost_usd: 0.25,
        steps: 1,
      },
      1,
    ),
    change: {
      open_turn: undefined,
      approvals: [],
      last_outcome: 'failed',
      last_reason: 'why',
      usage: {
        input_tokens: 20,
        output_tokens: 4,
        cached_input_tokens: 1,
        reasoning_tokens: 3,
      },
      cost_usd: 1.25,
    },
  },
  {
    name: 'approval.requested lists the approval',
    from: inTurn,
    event: at(
      4,
      'approval.requested',
      {
        call_id: approval.call_id,
        digest: 'd',
        tool: 'shell',
        arguments: { command: 'ls' },
        expires_at: time(59),
      },
      1,
    ),
    change: { approvals: [approval] },
  },
  {
    name: 'approval.resolved once removes it; the call is then without an end',
    from: withApproval,
    event: resolved('approve', 'once'),
    change: { approvals: [], ...answered },
  },
  {
    name: 'approval.resolved for the session remembers the tool',
    from: withApproval,
    event: resolved('approve', 'session'),
    change: { approvals: [], approved_tools: ['shell'], ...answered },
  },
  {
    name: 'approval.resolved with a denial remembers the call for its turn, and approves nothing',
    from: withApproval,
    event: resolved('deny', 'session'),
    change: { approvals: [], open_turn: { ...answered.open_turn, denied: [denied] } },
  },
  {
    name: 'approval.resolved for the session remembers what the request says it covers',
    from: { ...withApproval, approvals: [{ ...approval, covers: ['a', 'b'] }] },
    event: resolved('approve', 'session'),
    change: { approvals: [], approved_tools: ['a', 'b'], ...answered },
  },
  {
    name: 'worker.started raises the generation',
    from: { ...first, generation: 2 },
    event: at(9, 'worker.started', { generation: 3, pid: 5, warm: true }),
    change: { generation: 3 },
  },
];

describe('foldSession', () => {
  it('starts with session.created', () => {
    expect(first).toEqual({
      id: sessionId(1),
      agent: 'a',
      workspace: '/w',
      private_workspace: true,
      labels: { k: 'v' },
      limits: {},
      approve: 'ask',
      state: 'created',
      state_reason: 'created',
      created_at: time(1),
      updated_at: time(1),
      last_seq: 1,
      epoch: 1,
      turn: 0,
      queued: [],
      approvals: [],
      approved_tools: [],
      usage: { input_tokens: 0, output_tokens: 0 },
      cost_usd: 0,
      generation: 0,
      restarts: 0,
    });
  });

  it('starts with nothing else', () => {
    const event = at(1, 'session.renamed', { name: 'x' });
    expect(() => foldSession(undefined, event)).toThrow('the first event is session.created');
  });

  it.each(rows)('$name', ({ from, event, change }) => {
    const { seq, epoch } = event;
    expect(foldSession(from, event)).toEqual({
      ...from,
      ...change,
      last_seq: seq,
      epoch,
      updated_at: time(seq),
    });
  });

  it.each([
    ['completed', 0],
    ['stopped', 0],
    ['crashed', 1],
    ['memory', 1],
    ['timeout', 1],
    ['unresponsive', 1],
    ['protocol', 1],
  ] as const)('worker.exited (%s) counts %d restarts', (cause, restarts) => {
    const event = at(9, 'worker.exited', { ...exitData, cause });
    expect(foldSession(first, event).restarts).toBe(restarts);
  });

  it('a later session.created is a fork: the conversation stays, the rest starts anew', () => {
    const busy: SessionRecord = { ...withApproval, queued: [queued], turn: 4, generation: 3 };
    const origin = { session: 's_0', seq: 8 };
    const data = { ...createdData, name: 'copy', forked_from: origin };
    expect(foldSession(busy, at(9, 'session.created', data))).toEqual({
      ...first,
      name: 'copy',
      turn: 4,
      state_reason: 'forked',
      created_at: time(9),
      updated_at: time(9),
      last_seq: 9,
    });
  });

  it('moves only the place for every other type, and for one it does not know', () => {
    const others = Object.keys(eventTable).filter((type) => !changesRecord(type));
    for (const type of [...others, 'of.tomorrow']) {
      const event: EventEnvelope = { ...at(9, 'session.renamed', { name: 'x' }), type, data: 0 };
      expect(foldSession(inTurn, event)).toEqual({ ...inTurn, last_seq: 9, updated_at: time(9) });
    }
    expect(others).toContain('model.delta');
  });
});

describe('isUnfinished', () => {
  it.each([
    ['a new session', first, false],
    ['an open turn', inTurn, true],
    ['a queued input', { ...first, queued: [queued] }, true],
    ['an approval', { ...first, approvals: [approval] }, true],
    ['starting', { ...first, state: 'starting' as const }, true],
    ['stopping', { ...first, state: 'stopping' as const }, true],
    ['stopped', { ...first, state: 'stopped' as const }, false],
  ])('%s', (_, record, expected) => expect(isUnfinished(record)).toBe(expected));
});
