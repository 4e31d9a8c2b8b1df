/** The post-mortem as people read it: sections of lines, or flat labelled lines. Pure. */
import { formatBytes, formatClock, formatDuration } from '../text/format.ts';
import { sanitize, sanitizeLine } from '../text/width.ts';
import type { Advice } from './advice.ts';
import type { Death, EffectNote, ModelFailure, Report, ToolFailure } from './report.ts';

export interface Section {
  readonly title: string;
  /** Stands before each line in the flat form. */
  readonly label: string;
  readonly lines: readonly string[];
}

const STDERR_LINES_MAX = 10;

/** Only sections that have something to say. */
export function toSections(report: Report, next: readonly Advice[]): Section[] {
  const sections: Section[] = [
    { title: 'What died', label: 'died', lines: report.deaths.flatMap(describeDeath) },
    section('Went on', 'resumed', report.resumed, ({ turn, generation, outcome }) => {
      const end = outcome === undefined ? 'not ended yet' : outcome;
      return `turn ${turn ?? '?'} was taken over by worker ${generation}: ${end}`;
    }),
    section('Model', 'model', report.model_failures, describeModelFailure),
    section('Tools', 'tool', report.tool_failures, describeToolFailure),
    section('Effects', 'effect', report.effects, describeEffect),
    section('Approvals', 'approval', report.approvals_timed_out, ({ call_id, tool }) => {
      return `${tool} ${call_id} got no answer in time`;
    }),
    section('Set aside', 'input', report.quarantined, ({ input_id, reason }) => {
      return `${input_id}: ${reason}`;
    }),
    section('Limits', 'limit', report.limits, ({ limit, value, max, level }) => {
      return `${limit}: ${value} of ${max}${level === 'soft' ? ', near: a warning' : ''}`;
    }),
    section('Turns', 'turn', report.turns, ({ turn, outcome, reason }) => {
      return `turn ${turn ?? '?'}: ${outcome}${reason === undefined ? '' : ` (${reason})`}`;
    }),
    section('The session failed', 'failed', report.failures, ({ reason }) => reason),
    section('The journal', 'journal', report.store, ({ kind, reason }) => `${kind}: ${reason}`),
    {
      title: 'Next',
      label: 'next',
      lines: next.map(({ what, command }) =>
        command === undefined ? what : `${command}   ${what}`,
      ),
    },
  ];
  return sections.filter(({ lines }) => lines.length > 0);
}

interface Located {
  readonly seq: number;
  readonly time: string;
}

function section<T extends Located>(
  title: string,
  label: string,
  entries: readonly T[],
  describe: (entry: T) => string,
): Section {
  return { title, label, lines: entries.map((each) => toLine(each, describe(each))) };
}

/** The number leads into `events ID --since`. */
function toLine({ seq, time }: Located, text: string): string {
  return `${formatClock(time)} #${seq} ${sanitizeLine(text)}`;
}

function describeDeath(death: Death): string[] {
  const lines = [toLine(death, toDeathSentence(death))];
  const turn = death.turn === undefined ? '' : ` of turn ${death.turn}`;
  if (death.during.length > 0) lines.push(`  during ${death.during.join(', ')}${turn}`);
  else if (death.turn !== undefined) lines.push(`  in turn ${death.turn}, between effects`);
  lines.push(`  ${toSequel(death)}`);
  const tail = sanitize(death.stderr_tail).trimEnd();
  if (tail === '') return lines;
  return [
    ...lines,
    ...tail
      .split('\n')
      .slice(-STDERR_LINES_MAX)
      .map((line) => `  | ${line}`),
  ];
}

const CAUSES: Readonly<Record<Death['cause'], string>> = {
  completed: 'completed',
  stopped: 'was stopped',
  crashed: 'crashed',
  memory: 'took too much memory',
  timeout: 'missed a deadline',
  unresponsive: 'did not answer',
  protocol: 'broke the protocol',
  lost: 'ended with the supervisor',
};

function toDeathSentence(death: Death): string {
  const facts: string[] = [];
  if (death.code !== null) facts.push(`exit ${death.code}`);
  if (death.signal !== null) facts.push(death.signal);
  if (death.uptime_ms !== null) facts.push(`after ${formatDuration(death.uptime_ms)}`);
  if (death.peak_rss_bytes !== null) facts.push(`peak ${formatBytes(death.peak_rss_bytes)}`);
  const more = facts.length === 0 ? '' : ` (${facts.join(', ')})`;
  return `worker ${death.generation}, pid ${death.pid}, ${CAUSES[death.cause]}${more}`;
}

function toSequel({ restart, replaced_by }: Death): string {
  const wait =
    restart === undefined ? '' : `restart ${restart.attempt} after ${restart.delay_ms} ms`;
  if (replaced_by === undefined) return wait === '' ? 'no worker followed' : `${wait}: not yet up`;
  return `${wait === '' ? '' : `${wait}: `}worker ${replaced_by} followed`;
}

function describeModelFailure(failure: ModelFailure): string {
  const { turn, step, attempt, code, message, retry_in_ms, recovered } = failure;
  const what = `model call ${turn === undefined ? '' : `${turn}.`}${step}, attempt ${attempt}`;
  const retry = retry_in_ms === null ? 'given up' : `tried again in ${retry_in_ms} ms`;
  return `${what}: ${message} (${code}); ${recovered ? 'a later attempt was answered' : retry}`;
}

function describeToolFailure({ call_id, tool, status, duration_ms, says }: ToolFailure): string {
  const said = says === '' ? '' : `: ${says.split('\n')[0] ?? ''}`;
  return `${tool} ${call_id} ended ${status} after ${formatDuration(duration_ms)}${said}`;
}

function describeEffect({ kind, id, how }: EffectNote): string {
  return kind === 'adopted'
    ? `${id}: its outcome was found (${how}) and taken over`
    : `${id}: how it ended is not known; ${how}`;
}

/** One sentence: how much of what. */
export function summarize({ counts }: Report): string {
  const parts = [
    count(counts.deaths, 'worker death'),
    count(counts.resumed, 'turn resumption'),
    count(counts.model_failures, 'failed model attempt'),
    count(counts.tool_failures, 'broken tool call'),
    count(counts.approvals_timed_out, 'approval without an answer', 'approvals without an answer'),
    count(counts.quarantined, 'input set aside', 'inputs set aside'),
    count(counts.limits, 'limit reached', 'limits reached'),
    count(counts.turns, 'turn that did not complete', 'turns that did not complete'),
  ].filter((part) => part !== '');
  return parts.length === 0
    ? 'Nothing went wrong here, as far as the journal knows.'
    : `${parts.join(', ')}.`;
}

function count(value: number, one: string, many = `${one}s`): string {
  return value === 0 ? '' : `${value} ${value === 1 ? one : many}`;
}
