/** From the end of a run to what the model reads. Pure: every sentence a model may see about its
 *  call stands here. */
import { constants } from 'node:os';
import type { ToolOutcome, ToolStatus } from '../protocol/content.ts';
import type { Collector } from './collect.ts';
import type { ScriptEnd } from './script.ts';
import type { SpillResult } from './spill.ts';

/** An outcome without what the host adds to each: duration, level, notice. */
export type ToolResult = Pick<
  ToolOutcome,
  'status' | 'output' | 'exit_code' | 'truncated' | 'artifact' | 'usage'
>;

export interface Ending {
  readonly status: ToolStatus;
  readonly exitCode: number | undefined;
  /** One sentence, empty when the output speaks for itself. */
  readonly sentence: string;
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
      return { status: 'timeout', exitCode: undefined, sentence };
    }
    case 'cancelled':
      return { status: 'cancelled', exitCode: undefined, sentence: 'The call was cancelled.' };
    case 'flood': {
      const sentence =
        `The command was killed because it printed more than ${limits.floodBytes} bytes. ` +
        'Write long output to a file in the workspace and look at parts of it.';
      return { status: 'killed', exitCode: undefined, sentence };
    }
    case 'lost': {
      const sentence =
        `The sandbox ended without an exit code (${end.detail}): how far the command came is not ` +
        'known. Look at its effects before running it again.';
      return { status: 'indeterminate', exitCode: undefined, sentence };
    }
  }
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
