/** The journal while no supervisor runs: the supervisor's own program reads or mends it, so that
 *  there is one implementation, of one version. */
import { resolve } from 'node:path';
import { errorTable, isErrorCode, PrxError } from '../base/errors.ts';
import type { Context } from './command.ts';
import type { Machine } from './machine.ts';
import { findProgram, runOwnProgram, toChildEnv, toNodeArgs } from './own-programs.ts';
import { sanitize } from './text/width.ts';

/** A large journal takes minutes; Ctrl-C ends it sooner. */
const TIMEOUT_MS = 12 * 3600 * 1000;

export interface OfflineRequest {
  readonly action: 'verify' | 'repair' | 'export' | 'restore';
  readonly session?: string | undefined;
  readonly aside?: boolean;
  readonly file?: string;
  readonly force?: boolean;
}

/** Runs one action to its answer. @throws what the program answers with. */
export async function runOffline<T>(context: Context, request: OfflineRequest): Promise<T> {
  const output = await runOwnProgram(context.machine, {
    program: 'supervisor',
    args: [JSON.stringify(toArgument(context, request))],
    timeoutMs: TIMEOUT_MS,
  });
  const answer = parseAnswer(output.stdout.trim().split('\n').at(-1) ?? '');
  if (answer?.ok === true) return answer as T;
  if (answer !== undefined) throw toError(answer);
  const said = sanitize(output.stderr).trim().slice(-2000);
  throw new PrxError('INTERNAL', `the journal could not be read: ${said || 'no answer'}`);
}

/** Streams the lines of an export to stdout. @returns the exit code. */
export async function exportOffline(context: Context, request: OfflineRequest): Promise<number> {
  const { machine } = context;
  const { startProcess } = await import('../base/process.ts');
  const child = await startProcess({
    command: machine.node.path,
    args: [
      ...toNodeArgs(machine, findProgram('supervisor')),
      JSON.stringify(toArgument(context, request)),
    ],
    env: toChildEnv(machine),
    ownSession: false,
  });
  child.stdin.end();
  child.stderr.resume();
  const unlisten = machine.onInterrupt(() => child.kill('SIGTERM'));
  const tail = await pipeLines(machine, child.stdout);
  const { code } = await child.exited;
  unlisten();
  const answer = parseAnswer(tail);
  if (answer?.ok === false) throw toError(answer);
  if (tail !== '') machine.stdout.write(`${tail}\n`);
  return code ?? 1;
}

/** All lines but the last one, which may be an error: that is returned. */
async function pipeLines(machine: Machine, lines: AsyncIterable<unknown>): Promise<string> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of lines) {
    rest += chunk instanceof Uint8Array ? decoder.decode(chunk, { stream: true }) : String(chunk);
    const end = rest.lastIndexOf('\n', rest.length - 2);
    if (end < 0) continue;
    machine.stdout.write(rest.slice(0, end + 1));
    rest = rest.slice(end + 1);
  }
  return rest.trimEnd();
}

function toArgument(context: Context, request: OfflineRequest): Record<string, unknown> {
  const { door, machine } = context;
  if (door.kind === 'url') {
    const message = `journal ${request.action} works on a state directory of this machine`;
    throw new PrxError('INVALID_REQUEST', `${message}; leave out --url, or run it there`);
  }
  const { file, ...rest } = request;
  return {
    mode: 'journal',
    stateDir: door.stateDir,
    ...rest,
    ...(file === undefined ? {} : { file: resolve(machine.cwd, file) }),
  };
}

interface Answer {
  readonly ok: boolean;
  readonly error?: unknown;
}

/** Our own program of the same version answers: the shape is checked as far as it is used. */
function parseAnswer(text: string): Answer | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null || !('ok' in value)) return undefined;
    return value as Answer;
  } catch {
    return undefined; // Not an answer; the caller says what was there instead.
  }
}

/** What our own program answered with. */
export function toError({ error }: Pick<Answer, 'error'>): PrxError {
  const { code, message, data } = (error ?? {}) as Readonly<Record<string, unknown>>;
  const known = isErrorCode(code) && Object.hasOwn(errorTable, code) ? code : 'INTERNAL';
  return new PrxError(known, String(message), {
    data: typeof data === 'object' && data !== null ? { ...data } : {},
  });
}
