/** Whole resources, for tests that care about a few of their fields. */
import { sessionIdSchema } from '../../protocol/ids.ts';
import type { SessionView, StatusView } from '../../protocol/resources.ts';

export const STAMP = '2026-01-01T00:00:00.000Z';

export function createView(number: number, changes: Partial<SessionView>): SessionView {
  return {
    id: sessionIdSchema.parse(`s_${number.toString(16).padStart(16, '0')}`),
    agent: 'default',
    model: 'offline',
    workspace: '/workspace',
    labels: {},
    approve: 'ask',
    state: 'running',
    state_reason: 'created',
    activity: 'idle',
    residency: 'hibernated',
    generation: 1,
    created_at: STAMP,
    updated_at: STAMP,
    last_seq: 0,
    epoch: 1,
    turn: 0,
    queued_inputs: 0,
    pending_approvals: 0,
    usage: { input_tokens: 0, output_tokens: 0 },
    cost_usd: 0,
    restarts: 0,
    ...changes,
  };
}

export function createStatus(status: StatusView['status']): StatusView {
  return {
    status,
    reasons: status === 'ok' ? [] : ['journal: the disk is full'],
    version: '0.0.0',
    pid: 1,
    started_at: STAMP,
    state_dir: '/state',
    socket: '/state/api.sock',
    epoch: 1,
    model: 'offline',
    provider: 'offline',
    sandbox: { level: 'none' },
    worker_confinement: [],
    capacity: { max_concurrent_sessions: 8, resident: 0, queued: 0, warm: 0 },
    sessions: { running: 1 },
  };
}
