/** One run of ripgrep in a fresh sandbox, for the tools that only read what it prints. */
import { isAbsolute, normalize } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import type { EffectId } from '../../protocol/ids.ts';
import type { Backend } from '../launch/backend.ts';
import { quote } from '../launch/quote.ts';
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

export interface Place {
  readonly workspace: string;
  readonly path: string | undefined;
  readonly glob: string | undefined;
}

/** The command line for /bin/sh: ripgrep with `flags` in one place. Pure. */
export function toRipgrepScript(program: string, flags: readonly string[], place: Place): string {
  const { path } = place;
  const glob = place.glob === undefined ? [] : [`--glob=${toAnchored(place.glob, place)}`];
  const words = [program, ...flags, ...glob, '--', path ?? './'];
  const start = path !== undefined && isAbsolute(path) ? 'cd / && ' : '';
  return `${toRefusal(path)}${start}exec ${words.map(quote).join(' ')}\n`;
}

/** What is named itself is opened whatever it is, and a pipe would be waited for. */
function toRefusal(path: string | undefined): string {
  if (path === undefined) return '';
  const [at, why] = [path, `${path} is a pipe, a socket or a device, not a file`].map(quote);
  const isOther = `[ -e ${at} ] && ! [ -f ${at} ] && ! [ -d ${at} ]`;
  return `if ${isOther}; then printf '%s\\n' ${why} >&2; exit 2; fi\n`;
}

/** The folders of a pattern count from the path that is looked through, or it is a whole path;
 *  ripgrep counts them from where it runs: the workspace, or `/` for an absolute path. */
function toAnchored(glob: string, { workspace, path = '.' }: Place): string {
  const [, not = '', whole = ''] = /^(!?)(.*)$/s.exec(glob) ?? [];
  const pattern = whole.replace(/^(\.\/)+/, '/');
  if (pattern.startsWith(`${workspace}/`)) {
    return not + (isAbsolute(path) ? pattern : pattern.slice(workspace.length));
  }
  // One without a folder in it holds for names in any.
  if (!/\/./.test(pattern) || pattern.startsWith('**/')) return not + pattern;
  const base = normalize(path)
    .replace(/\/$/, '')
    .replaceAll(/[*?[\]{}\\!]/g, '\\$&');
  return `${not}/${base === '.' ? '' : `${base}/`}${pattern}`.replaceAll(/\/{2,}/g, '/');
}

/** What ripgrep says, with what can be done here instead of what it advises. Pure. */
export function toAdvice(errors: string, path = './'): string {
  if (errors.includes(`IO error for operation on ${path}: No such file`)) {
    return `${path} does not exist; use list_files to see what does`;
  }
  const own = errors.replace(/\n+Consider enabling[\s\S]*$/, '');
  if (own === errors) return errors;
  const isLines = own.includes('is not allowed in a regex');
  const why = isLines
    ? 'Lines are looked at one by one: search for one of them, with context for those around it.'
    : 'Say it without, or use shell with grep -P.';
  return `${own}\n${why}`;
}

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
