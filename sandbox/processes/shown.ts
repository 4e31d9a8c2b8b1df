/** What the model reads of a background process. Pure: every sentence stands here. */
import type { ProcessEnd, ProcessEndReason } from '../../protocol/processes.ts';
import { joinSentence, type ToolResult } from '../outcome.ts';
import type { KnownProcess, OutputPart } from './record.ts';

export interface Standing {
  readonly call: string;
  readonly known: KnownProcess;
  /** Absent: it does not run here. */
  readonly live?: { readonly ranForMs: number; readonly leftMs: number };
  /** Why its output could not be kept. */
  readonly failure?: string | undefined;
}

const endSentences: Readonly<Record<ProcessEndReason, string>> = {
  exited: 'it ended by itself',
  stopped: 'it was stopped',
  deadline: 'it was killed at its time limit',
  limit: 'it was killed with all it started',
  closed: 'it was ended with its session',
  replaced: 'it was ended because the settings of its sandbox changed',
  orphaned: 'it was ended because its supervisor was gone; start it again if it is still needed',
  not_started: 'it could not be started; nothing ran',
  lost: 'its sandbox is gone, and it with it; how far it came is not known. Start it again if it is still needed',
};

export function toStateSentence({ call, known, live }: Standing): string {
  if (live !== undefined) {
    const seconds = (ms: number): number => Math.round(ms / 1000);
    return (
      `process ${call} runs since ${seconds(live.ranForMs)} s, ` +
      `and is killed in ${seconds(live.leftMs)} s at the latest`
    );
  }
  return `process ${call} does not run any more: ${toEndSentence(known.end ?? { reason: 'lost' })}`;
}

function toEndSentence({ reason, exit_code: code, exceeded }: ProcessEnd): string {
  const exit = code === undefined ? '' : `, exit code ${code}`;
  const limit =
    exceeded === undefined
      ? ''
      : `: security.sandbox.${exceeded.limit} is ${exceeded.max}, it came to ${exceeded.value}`;
  return `${endSentences[reason]}${exit}${limit}`;
}

/** @param wanted  the offset that was asked for, where one was. */
export function toShownOutput(
  standing: Standing,
  part: OutputPart,
  wanted: number | undefined,
): ToolResult {
  const { text, from, next, end } = part;
  const isGone = wanted !== undefined && wanted >= 0 && from > wanted;
  const gone = isGone ? `bytes ${wanted} to ${from} are no longer kept; ` : '';
  const rest = end > next ? `, ${end - next} more follow: poll again` : '';
  const span = text === '' ? `no output from byte ${from} on` : `bytes ${from} to ${next}${rest}`;
  const failed =
    standing.failure === undefined ? '' : `; later output was not kept (${standing.failure})`;
  const sentence = `${toStateSentence(standing)}; ${gone}${span}${failed}`;
  const output = text === '' ? `[${sentence}]` : joinSentence(text, sentence);
  return { status: 'ok', output, truncated: isGone || end > next };
}

const COMMAND_CHARS_MAX = 200;

export function toList(standings: readonly Standing[]): ToolResult {
  const lines = standings.map((standing) => {
    const { command } = standing.known.start;
    const line = command.replaceAll(/\s+/g, ' ').slice(0, COMMAND_CHARS_MAX);
    return `${toStateSentence(standing)}: ${line}`;
  });
  const output = lines.length === 0 ? 'There is no background process.' : lines.join('\n');
  return { status: 'ok', output, truncated: false };
}
