/** The search tool: ripgrep in a fresh sandbox of its own. Its output is read here line by line,
 *  counted, and cut; the separator after the path is a NUL, so no file name can forge a match. */
import type { z } from 'zod';
import type { searchArgumentsSchema } from '../../protocol/tools.ts';
import { type ToolResult, toFailure } from '../outcome.ts';
import {
  hasOnlyPassedOver,
  type RipgrepCall,
  runRipgrep,
  toAdvice,
  toRipgrepScript,
} from './ripgrep.ts';

export type SearchArguments = z.infer<typeof searchArgumentsSchema>;

export interface SearchCall extends RipgrepCall {
  readonly arguments: SearchArguments;
}

const MATCHES_DEFAULT = 200;
const COLUMNS_MAX = 1000;

/** Throws SANDBOX_UNAVAILABLE; every other end is a result. */
export async function runSearch(call: SearchCall): Promise<ToolResult> {
  const { backend, limits } = call;
  const program = backend.searchProgram;
  if (program === undefined) {
    const mend = 'install ripgrep on the host, or reinstall prx-supervisor with optional packages';
    return toFailure(`search is not available: no ripgrep was found; mend: ${mend}`);
  }
  const lines = createMatchLines({
    matchesMax: call.arguments.max_matches ?? MATCHES_DEFAULT,
    bytesMax: limits.maxOutputBytes,
  });
  const script = toSearchScript(program, call.arguments, backend.workspace);
  const { code, errors, sentence, status, facts } = await runRipgrep(call, script, lines.push);
  const found = lines.finish();
  if (code === 1 && found.count === 0) {
    return { status: 'ok', output: 'No matches.', exit_code: 1, truncated: false };
  }
  if (code !== undefined && code > 1 && found.count === 0) {
    if (!hasOnlyPassedOver(errors, call.arguments.path)) {
      const why = toAdvice(errors, call.arguments.path) || 'the search failed';
      return { ...toFailure(why), exit_code: code };
    }
    const output = `No matches in what could be read.\n${errors}`;
    return { status: 'ok', output, exit_code: code, truncated: false };
  }
  // Exit code 2 beside matches: some files could not be read, which does not undo the others.
  const notes = [found.note, code === undefined ? sentence : errors];
  const output = [found.text, ...notes.filter((note) => note !== '')].join('\n');
  return { status, output, truncated: found.note !== '', ...facts };
}

/** The command line for /bin/sh. Pure. */
export function toSearchScript(program: string, args: SearchArguments, workspace: string): string {
  const flags = ['--no-config', '--null', '--line-number', '--no-heading', '--with-filename'];
  flags.push('--color=never', '--sort=path', '--no-require-git', '--context-separator=--');
  // As read_file shows lines, so that `$` is their end whatever ends them.
  flags.push('--crlf');
  flags.push(`--max-columns=${COLUMNS_MAX}`, '--max-columns-preview');
  if (args.ignore_case) flags.push('--ignore-case');
  if (args.literal) flags.push('--fixed-strings');
  if (args.context !== undefined) flags.push(`--context=${args.context}`);
  flags.push('-e', args.pattern);
  const { path, glob } = args;
  return toRipgrepScript(program, flags, { workspace, path, glob });
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
    const match = /^([^\0]*)\0(\d+)([:-])(.*?)\r?$/s.exec(line);
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
