/** Events for tests, in the shapes of the journal. */
import type { KnownEvent } from '../../protocol/events.ts';

export type Fact = readonly [type: string, data: unknown];

/** Numbered from 1, as one session's journal. */
export function toEvents(facts: readonly Fact[], from = 1): KnownEvent[] {
  return facts.map(
    ([type, data], index) =>
      ({
        session: 's_0123456789abcdef',
        seq: from + index,
        epoch: 1,
        time: '2026-01-02T03:04:05.000Z',
        type,
        data,
      }) as KnownEvent,
  );
}

const usage = { input_tokens: 10, output_tokens: 5 };

export const input = (inputId = 'in_1', text = 'hello'): Fact => [
  'input.accepted',
  { input_id: inputId, source: 'socket', content: [{ type: 'text', text }], on_busy: 'enqueue' },
];

export const turnStarted = (turn = 1, inputId = 'in_1'): Fact => [
  'turn.started',
  { turn, input_id: inputId, attempt: 1 },
];

export const turnCompleted = (outcome = 'completed', turn = 1, inputId = 'in_1'): Fact => [
  'turn.completed',
  { turn, input_id: inputId, outcome, usage, cost_usd: 0.01, steps: 1 },
];

export const modelStarted = (step = 1, attempt = 1): Fact => [
  'model.started',
  { step, attempt, model: 'test-model', request_digest: 'd' },
];

export const delta = (text: string, step = 1, attempt = 1): Fact => [
  'model.delta',
  { step, attempt, kind: 'text', text },
];

export const modelCompleted = (text: string, step = 1, attempt = 1): Fact => [
  'model.completed',
  {
    step,
    attempt,
    message: { text, tool_calls: [] },
    usage,
    cost_usd: 0.01,
    finish_reason: 'stop',
    latency_ms: 5,
  },
];

export const toolRequested = (callId = '1.1.1', command = 'ls'): Fact => [
  'tool.requested',
  { call_id: callId, tool: 'shell', arguments: { command }, effect: 'write' },
];

export const toolStarted = (callId = '1.1.1'): Fact => [
  'tool.started',
  { call_id: callId, level: 'bubblewrap', limits: {} },
];

export const toolCompleted = (status = 'ok', callId = '1.1.1', output = 'out\n'): Fact => [
  'tool.completed',
  {
    call_id: callId,
    status,
    output,
    duration_ms: 1200,
    truncated: false,
    ...(status === 'denied' ? {} : { exit_code: status === 'ok' ? 0 : 1, level: 'bubblewrap' }),
  },
];

export const approvalRequested = (callId = '1.1.1', command = 'ls'): Fact => [
  'approval.requested',
  {
    call_id: callId,
    digest: 'd',
    tool: 'shell',
    arguments: { command },
    expires_at: '2026-01-02T03:09:05.000Z',
  },
];

/** As above, with what a real supervisor says of the wider answers. */
export const approvalWithRule = (callId = '1.1.1', command = 'git push'): Fact => [
  'approval.requested',
  {
    ...{ call_id: callId, digest: 'd1', tool: 'shell', arguments: { command } },
    expires_at: '2026-01-02T03:09:05.000Z',
    rule: 'security.rules[1]: ask tool shell',
    covers: ['shell (security.rules[1]: ask tool shell)'],
    keeps: { tool: 'shell', agent: 'default', workspace: '/ws', command },
  },
];

export const questionAsked = (callId = '1.1.1'): Fact => [
  'approval.requested',
  {
    ...{ call_id: callId, digest: 'd2', tool: 'ask_user' },
    arguments: { question: 'Which one?', options: ['SQLite', 'PostgreSQL'] },
    expires_at: '2026-01-02T03:09:05.000Z',
  },
];

export const approvalResolved = (decision = 'approve', callId = '1.1.1'): Fact => [
  'approval.resolved',
  { call_id: callId, decision, by: 'socket' },
];

export const state = (from: string, to: string, reason = 'because'): Fact => [
  'session.state',
  { from, to, reason },
];

export const workerStarted = (generation: number): Fact => [
  'worker.started',
  { generation, pid: 100 + generation, warm: true },
];

export const workerExited = (generation: number, cause = 'crashed', extra: object = {}): Fact => [
  'worker.exited',
  {
    generation,
    pid: 100 + generation,
    cause,
    code: 1,
    signal: null,
    stderr_tail: 'boom\n',
    peak_rss_bytes: 2 ** 20,
    ...extra,
  },
];

export const restarting = (attempt: number, delay_ms: number): Fact => [
  'worker.restarting',
  { attempt, delay_ms },
];

export const modelFailed = (code: string, retry_in_ms: number | null, attempt = 1): Fact => [
  'model.failed',
  { step: 1, attempt, error: { code, message: 'no' }, retry_in_ms },
];
