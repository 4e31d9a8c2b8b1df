/** What the kernel says of processes: memory, processor time, family. And one command, timed. */
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

/** Of x86-64, and of most arm64. */
const PAGE_BYTES = 4096;

/** Proportional set size, MB (10^6 bytes): shared pages count by share, so that the sum over
 *  processes is what they really cost. */
export function readPssMb(pid: number): number {
  return readRollupMb(pid, 'Pss');
}

/** What is its own and of no file, MB. The share of a program's file grows when another process of
 *  that program ends, and says nothing of who is looked at. */
export function readAnonymousMb(pid: number): number {
  return readRollupMb(pid, 'Anonymous');
}

function readRollupMb(pid: number, key: string): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  const kib = Number(new RegExp(`^${key}:\\s+(\\d+) kB`, 'm').exec(text)?.[1]);
  return (kib * 1024) / 1e6;
}

/** What is resident, MB, shared pages whole. Unlike the proportional size it is read in
 *  microseconds, and may be watched while something else is measured. */
export function readRssMb(pid: number): number {
  const [, pages] = readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ');
  return (Number(pages) * PAGE_BYTES) / 1e6;
}

/** The proportional size of several together; one that ended while we looked has none. */
export function readPssSumMb(pids: readonly number[]): number {
  let total = 0;
  for (const pid of pids) {
    try {
      total += readPssMb(pid);
    } catch (error) {
      if (!isGone(error)) throw error;
    }
  }
  return total;
}

function isGone(error: unknown): boolean {
  return (
    error instanceof Error && 'code' in error && ['ENOENT', 'ESRCH'].includes(String(error.code))
  );
}

/** Processor time of all threads so far, ms, to the microsecond (stat counts in ticks of 10 ms). */
export function readCpuMs(pid: number): number {
  let nanoseconds = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const text = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8');
    nanoseconds += Number(text.split(' ')[0]);
  }
  return nanoseconds / 1e6;
}

/** The process and everything below it. */
export function listTree(root: number): readonly number[] {
  const children = new Map<number, number[]>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const parent = readParent(name);
    if (parent !== undefined) children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
  }
  const tree = [root];
  for (const pid of tree) tree.push(...(children.get(pid) ?? []));
  return tree;
}

function readParent(pid: string): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  } catch {
    return undefined; // It ended while we looked.
  }
}

export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

export interface Command {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** Milliseconds from before the spawn to the exit. @throws Error when it does not exit with 0. */
export function timeCommand({ command, args, env }: Command): Promise<number> {
  const startMs = performance.now();
  const stdio = ['ignore', 'ignore', 'pipe'] as const;
  const child = spawn(command, [...args], { env: { ...env }, stdio: [...stdio] });
  let stderr = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => {
      if (code === 0) return resolve(performance.now() - startMs);
      reject(new Error(`${command} ${args.join(' ')} ended with ${code}: ${stderr}`));
    });
  });
}
