/** From the projection and the live objects to what clients see. Pure. */
import type { ApprovalView, SessionView } from '../protocol/resources.ts';
import type { SessionRecord, StoreHealth } from '../store/contract.ts';
import type { Session } from './sessions/session.ts';

export function toSessionView(
  record: SessionRecord,
  live: Session | undefined,
  model: string,
): SessionView {
  const { open_turn: open } = record;
  const notice = live?.host.report()?.notice;
  const backoff = live?.resident.backoff();
  const worker = live?.resident.worker();
  const loopLagMs = live?.resident.loopLagMs();
  return {
    id: record.id,
    ...(record.name === undefined ? {} : { name: record.name }),
    agent: record.agent,
    model: record.model ?? model,
    workspace: record.workspace,
    ...(notice === undefined ? {} : { workspace_notice: notice }),
    labels: { ...record.labels },
    approve: record.approve,
    state: record.state,
    state_reason: record.state_reason,
    activity: record.approvals.length > 0 ? 'waiting' : open === undefined ? 'idle' : 'turn',
    residency: live?.resident.residency() ?? 'hibernated',
    ...(backoff === undefined ? {} : { backoff }),
    generation: record.generation,
    ...(worker === undefined ? {} : { worker_pid: worker.pid }),
    ...(loopLagMs === undefined ? {} : { worker_loop_lag_ms: Math.round(loopLagMs) }),
    created_at: record.created_at,
    updated_at: record.updated_at,
    last_seq: record.last_seq,
    epoch: record.epoch,
    turn: record.turn,
    ...(record.last_outcome === undefined ? {} : { last_outcome: record.last_outcome }),
    ...(record.last_reason === undefined ? {} : { last_reason: record.last_reason }),
    queued_inputs: record.queued.length,
    pending_approvals: record.approvals.length,
    usage: {
      input_tokens: record.usage.input_tokens + (open?.usage.input_tokens ?? 0),
      output_tokens: record.usage.output_tokens + (open?.usage.output_tokens ?? 0),
    },
    cost_usd: record.cost_usd + (open?.cost_usd ?? 0),
    restarts: record.restarts,
    ...(record.processes === undefined ? {} : { background_processes: [...record.processes] }),
  };
}

export function toApprovalViews(record: SessionRecord): readonly ApprovalView[] {
  return record.approvals.map(({ covers, ...approval }) => ({
    session: record.id,
    ...approval,
    ...(covers === undefined ? {} : { covers: [...covers] }),
  }));
}

/** Why `status` is not ok; empty when it is. */
export function toHealthReasons({ degraded, damaged }: StoreHealth): string[] {
  const damages = damaged.map(
    ({ session, seq, problem }) =>
      `session ${session} is damaged at event ${seq} and takes no input: ${problem}`,
  );
  return [...(degraded === undefined ? [] : [degraded]), ...damages];
}
