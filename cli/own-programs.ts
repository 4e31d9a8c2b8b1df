/** Where the programs of this package are: bundled beside us (dist/), or as source in the folder
 *  next to ours; and how they are started. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { PrxError } from '../base/errors.ts';
import type { Machine } from './machine.ts';
import { EXIT } from './outcome.ts';

export type OwnProgram = 'chaos' | 'cli' | 'supervisor' | 'sandbox' | 'policy';

/** @throws INTERNAL when the package is incomplete. */
export function findProgram(name: OwnProgram, folder: string = import.meta.dirname): string {
  const source = name === 'policy' ? ['supervisor', 'policy-main.ts'] : [name, 'main.ts'];
  const candidates = [join(folder, `${name}.js`), join(folder, '..', ...source)];
  const found = candidates.find((file) => existsSync(file));
  if (found !== undefined) return found;
  const message = `this installation has no ${name} (looked for ${candidates.join(' and ')})`;
  throw new PrxError('INTERNAL', `${message}; run npm run build, or install it again`);
}

/** Node's own arguments before the program: ours, so that both run alike. */
export function toNodeArgs(machine: Machine, program: string): string[] {
  const lean = ['--max-semi-space-size=2', '--no-parallel-scavenge', '--disable-sigusr1'];
  const own = machine.node.args.filter((arg) => lean.includes(arg));
  return [...own, program];
}

/** The environment as a program gets it: what is set, and nothing else. */
export function toChildEnv(machine: Machine): Record<string, string> {
  const env: Record<string, string> = {};
  for (const [key, value] of Object.entries(machine.env)) {
    if (value !== undefined) env[key] = value;
  }
  return env;
}

/** This process becomes the program; only where that is not possible it stands before it and
 *  passes signals on. Resolves with the exit code. */
export async function becomeOwnProgram(
  machine: Machine,
  program: OwnProgram,
  args: readonly string[],
): Promise<number> {
  const line = [...toNodeArgs(machine, findProgram(program)), ...args];
  machine.replaceWith(machine.node.path, line);
  const { spawnQuick } = await import('../base/process.ts');
  const child = await spawnQuick({
    command: machine.node.path,
    args: line,
    env: toChildEnv(machine),
    ownSession: false,
    stdio: 'inherit',
  });
  const unlisten = machine.onInterrupt((signal) => child.child.kill(signal));
  const exit = await child.exited;
  unlisten();
  return exit.code ?? EXIT.failed;
}

/** Output bound of a helper program, characters. */
const OUTPUT_CHARS_MAX = 4_000_000;

export interface ProgramOutput {
  readonly code: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

export interface OwnProgramRequest {
  readonly program: OwnProgram;
  readonly args: readonly string[];
  readonly timeoutMs: number;
  /** For its standard input, which is empty otherwise. */
  readonly input?: Buffer;
}

/** Runs one of our programs to its end and collects what it says.
 *  @throws DEADLINE_EXCEEDED after `timeoutMs`, LIMIT_EXCEEDED for endless output. */
export async function runOwnProgram(
  machine: Machine,
  request: OwnProgramRequest,
): Promise<ProgramOutput> {
  const { startProcess } = await import('../base/process.ts');
  const child = await startProcess({
    command: machine.node.path,
    args: [...toNodeArgs(machine, findProgram(request.program)), ...request.args],
    env: toChildEnv(machine),
    ownSession: false,
  });
  child.stdin.end(request.input);
  let isLate = false;
  const timer = machine.clock.setTimer(request.timeoutMs, () => {
    isLate = true;
    child.kill('SIGKILL');
  });
  const [stdout, stderr, exit] = await Promise.all([
    readBounded(child.stdout, () => child.kill('SIGKILL')),
    readBounded(child.stderr, () => child.kill('SIGKILL')),
    child.exited,
  ]);
  timer.cancel();
  if (!isLate) return { code: exit.code, stdout, stderr };
  const message = `${request.program} did not answer within ${request.timeoutMs} ms`;
  throw new PrxError('DEADLINE_EXCEEDED', message);
}

async function readBounded(stream: AsyncIterable<unknown>, stop: () => void): Promise<string> {
  const decoder = new TextDecoder();
  let text = '';
  for await (const chunk of stream) {
    text += chunk instanceof Uint8Array ? decoder.decode(chunk, { stream: true }) : String(chunk);
    if (text.length <= OUTPUT_CHARS_MAX) continue;
    stop();
    throw new PrxError('LIMIT_EXCEEDED', `more than ${OUTPUT_CHARS_MAX} characters of output`);
  }
  return text + decoder.decode();
}
