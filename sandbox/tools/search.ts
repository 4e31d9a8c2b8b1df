/** The search tool: ripgrep in a fresh sandbox of its own. Its output is read here line by line,
 *  counted, and cut; the separator after the path is a NUL, so no file name can forge a match. */
import type { z } from 'zod';
import type { Clock } from '../../base/clock.ts';
import type { EffectId } from '../../protocol/ids.ts';
import type { searchArgumentsSchema } from '../../protocol/tools.ts';
import type { Backend } from '../launch/backend.ts';
import { quote } from '../launch/quote.ts';
import { type ToolLimits, type ToolResult, toEnding, toFailure, toUsage } from '../outcome.ts';
import { runScript, type StopCause } from '../script.ts';

export type SearchArguments = z.infer<typeof searchArgumentsSchema>;

export interface SearchCall {
  readonly backend: Backend;
  readonly clock: Clock;
  readonly effect: EffectId;
  readonly arguments: SearchArguments;
  readonly limits: ToolLimits;
  readonly signal: AbortSignal;
}

const MATCHES_DEFAULT = 200;
const COLUMNS_MAX = 1000;
const ERROR_CHARS_MAX = 2000;

/** Throws SANDBOX_UNAVAILABLE; every other end is a result. */
export async function runSearch(call: SearchCall): Promise<ToolResult> {
  const { backend, clock, effect, limits, signal } = call;
  const program = backend.searchProgram;
  if (program === undefined) {
    const mend = 'install ripgrep on the host, or reinstall prx-supervisor with optional packages';
    return toFailure(`search is not available: no ripgrep was found; mend: ${mend}`);
  }
  const lines = createMatchLines({
    matchesMax: call.arguments.max_matches ?? MATCHES_DEFAULT,
    bytesMax: limits.maxOutputBytes,
  });
  const decoders = { stdout: new TextDecoder(), stderr: new TextDecoder() };
  let errors = '';

  async function onOutput(
    name: 'stdout' | 'stderr',
    bytes: Buffer,
    stop: (cause: StopCause) => void,
  ): Promise<void> {
    const text = decoders[name].decode(bytes, { stream: true });
    if (name === 'stderr') errors = (errors + text).slice(0, ERROR_CHARS_MAX);
    else if (lines.push(text) === 'full') stop('enough');
  }

  const script = toSearchScript(program, call.arguments);
  const { timeoutMs, tree } = limits;
  const bounds = { timeoutMs, limits: tree, use: { call: effect } };
  const end = await runScript({ backend, clock, script, ...bounds, signal, onOutput });
  const found = lines.finish();
  if (end.kind === 'exited' && end.code === 1 && found.count === 0) {
    return { status: 'ok', output: 'No matches.', exit_code: 1, truncated: false };
  }
  if (end.kind === 'exited' && end.code > 1 && found.count === 0) {
    return { ...toFailure(errors.trim() || 'the search failed'), exit_code: end.code };
  }
  const ending = toEnding(end, { timeoutMs, floodBytes: limits.maxOutputBytes });
  // Exit code 2 beside matches: some files could not be read, which does not undo the others.
  const status = end.kind === 'exited' ? 'ok' : ending.status;
  const notes = [found.note, end.kind === 'exited' ? errors.trim() : ending.sentence];
  const output = [found.text, ...notes.filter((note) => note !== '')].join('\n');
  const exceeded = ending.exceeded === undefined ? {} : { exceeded: ending.exceeded };
  return { status, output, truncated: found.note !== '', ...toUsage(end), ...exceeded };
}

/** The command line for /bin/sh. Pure. */
export function toSearchScript(program: string, args: SearchArguments): string {
  const flags = ['--no-config', '--null', '--line-number', '--no-heading', '--with-filename'];
  flags.push('--color=never', '--sort=path', '--no-require-git', '--context-separator=--');
  flags.push(`--max-columns=${COLUMNS_MAX}`, '--max-columns-preview');
  if (args.ignore_case) flags.push('--ignore-case');
  if (args.literal) flags.push('--fixed-strings');
  if (args.glob !== undefined) flags.push(`--glob=${args.glob}`);
  if (args.context !== undefined) flags.push(`--context=${args.context}`);
  const words = [program, ...flags, '-e', args.pattern, '--', args.path ?? './'];
  return `exec ${words.map(quote).join(' ')}\n`;
}

interface MatchLines {
  push(text: string): 'more' | 'full';
  finish(): { readonly text: string; readonly count: number; readonly note: string };
}

/** Turns `path NUL line:text` into `path:line:text`, counting matches but not context. */
export function createMatchLines(limits: {
  readonly matchesMax: number;
  readonly bytesMax: number;
}): MatchLines {
  const shown: string[] = [];
  let rest = '';
  let count = 0;
  let bytes = 0;
  let note = '';

  function take(line: string): void {
    const match = /^([^\0]*)\0(\d+)([:-])(.*)$/s.exec(line);
    const [, path = '', number, mark, text] = match ?? [];
    const isMatch = mark === ':';
    if (isMatch && count === limits.matchesMax) {
      note = `[stopped at ${count} matches; ask for a narrower pattern, path or glob]`;
      return;
    }
    const plain =
      match === null ? line : `${path.replace(/^\.\//, '')}${mark}${number}${mark}${text}`;
    bytes += Buffer.byteLength(plain) + 1;
    if (bytes > limits.bytesMax) {
      note = `[stopped at ${limits.bytesMax} bytes; ask for a narrower pattern, path or glob]`;
      return;
    }
    if (isMatch) count += 1;
    shown.push(plain);
  }

  return {
    push(text) {
      const parts = (rest + text).split('\n');
      rest = parts.pop() ?? '';
      for (const line of parts) if (note === '') take(line);
      return note === '' ? 'more' : 'full';
    },
    finish() {
      if (rest !== '' && note === '') take(rest);
      return { text: shown.join('\n'), count, note };
    },
  };
}
