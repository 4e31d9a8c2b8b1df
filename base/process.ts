/** The only door to processes. Two ways in: `startProcess` (execa) for long-lived children with
 *  protocol pipes, and `spawnQuick` (node:child_process) for one-shot commands on a hot path.
 *  Identity is (pid, start time): a pid alone may belong to a stranger by the time it is used.
 *  Nothing here inherits the environment: `env` is the whole environment of the child. */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { execa } from 'execa';
import { assert } from './assert.ts';
import { PrxError, systemCode } from './errors.ts';

export interface ProcessSpec {
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd?: string;
  /** The whole environment; nothing is inherited. */
  readonly env: Readonly<Record<string, string>>;
  /** Runs as this user; absent: as ours. Needs root. */
  readonly uid?: number;
  readonly gid?: number;
  /** True: a session and process group of its own (setsid), so that signals to our group and
   *  our terminal do not reach it. */
  readonly ownSession: boolean;
}

export interface ProcessExit {
  readonly code: number | undefined;
  readonly signal: NodeJS.Signals | undefined;
}

export interface RunningProcess {
  readonly pid: number;
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Settles at the exit of the process, not when its pipes close; never rejects. */
  readonly exited: Promise<ProcessExit>;
  /** Signals the process. False when it is gone. */
  kill(signal: NodeJS.Signals): boolean;
  /** Signals its process group (own session only). False when it is gone. */
  killGroup(signal: NodeJS.Signals): boolean;
}

/** What is known of processes, and done to them, without a pipe: those of an earlier supervisor, or
 *  below a launcher. */
export interface ProcessTable {
  findIdentity(pid: number): ProcessIdentity | undefined;
  isAlive(identity: ProcessIdentity): boolean;
  signalIdentity(
    identity: ProcessIdentity,
    signal: NodeJS.Signals,
    target?: 'process' | 'group',
  ): boolean;
  listDescendants(pid: number): readonly number[];
}

export interface ProcessPort extends ProcessTable {
  start(spec: ProcessSpec): Promise<RunningProcess>;
}

/** The variable in the environment of whatever a supervisor starts that says which one did (by its
 *  state dir). It is no secret. */
export const OWNER_MARK = 'PRX_OWNER';

/** Starts a long-lived child with three pipes. Throws PrxError SPAWN_FAILED with the command and
 *  the system error (ENOENT, EACCES, EMFILE, EAGAIN …). */
export async function startProcess(spec: ProcessSpec): Promise<RunningProcess> {
  const child = execa(spec.command, [...spec.args], {
    ...(spec.cwd === undefined ? {} : { cwd: spec.cwd }),
    ...(spec.uid === undefined ? {} : { uid: spec.uid }),
    ...(spec.gid === undefined ? {} : { gid: spec.gid }),
    env: { ...spec.env },
    extendEnv: false,
    detached: spec.ownSession,
    cleanup: false,
    buffer: false,
    reject: false,
    stdin: 'pipe',
    stdout: 'pipe',
    stderr: 'pipe',
  });
  // execa's own promise waits for the pipes; ours waits for the exit (a grandchild may hold them).
  const exited = new Promise<ProcessExit>((resolve) => {
    child.nodeChildProcess.once('exit', (code, signal) => resolve(toExit(code, signal)));
  });
  const ended = child.then((result) => result);
  if (child.pid === undefined) {
    const result = await ended;
    throw spawnFailure(spec.command, result.cause ?? result);
  }
  return wrapChild(child.pid, child, exited);
}

export const realProcesses: ProcessPort = {
  start: startProcess,
  findIdentity,
  isAlive,
  signalIdentity,
  listDescendants,
};

export interface QuickSpec extends ProcessSpec {
  /** As node:child_process has it; index is the descriptor in the child. */
  readonly stdio: StdioOptions;
}

export interface QuickProcess {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly exited: Promise<ProcessExit>;
}

/** Starts a one-shot command with the given descriptors. Throws PrxError SPAWN_FAILED. */
export async function spawnQuick(spec: QuickSpec): Promise<QuickProcess> {
  const child = spawnOrThrow(spec);
  const failed = new Promise<unknown>((resolve) => child.once('error', resolve));
  const exited = new Promise<ProcessExit>((resolve) => {
    child.once('exit', (code, signal) => resolve(toExit(code, signal)));
  });
  if (child.pid === undefined) throw spawnFailure(spec.command, await failed);
  return { child, pid: child.pid, exited };
}

