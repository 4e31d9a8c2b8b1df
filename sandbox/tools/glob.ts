/** The glob tool: ripgrep lists the files in a fresh sandbox; here they are counted and cut. */
import type { z } from 'zod';
import type { globArgumentsSchema } from '../../protocol/tools.ts';
import { type ToolResult, toFailure } from '../outcome.ts';
import {
  hasOnlyPassedOver,
  type RipgrepCall,
  runRipgrep,
  toAdvice,
  toRipgrepScript,
} from './ripgrep.ts';

export type GlobArguments = z.infer<typeof globArgumentsSchema>;

export interface GlobCall extends RipgrepCall {
  readonly arguments: GlobArguments;
}

const RESULTS_DEFAULT = 500;

/** Throws SANDBOX_UNAVAILABLE; every other end is a result. */
export async function runGlob(call: GlobCall): Promise<ToolResult> {
  const { backend, limits } = call;
  const program = backend.searchProgram;
  if (program === undefined) {
    const mend = 'use list_files, or shell with find';
    return toFailure(`glob is not available: no ripgrep was found on this machine; ${mend}`);
  }
  const resultsMax = call.arguments.max_results ?? RESULTS_DEFAULT;
  const found = createPaths(resultsMax, limits.maxOutputBytes);
  const script = toGlobScript(program, call.arguments, backend.workspace);
  const { code, errors, sentence, status, facts } = await runRipgrep(call, script, found.push);
  const { paths, note } = found.finish();
  if (code !== undefined && paths.length === 0) {
    const isPartial = code > 1 && hasOnlyPassedOver(errors, call.arguments.path);
    if (code > 1 && !isPartial) {
      return toFailure(toAdvice(errors, call.arguments.path) || 'the files could not be listed');
    }
    const none = 'No file matches. "*.ts" looks in all folders; a pattern with / starts at path.';
    const output = isPartial ? `${none}\n${errors}` : none;
    return { status: 'ok', output, truncated: false };
  }
  // Exit code 2 beside files: some folders could not be read, which does not undo the others.
  const notes = [note, code === undefined ? sentence : errors];
  const output = [...paths, ...notes].filter((line) => line !== '').join('\n');
  return { status, output, truncated: note !== '', ...facts };
}

/** The command line for /bin/sh. Pure. */
export function toGlobScript(program: string, args: GlobArguments, workspace: string): string {
  const flags = ['--no-config', '--files', '--null', '--sort=path', '--no-require-git'];
  if (args.hidden) flags.push('--hidden', '--glob=!.git/');
  const { path, pattern: glob } = args;
  return toRipgrepScript(program, flags, { workspace, path, glob });
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
