/** The glob tool: ripgrep lists the files in a fresh sandbox; here they are counted and cut. */
import type { z } from 'zod';
import type { globArgumentsSchema } from '../../protocol/tools.ts';
import { quote } from '../launch/quote.ts';
import { type ToolResult, toEnding, toFailure } from '../outcome.ts';
import { runScript, type StopCause } from '../script.ts';
import type { SearchCall } from './search.ts';

export type GlobArguments = z.infer<typeof globArgumentsSchema>;

export interface GlobCall extends Omit<SearchCall, 'arguments'> {
  readonly arguments: GlobArguments;
}

const RESULTS_DEFAULT = 500;
const ERROR_CHARS_MAX = 2000;

/** Throws SANDBOX_UNAVAILABLE; every other end is a result. */
export async function runGlob(call: GlobCall): Promise<ToolResult> {
  const { backend, clock, effect, limits, signal } = call;
  const program = backend.searchProgram;
  if (program === undefined) {
    const mend = 'use list_files, or shell with find';
    return toFailure(`glob is not available: no ripgrep was found on this machine; ${mend}`);
  }
  const { timeoutMs, maxOutputBytes, tree } = limits;
  const resultsMax = call.arguments.max_results ?? RESULTS_DEFAULT;
  const found = createPaths(resultsMax, maxOutputBytes);
  const decoders = { stdout: new TextDecoder(), stderr: new TextDecoder() };
  let errors = '';

  async function onOutput(
    name: 'stdout' | 'stderr',
    bytes: Buffer,
    stop: (cause: StopCause) => void,
  ): Promise<void> {
    const text = decoders[name].decode(bytes, { stream: true });
    if (name === 'stderr') errors = (errors + text).slice(0, ERROR_CHARS_MAX);
    else if (found.push(text) === 'full') stop('enough');
  }

  const script = toGlobScript(program, call.arguments);
  const bounds = { timeoutMs, limits: tree, use: { call: effect } };
  const end = await runScript({ backend, clock, script, ...bounds, signal, onOutput });
  const { paths, note } = found.finish();
  if (end.kind === 'exited' && paths.length === 0) {
    if (end.code > 1) return toFailure(errors.trim() || 'the files could not be listed');
    const output = 'No file matches. "*.ts" looks in all folders; a pattern with / starts at path.';
    return { status: 'ok', output, truncated: false };
  }
  const ending = toEnding(end, { timeoutMs, floodBytes: maxOutputBytes });
  const status = end.kind === 'exited' ? 'ok' : ending.status;
  const sentence = end.kind === 'exited' ? '' : ending.sentence;
  const output = [...paths, note, sentence].filter((line) => line !== '').join('\n');
  return { status, output, truncated: note !== '' };
}

/** The command line for /bin/sh. Pure. */
export function toGlobScript(program: string, args: GlobArguments): string {
  const flags = ['--no-config', '--files', '--null', '--sort=path', '--no-require-git'];
  if (args.hidden) flags.push('--hidden', '--glob=!.git/');
  const words = [program, ...flags, `--glob=${args.pattern}`, '--', args.path ?? './'];
  return `exec ${words.map(quote).join(' ')}\n`;
}

/** Paths between NULs; a name with a line break is shown in one line. */
function createPaths(resultsMax: number, bytesMax: number) {
  const paths: string[] = [];
  let rest = '';
  let bytes = 0;
  let note = '';
  return {
    push(text: string): 'more' | 'full' {
      const names = (rest + text).split('\0');
      rest = names.pop() ?? '';
      for (const name of names) {
        const path = name.replace(/^\.\//, '').replaceAll(/[\n\r]/g, '?');
        bytes += Buffer.byteLength(path) + 1;
        if (note !== '') break;
        if (paths.length === resultsMax || bytes > bytesMax) {
          note = `[stopped at ${paths.length} files; ask for a narrower pattern or path]`;
        } else paths.push(path);
      }
      return note === '' ? 'more' : 'full';
    },
    finish: () => ({ paths, note }),
  };
}
