/** One run of ripgrep in a fresh sandbox, for the tools that only read what it prints. */
import type { Clock } from '../../base/clock.ts';
import type { EffectId } from '../../protocol/ids.ts';
import type { Backend } from '../launch/backend.ts';
import { type Ending, type ToolLimits, type ToolResult, toEnding, toUsage } from '../outcome.ts';
import { runScript, type StopCause } from '../script.ts';

export interface RipgrepCall {
  readonly backend: Backend;
  readonly clock: Clock;
  readonly effect: EffectId;
  readonly limits: ToolLimits;
  readonly signal: AbortSignal;
}

export interface RipgrepEnd {
  /** ripgrep's own: 1 is no match, 2 an error. Undefined: it was ended, `sentence` says by what;
   *  '' where the reader had enough. */
  readonly code: number | undefined;
  readonly errors: string;
  readonly sentence: string;
  readonly status: Ending['status'];
  /** What it used, and the limit that ended it. */
  readonly facts: Pick<ToolResult, 'usage' | 'exceeded'>;
}

const ERROR_CHARS_MAX = 2000;

/** Whether all that it complains of are folders and files below `path` that were closed to it: it
 *  has looked through the rest. Pure. */
export function hasOnlyPassedOver(errors: string, path = './'): boolean {
  const lines = errors.split('\n');
  // The last line may have been cut.
  const whole = errors.length < ERROR_CHARS_MAX ? lines : lines.slice(0, -1);
  const isBelow = (line: string): boolean =>
    CLOSED.test(line) && !line.startsWith(`rg: ${path}: `) && !line.startsWith(`${path}: `);
  return whole.length > 0 && whole.every(isBelow);
}

const CLOSED = /: Permission denied \(os error 13\)$/;

/** `push` takes its output; 'full' ends it. Throws SANDBOX_UNAVAILABLE. */
export async function runRipgrep(
  { backend, clock, effect, limits, signal }: RipgrepCall,
  script: string,
  push: (text: string) => 'more' | 'full',
): Promise<RipgrepEnd> {
  const { timeoutMs, maxOutputBytes, tree } = limits;
  const decoders = { stdout: new TextDecoder(), stderr: new TextDecoder() };
  let errors = '';

  async function onOutput(
    name: 'stdout' | 'stderr',
    bytes: Buffer,
    stop: (cause: StopCause) => void,
  ): Promise<void> {
    const text = decoders[name].decode(bytes, { stream: true });
    if (name === 'stderr') errors = (errors + text).slice(0, ERROR_CHARS_MAX);
    else if (push(text) === 'full') stop('enough');
  }

  const bounds = { timeoutMs, limits: tree, use: { call: effect } };
  const end = await runScript({ backend, clock, script, ...bounds, signal, onOutput });
  const { exceeded, ...ending } = toEnding(end, { timeoutMs, floodBytes: maxOutputBytes });
  const facts = { ...toUsage(end), ...(exceeded === undefined ? {} : { exceeded }) };
  errors = errors.trim();
  if (end.kind !== 'exited') return { ...ending, code: undefined, errors, facts };
  return { code: end.code, errors, sentence: '', status: 'ok', facts };
}
