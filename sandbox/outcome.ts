/** From the end of a run to what the model reads. Pure: every sentence a model may see about its
 *  call stands here. */
import { constants } from 'node:os';
import type { ToolOutcome, ToolStatus } from '../protocol/content.ts';
import type { Collector } from './collect.ts';
import type { Withheld } from './launch/guards.ts';
import { toPrintable } from './printable.ts';
import type { ScriptEnd } from './script.ts';
import type { SpillResult } from './spill.ts';
import type { Breach, TreeLimits } from './watch.ts';

/** An outcome without what the host adds to each: duration, level, notice. */
export type ToolResult = Pick<
  ToolOutcome,
  'status' | 'output' | 'exit_code' | 'truncated' | 'artifact' | 'usage' | 'exceeded'
>;

const WITHHELD_SHOWN = 5;

export interface Ending {
  readonly status: ToolStatus;
  readonly exitCode: number | undefined;
  /** One sentence, empty when the output speaks for itself. */
  readonly sentence: string;
  readonly exceeded?: ToolOutcome['exceeded'];
}

/** The bounds of one call. */
export interface ToolLimits {
  readonly timeoutMs: number;
  readonly maxOutputBytes: number;
  readonly tree: TreeLimits;
}

export interface EndingLimits {
  readonly timeoutMs: number;
  readonly floodBytes: number;
}

export function toEnding(end: ScriptEnd, limits: EndingLimits): Ending {
  switch (end.kind) {
    case 'exited':
      return toExitEnding(end.code);
    case 'enough':
      return { status: 'ok', exitCode: undefined, sentence: '' };
    case 'timeout': {
      const seconds = limits.timeoutMs / 1000;
      const sentence =
        `The command and all it started were killed after its time limit of ${seconds} s. ` +
        'Ask for less at once, or for a longer timeout_secs if the limit allows it.';
      const exceeded = { limit: 'timeout_secs', value: seconds, max: seconds };
      return { status: 'timeout', exitCode: undefined, sentence, exceeded };
    }
    case 'cancelled':
      return { status: 'cancelled', exitCode: undefined, sentence: 'The call was cancelled.' };
    case 'flood': {
      const sentence =
        `The command was killed because it printed more than ${limits.floodBytes} bytes. ` +
        'Write long output to a file in the workspace and look at parts of it.';
      const max = limits.floodBytes;
      const exceeded = { limit: 'max_output_bytes', value: max, max };
      return { status: 'killed', exitCode: undefined, sentence, exceeded };
    }
    case 'limit':
      return toBreachEnding(end.breach);
    case 'unstarted': {
      const sentence = 'Its sandbox was killed before the command began: nothing ran. Call again.';
      return { status: 'error', exitCode: undefined, sentence };
    }
    case 'lost': {
      const sentence =
        `The sandbox ended without an exit code (${end.detail}): how far the command came is not ` +
        'known. Look at its effects before running it again.';
      return { status: 'indeterminate', exitCode: undefined, sentence };
    }
  }
}

const breachSentences: Readonly<Record<Breach['limit'], (value: number, max: number) => string>> = {
  memory_limit_mb: (value, max) =>
    `together they used ${value} MiB of memory; the limit is ${max} MiB. Use less at once: ` +
    'smaller parts, fewer processes',
  max_cpu_secs: (value, max) =>
    `together they used ${value} s of processor time; the limit is ${max} s. Do less in one call`,
  max_disk_mb: (value, max) =>
    `they added ${value} MiB to the workspace; the limit of one call is ${max} MiB. Write ` +
    'less, or in several calls',
  max_files: (value, max) =>
    `they created ${value} files; the limit of one call is ${max}. Create fewer, or in several ` +
    'calls',
};

export function toBreachEnding(breach: Breach): Ending {
  const { limit, value, max } = breach;
  const why = breachSentences[limit](value, max);
  const key = `security.sandbox.${limit}`;
  const sentence = `The command and all it started were killed: ${why} (${key}).`;
  const status = limit === 'memory_limit_mb' ? 'memory' : 'killed';
  return { status, exitCode: undefined, sentence, exceeded: { limit, value, max } };
}

/** For the model, and for whoever reads the result. Pure. */
export function toWithheldSentence(withheld: readonly Withheld[]): string {
  if (withheld.length === 0) return '';
  const shown = withheld.slice(0, WITHHELD_SHOWN).map(({ path, aside, reason }) => {
    const why = reason === undefined ? '' : ` (${reason})`;
    return `${toPrintable(path)} is now ${toPrintable(aside)}${why}`;
  });
  const more = withheld.length - shown.length;
  return (
    `Put aside, because a program of the user would run what it says: ${shown.join(', ')}` +
    `${more > 0 ? `, and ${more} more` : ''}. Who wants it renames it back.`
  );
}

/** What is known of the use of a call. Pure. */
export function toUsage({ peakBytes }: ScriptEnd): Pick<ToolResult, 'usage'> {
  return peakBytes === undefined ? {} : { usage: { peak_memory_bytes: peakBytes } };
}

function toExitEnding(code: number): Ending {
  if (code === 0) return { status: 'ok', exitCode: 0, sentence: '' };
  const name = code > 128 ? findSignalName(code - 128) : undefined;
  const why = name === undefined ? '' : `: ended by ${name}`;
  return { status: 'error', exitCode: code, sentence: `exit code ${code}${why}` };
}

function findSignalName(number: number): string | undefined {
  return Object.entries(constants.signals).find(([, value]) => value === number)?.[0];
}

export interface Produced {
  readonly collector: Collector;
  readonly spill: SpillResult;
  readonly artifact: string;
}

/** The text for the model and what was cut from it. */
export function toShown(produced: Produced): Pick<ToolResult, 'output' | 'truncated' | 'artifact'> {
  const { collector, spill, artifact } = produced;
  const kept = spill.keptBytes > 0 ? artifact : undefined;
  const text = collector.toText(toCutSentence(produced));
  return {
    output: text,
    truncated: collector.cutBytes() > 0,
    ...(kept === undefined ? {} : { artifact: kept }),
  };
}

function toCutSentence({ collector, spill, artifact }: Produced): string {
  const cut = `${collector.cutBytes()} bytes of ${spill.totalBytes} were cut here`;
  if (spill.keptBytes === 0) return `${cut}; the rest could not be kept: ${spill.failure ?? 'no'}`;
  const whole = spill.keptBytes === spill.totalBytes;
  const part = whole ? 'the whole output' : `its first ${spill.keptBytes} bytes`;
  return `${cut}; ${part} is kept as artifact ${artifact}`;
}

/** The output with the sentence about its end on a line of its own. */
export function joinSentence(output: string, sentence: string): string {
  if (sentence === '') return output === '' ? '(no output)' : output;
  const gap = output === '' || output.endsWith('\n') ? '' : '\n';
  return `${output}${gap}[${sentence}]`;
}

export function toFailure(message: string, status: ToolStatus = 'error'): ToolResult {
  return { status, output: message, truncated: false };
}
