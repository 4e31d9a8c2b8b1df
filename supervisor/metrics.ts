/** The Prometheus text of /metrics. Pure. A session is a label of one gauge only, and only while it
 *  holds a worker: as many series at once as there are slots. */
import type { ProcessView, StatusView } from '../protocol/resources.ts';
import { sessionStateSchema } from '../protocol/states.ts';
import type { Census, SessionRecord } from '../store/contract.ts';
import type { MemoryWatch } from './children/memory.ts';
import type { Histogram, Measured } from './measures.ts';
import type { Session } from './sessions/session.ts';
import type { TraceCounts } from './telemetry/telemetry.ts';

/** Processes that are neither the supervisor nor a worker. */
const HOST_KINDS = ['gateway', 'sandbox', 'mcp'] as const;
type HostKind = (typeof HOST_KINDS)[number];

/** What no record has. */
export interface LiveFacts {
  readonly rssBytes: number;
  readonly workers: readonly { readonly session: string; readonly rssBytes: number }[];
  readonly hosts: readonly { readonly kind: HostKind; readonly rssBytes: number }[];
  readonly measured: Measured;
  readonly traces: TraceCounts;
}

/** Of the sessions that hold a worker and were sampled. */
export function toWorkerMemory(
  sessions: readonly Pick<Session, 'id' | 'resident'>[],
  memory: Pick<MemoryWatch, 'recordOf'>,
): LiveFacts['workers'] {
  return sessions.flatMap(({ id, resident }) => {
    const worker = resident.worker();
    const rssBytes = worker && memory.recordOf(worker.pid)?.curve.at(-1)?.rss_bytes;
    return rssBytes === undefined ? [] : [{ session: id, rssBytes }];
  });
}

/** All of a kind as one figure: there are as many as there are sessions. */
export function toHostMemory(processes: readonly ProcessView[]): LiveFacts['hosts'] {
  return HOST_KINDS.map((kind) => {
    const own = processes.filter((each) => each.kind === kind);
    return { kind, rssBytes: own.reduce((sum, each) => sum + (each.rss_bytes ?? 0), 0) };
  });
}

export function toMetrics(
  status: StatusView,
  { sessions: records, removed }: Census,
  live?: LiveFacts,
): string {
  const sum = (pick: (record: SessionRecord) => number): number =>
    records.reduce((total, record) => total + pick(record), 0);
  const lines: string[] = [];
  const metric: Write = (name, type, help, rows) => {
    lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
    for (const [labels, value] of rows) lines.push(`${name}${labels} ${value}`);
  };
  // Also the states that none is in: an alarm on `failed` needs a 0 to rise from.
  const states = sessionStateSchema.options.map(
    (state) => [state, status.sessions[state] ?? 0] as const,
  );
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
  metric('prx_inputs_queued', 'gauge', 'Inputs accepted and not begun.', [
    ['', sum((r) => r.queued.length)],
  ]);
  metric('prx_approvals_pending', 'gauge', 'Approvals waiting for an answer.', [
    ['', sum((r) => r.approvals.length)],
  ]);
  metric('prx_tokens_total', 'counter', 'Tokens by direction.', [
    ['{type="input"}', removed.input_tokens + sum((r) => r.usage.input_tokens)],
    ['{type="output"}', removed.output_tokens + sum((r) => r.usage.output_tokens)],
  ]);
  metric('prx_cost_usd_total', 'counter', 'Model cost, US dollars.', [
    ['', removed.cost_usd + sum((r) => r.cost_usd)],
  ]);
  if (live !== undefined) {
    writeMemory(metric, live);
    writeMeasured(metric, live.measured);
    writeTraces(metric, live.traces);
  }
  return `${lines.join('\n')}\n`;
}

type Rows = readonly (readonly [string, number])[];
type Write = (name: string, type: string, help: string, rows: Rows) => void;

function writeMemory(metric: Write, { rssBytes, workers, hosts }: LiveFacts): void {
  metric('prx_supervisor_rss_bytes', 'gauge', 'Memory of the supervisor.', [['', rssBytes]]);
  metric(
    'prx_session_rss_bytes',
    'gauge',
    'Memory of the worker of a resident session, as last sampled.',
    workers.map(({ session, rssBytes: bytes }) => [`{session="${session}"}`, bytes]),
  );
  metric(
    'prx_host_rss_bytes',
    'gauge',
    'Memory of the gateway, of all sandbox hosts and of all MCP hosts, without what they run.',
    hosts.map(({ kind, rssBytes: bytes }) => [`{kind="${kind}"}`, bytes]),
  );
}

function writeTraces(metric: Write, traces: TraceCounts): void {
  const outcomes = ['exported', 'failed', 'dropped'] as const;
  metric(
    'prx_traces_total',
    'counter',
    'Traces of ended turns, by what became of them.',
    outcomes.map((outcome) => [`{outcome="${outcome}"}`, traces[outcome]]),
  );
}

function writeMeasured(metric: Write, measured: Measured): void {
  const { modelFailures, workerExits, workerRestarts, turns } = measured;
  metric('prx_worker_restarts_total', 'counter', 'Worker restarts by cause.', workerRestarts);
  metric('prx_worker_exits_total', 'counter', 'Ends of workers by cause.', workerExits);
  metric('prx_turns_total', 'counter', 'Turns that ended, by outcome.', turns);
  metric('prx_model_failures_total', 'counter', 'Failed model attempts by code.', modelFailures);
  metric(
    'prx_model_call_seconds',
    'histogram',
    'Model calls from request to outcome.',
    measured.modelCalls.flatMap(toRows),
  );
  metric(
    'prx_model_first_token_seconds',
    'histogram',
    'Model calls from request to first token.',
    measured.firstTokens.flatMap(toRows),
  );
  metric(
    'prx_tool_call_seconds',
    'histogram',
    'Tool calls by how they ended.',
    measured.toolCalls.flatMap(toRows),
  );
  metric(
    'prx_journal_lag_seconds',
    'histogram',
    'From the stamp of an event to its publication; deltas not counted.',
    toRows(measured.journalLag),
  );
}

/** The lines of one histogram; the name that each begins with ends in what is here. */
function toRows({ labels, bounds, counts, sum }: Histogram): Rows {
  const inner = labels === '' ? '' : `${labels},`;
  const outer = labels === '' ? '' : `{${labels}}`;
  let total = 0;
  const buckets = counts.map((count, index): readonly [string, number] => {
    total += count;
    return [`_bucket{${inner}le="${bounds[index] ?? '+Inf'}"}`, total];
  });
  return [...buckets, [`_sum${outer}`, sum], [`_count${outer}`, total]];
}