/** Some failures (EPERM, E2BIG, ENOMEM) are thrown by spawn itself, the others are an event. */
function spawnOrThrow(spec: QuickSpec): ChildProcess {
  try {
    return spawn(spec.command, [...spec.args], {
      cwd: spec.cwd,
      env: { ...spec.env },
      detached: spec.ownSession,
      stdio: spec.stdio,
      ...(spec.uid === undefined ? {} : { uid: spec.uid }),
      ...(spec.gid === undefined ? {} : { gid: spec.gid }),
    });
  } catch (error) {
    throw spawnFailure(spec.command, error);
  }
}

function wrapChild(
  pid: number,
  child: { stdin: Writable | null; stdout: Readable | null; stderr: Readable | null },
  exited: Promise<ProcessExit>,
): RunningProcess {
  const { stdin, stdout, stderr } = child;
  if (stdin === null || stdout === null || stderr === null) {
    throw new PrxError('SPAWN_FAILED', `process ${pid} was started without its three pipes`);
  }
  let gone = false;
  void exited.then(() => {
    gone = true;
  });
  // A closed pipe is an ordinary end of life here: the exit, or the protocol, tells the story.
  for (const stream of [stdin, stdout, stderr]) stream.on('error', () => undefined);
  return {
    pid,
    stdin,
    stdout,
    stderr,
    exited,
    kill: (signal) => !gone && signalPid(pid, signal),
    killGroup: (signal) => signalPid(-pid, signal),
  };
}

function toExit(code: number | null, signal: NodeJS.Signals | null): ProcessExit {
  return { code: code ?? undefined, signal: signal ?? undefined };
}

function spawnFailure(command: string, cause: unknown): PrxError {
  const reason = systemCode(cause) ?? (cause instanceof Error ? cause.message : String(cause));
  return new PrxError('SPAWN_FAILED', `could not start ${command}: ${reason}`, {
    data: { command, reason },
    cause,
  });
}

function signalPid(pid: number, signal: NodeJS.Signals): boolean {
  // 0 is our own process group, -1 everybody.
  assert(pid !== 0 && pid !== -1, 'a signal is for one process or one group');
  try {
    return process.kill(pid, signal);
  } catch (error) {
    if (systemCode(error) === 'ESRCH') return false;
    throw error;
  }
}

/** Who a pid is: a recycled pid has another start time, a rebooted machine another boot id. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat: clock ticks since boot. */
  readonly startTicks: number;
  readonly bootId: string;
}

/** The identity of a live process, or undefined when there is none (or no /proc). */
export function findIdentity(pid: number): ProcessIdentity | undefined {
  if (!Number.isSafeInteger(pid) || pid <= 1) return undefined;
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (fields[0] === 'Z' || fields[0] === 'X') return undefined;
    return { pid, startTicks: Number(fields[19]), bootId: readBootId() };
  } catch {
    // No such process, or no /proc here: either way nothing that could be signalled safely.
    return undefined;
  }
}

/** True when exactly this process still lives (zombies count as gone). */
export function isAlive(identity: ProcessIdentity): boolean {
  const now = findIdentity(identity.pid);
  return now?.startTicks === identity.startTicks && now.bootId === identity.bootId;
}

/** Sends `signal` to exactly this process (or its group). False when it is gone. */
export function signalIdentity(
  identity: ProcessIdentity,
  signal: NodeJS.Signals,
  target: 'process' | 'group' = 'process',
): boolean {
  if (!isAlive(identity)) return false;
  return signalPid(target === 'group' ? -identity.pid : identity.pid, signal);
}

let bootId: string | undefined;

/** The kernel's id of this boot; '' where /proc does not tell. It outlives us: read once. */
export function readBootId(): string {
  bootId ??= findBootId();
  return bootId;
}

function findBootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    // Not Linux: identities are then told apart by pid and start time alone.
    return '';
  }
}

/** Live descendants of a process, parents before children; one scan of /proc (about 2 ms at a
 *  hundred processes). Empty where there is no /proc. */
export function listDescendants(pid: number): readonly number[] {
  const childrenOf = new Map<number, number[]>();
  for (const name of listProc()) {
    const parent = readParent(name);
    if (parent === undefined) continue;
    const siblings = childrenOf.get(parent);
    if (siblings === undefined) childrenOf.set(parent, [Number(name)]);
    else siblings.push(Number(name));
  }
  const found: number[] = [];
  for (let queue = childrenOf.get(pid) ?? []; queue.length > 0; ) {
    found.push(...queue);
    queue = queue.flatMap((each) => childrenOf.get(each) ?? []);
  }
  return found;
}

function listProc(): readonly string[] {
  try {
    return readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  } catch {
    // Not Linux.
    return [];
  }
}

function readParent(pid: string): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : Number(fields[1]);
  } catch {
    // It died while we looked.
    return undefined;
  }
}
