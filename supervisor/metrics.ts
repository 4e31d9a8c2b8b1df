/** The Prometheus text of /metrics. Pure; no session id is ever a label. */
import type { StatusView } from '../protocol/resources.ts';
import type { SessionRecord } from '../store/contract.ts';

export function toMetrics(status: StatusView, records: readonly SessionRecord[]): string {
  const sum = (pick: (record: SessionRecord) => number): number =>
    records.reduce((total, record) => total + pick(record), 0);
  const lines: string[] = [];
  const metric = (
    name: string,
    type: string,
    help: string,
    rows: readonly (readonly [string, number])[],
  ): void => {
    lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
    for (const [labels, value] of rows) lines.push(`${name}${labels} ${value}`);
  };
  const states = Object.entries(status.sessions);
  metric('prx_up', 'gauge', '1 while the supervisor accepts work.', [
    ['', status.status === 'ok' ? 1 : 0],
  ]);
  metric(
    'prx_sessions',
    'gauge',
    'Sessions by state.',
    states.map(([state, count]) => [`{state="${state}"}`, count]),
  );
  metric('prx_workers_resident', 'gauge', 'Sessions that hold a worker.', [
    ['', status.capacity.resident],
  ]);
  metric('prx_workers_warm', 'gauge', 'Spare workers ready to be given away.', [
    ['', status.capacity.warm],
  ]);
  metric('prx_sessions_queued', 'gauge', 'Sessions waiting for a worker.', [
    ['', status.capacity.queued],
  ]);
  metric('prx_worker_restarts_total', 'counter', 'Worker restarts.', [
    ['', sum((r) => r.restarts)],
  ]);
  metric('prx_approvals_pending', 'gauge', 'Approvals waiting for an answer.', [
    ['', sum((r) => r.approvals.length)],
  ]);
  metric('prx_tokens_total', 'counter', 'Tokens by direction.', [
    ['{type="input"}', sum((r) => r.usage.input_tokens)],
    ['{type="output"}', sum((r) => r.usage.output_tokens)],
  ]);
  metric('prx_cost_usd_total', 'counter', 'Model cost, US dollars.', [
    ['', sum((r) => r.cost_usd)],
  ]);
  return `${lines.join('\n')}\n`;
}
