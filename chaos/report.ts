/** What a run says at its end: the same facts as JSON and for people. Pure. */
import type { EventEnvelope } from '../protocol/events.ts';
import { type History, type InjectedFault, ofType, type Violation } from './history.ts';
import { faultKinds, minimumOf } from './plan.ts';
import type { ProviderFault } from './script.ts';

export interface Work {
  readonly sessions: number;
  readonly events: number;
  readonly inputs: number;
  readonly turns_completed: number;
  readonly turns_interrupted: number;
  readonly tool_calls_ok: number;
  readonly approvals: number;
  readonly model_requests: number;
  readonly effects_adopted: number;
  readonly worker_starts: number;
  readonly supervisor_starts: number;
  readonly reconnects: number;
}

export interface Report {
  readonly seed: string;
  readonly seconds: number;
  readonly ok: boolean;
  readonly faults: Readonly<Record<string, number>>;
  readonly provider_faults: Readonly<Record<ProviderFault, number>>;
  readonly work: Work;
  /** How the tool calls ended. */
  readonly tool_statuses: Readonly<Record<string, number>>;
  /** What this run had to reach and did not. */
  readonly too_little: readonly string[];
  readonly skipped: readonly string[];
  readonly violations: readonly Violation[];
  /** Every fault with its wall time and its victim, in the order of their ends. */
  readonly fault_log: readonly InjectedFault[];
  /** Kept for a look, after a failure. */
  readonly scratch?: string;
}

export function countWork(history: History, reconnects: number): Work {
  const known = history.facts.flatMap((facts) => facts.known);
  const outcomes = ofType(known, 'turn.completed').map((event) => event.data.outcome);
  const count = <T>(values: readonly T[], value: T): number =>
    values.filter((each) => each === value).length;
  return {
    sessions: history.facts.length,
    events: known.length,
    inputs: history.inputs.length,
    turns_completed: count(outcomes, 'completed'),
    turns_interrupted: count(outcomes, 'interrupted'),
    tool_calls_ok: countStatuses(history)['ok'] ?? 0,
    approvals: ofType(known, 'approval.resolved').length,
    model_requests: history.requests.length,
    effects_adopted: ofType(known, 'effect.adopted').length,
    worker_starts: ofType(known, 'worker.started').length,
    supervisor_starts: history.startsMs.length,
    reconnects,
  };
}

export function countStatuses({ facts }: History): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { data } of facts.flatMap(({ known }) => ofType(known, 'tool.completed'))) {
    counts[data.status] = (counts[data.status] ?? 0) + 1;
  }
  return counts;
}

export function countFaults(history: History): Record<string, number> {
  return Object.fromEntries(
    faultKinds.map((kind) => [kind, history.faults.filter((each) => each.kind === kind).length]),
  );
}

export function countProviderFaults({ requests }: History): Record<ProviderFault, number> {
  const count = (fault: ProviderFault): number =>
    requests.filter((each) => each.fault === fault).length;
  return {
    rate_limit: count('rate_limit'),
    overload: count('overload'),
    cut: count('cut'),
    stall: count('stall'),
  };
}

/** Turns and tool calls a second: a run in which everything fails must not pass. */
const TURNS_PER_SECOND = 5 / 3;
const CALLS_PER_SECOND = 5 / 3;

/** What this run had to reach and did not: a proof needs something that was proven. */
export function findTooLittle(
  seconds: number,
  faults: Readonly<Record<string, number>>,
  work: Work,
  hasDisk: boolean,
): string[] {
  const wanted = faultKinds
    .filter((kind) => hasDisk || kind !== 'fill disk')
    .map((kind) => [kind, faults[kind] ?? 0, minimumOf(kind, seconds * 1000)] as const);
  const turns = ['turns', work.turns_completed, Math.floor(seconds * TURNS_PER_SECOND)] as const;
  const calls = ['tool calls', work.tool_calls_ok, Math.floor(seconds * CALLS_PER_SECOND)] as const;
  return [...wanted, turns, calls]
    .filter(([, actual, least]) => actual < least)
    .map(([name, actual, least]) => `${name}: ${actual} of at least ${least}`);
}

const VIOLATIONS_SHOWN_MAX = 20;

export function renderReport(report: Report): string {
  const { work, violations } = report;
  const list = (counts: Readonly<Record<string, number>>): string =>
    Object.entries(counts)
      .map(([name, count]) => `${name.replaceAll('_', ' ')} ${count}`)
      .join(', ');
  const lines = [
    `seed ${report.seed} · ${report.seconds} s`,
    `faults: ${list(report.faults)}`,
    `provider: ${list(report.provider_faults)}`,
    `work: ${list({ ...work })}`,
    `tool calls: ${list(report.tool_statuses)}`,
    ...report.skipped.map((what) => `left out: ${what}`),
    ...report.too_little.map((what) => `too little: ${what}`),
    ...violations.slice(0, VIOLATIONS_SHOWN_MAX).flatMap(renderViolation),
  ];
  const hidden = violations.length - VIOLATIONS_SHOWN_MAX;
  if (hidden > 0) lines.push(`… and ${hidden} more (--json has all)`);
  if (report.scratch !== undefined) lines.push(`kept for a look: ${report.scratch}`);
  const again = `prx-supervisor chaos --seconds ${report.seconds} --seed ${report.seed}`;
  lines.push(report.ok ? 'every invariant held' : `${toVerdict(violations.length)}: ${again}`);
  return lines.join('\n');
}

/** A machine that is slow or busy breaks no promise; it only proves little. */
function toVerdict(violations: number): string {
  if (violations > 0) return `FAILED: ${violations} violations; again with`;
  return 'no invariant was violated, but too little was done to mean anything; again with';
}

function renderViolation({ check, message, session, events = [] }: Violation): string[] {
  const where = session === undefined ? '' : ` ${session}`;
  return [`violation: ${check}${where}: ${message}`, ...events.map(renderEvent)];
}

const DATA_CHARS_MAX = 200;

function renderEvent({ seq, time, type, data }: EventEnvelope): string {
  const text = JSON.stringify(data) ?? '';
  const short = text.length > DATA_CHARS_MAX ? `${text.slice(0, DATA_CHARS_MAX)}…` : text;
  return `    ${seq} ${time} ${type} ${short}`;
}
