/** One-shot sandboxes: built ahead, parked before their script, used once. The shell of a parked
 *  one waits for a line on its input; its script does not exist before the call, so that whatever
 *  ends the wait (also the death of this process) runs nothing. */
import {
  closeSync,
  constants,
  mkdirSync,
  openSync,
  readSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { assert } from '../../base/assert.ts';
import { findIdentity, isAlive, type ProcessIdentity } from '../../base/process.ts';
import { toProxyEnvironment } from '../network/door.ts';
import { listMemoryFolders, SCRIPT_FOLDER, toSandboxArguments, type View } from './arguments.ts';
import type { CommandEnd, RunningCommand } from './backend.ts';
import type { CallGroup, CallGroups } from './call-group.ts';
import type { Birth, Cell } from './cell.ts';
import { toSandboxTree } from './command-tree.ts';
import type { OwnGroup } from './own-group.ts';
import { killProcess } from './process-tree.ts';

export interface OneShotSpec {
  readonly cell: Cell;
  /** Where the kernel keeps it within its memory; absent: it does not. */
  readonly groups?: CallGroups | undefined;
  /** Of the whole host. */
  readonly ownGroup?: OwnGroup | undefined;
  readonly view: View;
  /** True: the command reads from `stdin`; false: its standard input is empty. */
  readonly hasInput: boolean;
  /** By which the proxy knows it; absent: there is no proxy. */
  readonly credential?: string | undefined;
}

export interface ParkedSandbox {
  readonly credential?: string | undefined;
  isUsable(): boolean;
  /** Resolves when it stands where it shall run; only then it is released. */
  readonly placed: Promise<void>;
  /** Runs the script; once. */
  release(script: string, secrets?: Readonly<Record<string, string>>): ReleasedCommand;
  discard(): void;
}

export interface ReleasedCommand extends RunningCommand {
  /** Closed from the start where the command has no input. */
  readonly stdin: Writable;
}

const SCRIPT_NAME = 'call.sh';
const STATUS_TEXT_MAX = 4096;
/** Of what a parked sandbox is told. */
const LINE_MAX = 16;
/** 128 and SIGKILL. */
const KILLED_CODE = 137;
const CHILD_PID = /"child-pid": (\d+)/;

/** Starts a sandbox up to its command. Throws SANDBOX_UNAVAILABLE when the cell is gone. */
export async function parkSandbox(spec: OneShotSpec): Promise<ParkedSandbox> {
  const { cell, groups, ownGroup, view, hasInput, credential } = spec;
  const proxy = credential === undefined ? {} : toProxyEnvironment(credential);
  // Before its shell is there, because only its first process is placed.
  const isHeld = groups !== undefined;
  const birth = await cell.bear({
    isHeld,
    toArguments: (source) =>
      toSandboxArguments(
        {
          ...view,
          env: { ...view.env, ...proxy },
          runtime: [...view.runtime, { source, target: SCRIPT_FOLDER }],
        },
        { isHeld },
      ),
  });
  const pipes = openPipes(birth, hasInput);
  const status = watchStatus(pipes.status);
  let state: 'parked' | 'released' | 'over' = 'parked';
  let group: CallGroup | undefined;
  let killsBefore = 0;
  let wasKilled = false;
  let found: ProcessIdentity | undefined;
  const placed = groups === undefined ? Promise.resolve() : status.born.then(place);
  // What was killed before it opened its pipes left none that would end.
  void Promise.race([cell.ended, birth.overdue]).then(pipes.endUnwritten);
  const ended = status.closed.then((): CommandEnd => {
    const isUnheard = state === 'released' && pipes.isUnheard();
    if (state === 'parked' || !hasInput) pipes.closeInput();
    state = 'over';
    cell.bury(birth);
    void placed.then(() => group?.release());
    const code = status.findExitCode();
    // A monitor that was killed had perhaps not tied its sandbox to it yet.
    if (code === undefined) {
      kill();
      cell.endStrays();
    }
    wasKilled = code === KILLED_CODE;
    if (isUnheard) return { kind: 'unstarted' };
    if (code !== undefined) return { kind: 'exited', code };
    return { kind: 'lost', detail: 'its process was killed from outside or could not start' };
  });

  function findHostPid(): number | undefined {
    // By its start as well: a pid that was kept may be somebody else's by now.
    if (found !== undefined && isAlive(found)) return found.pid;
    const innerPid = status.findInnerPid();
    const pid = innerPid === undefined ? undefined : cell.findHostPid(innerPid);
    found = pid === undefined ? undefined : findIdentity(pid);
    return pid;
  }

  /** Before its command is there: what it will start is counted from the first byte. */
  async function place(): Promise<void> {
    const pid = state === 'over' ? undefined : findHostPid();
    const taken = pid === undefined ? undefined : groups?.take();
    if (pid === undefined || taken === undefined) return;
    if (await taken.join(pid)) group = taken;
    else taken.release();
  }

  function kill(): void {
    const pid = findHostPid();
    if (pid !== undefined) killProcess(pid);
    else if (status.findInnerPid() === undefined && state !== 'over') {
      // Not born yet, or killed in its first millisecond: then nobody ever wrote, and the end of
      // the pipe would never come.
      void status.born.then(() => state !== 'over' && status.findInnerPid() && kill());
      pipes.endUnwritten();
    }
  }

  const tree = toSandboxTree({
    findHostPid: () => (state === 'over' ? undefined : findHostPid()),
    memoryFolders: listMemoryFolders(view),
    kernel: {
      // Of the host's group it is not known who was killed; who ended so meanwhile was.
      wasOutOfMemory: () =>
        group?.wasOutOfMemory() ?? (wasKilled && (ownGroup?.countKills() ?? 0) > killsBefore),
      peakBytes: () => group?.peakBytes(),
    },
  });

  return {
    credential: spec.credential,
    isUsable: () => state === 'parked' && cell.isAlive(),
    placed,
    release(script, secrets = {}) {
      assert(state === 'parked', 'a sandbox is used once');
      state = 'released';
      killsBefore = ownGroup?.countKills() ?? 0;
      writeSecrets(birth.slotPath, secrets);
      writeFileSync(join(birth.slotPath, SCRIPT_NAME), script, { mode: 0o644 });
      pipes.say(`${isHeld ? 'x' : ''}${hasInput ? 'in' : '-'}\n`);
      const { stdin, stdout, stderr } = pipes;
      return { stdin, stdout, stderr, ended, kill, tree };
    },
    discard() {
      kill();
      pipes.closeInput();
      for (const stream of [pipes.stdout, pipes.stderr]) stream.destroy();
    },
  };
}

/** Into the sandbox's own folder on the stage, which is memory of the cell, is seen by this one
 *  sandbox, and goes with it. */
function writeSecrets(slotPath: string, secrets: Readonly<Record<string, string>>): void {
  const named = Object.entries(secrets);
  if (named.length === 0) return;
  const folder = join(slotPath, 'secrets');
  mkdirSync(folder, { mode: 0o755 });
  for (const [name, value] of named) writeFileSync(join(folder, name), value, { mode: 0o444 });
}

const WRITE_ONLY = constants.O_WRONLY | constants.O_NONBLOCK;

/** Opens our ends. Those we write are opened for both, because a writer alone must wait for its
 *  reader; the end of this process closes them like any other. */
function openPipes(birth: Birth, hasInput: boolean) {
  const open = (name: string, access: number): number =>
    openSync(join(birth.pipesPath, name), access | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  const readers: { readonly fd: number; readonly socket: Socket }[] = [];
  const read = (name: string): Socket => {
    const fd = open(name, constants.O_RDONLY);
    const socket = watchErrors(new Socket({ fd, readable: true, writable: false }));
    readers.push({ fd, socket });
    return socket;
  };
  const inputFd = open('in', constants.O_RDWR);
  const stdin = hasInput
    ? watchErrors(new Socket({ fd: inputFd, readable: false, writable: true }))
    : new Writable().destroy();
  let isInputOpen = true;
  return {
    stdin,
    closeInput(): void {
      if (hasInput) stdin.destroy();
      else if (isInputOpen) closeSync(inputFd);
      isInputOpen = false;
    },
    stdout: read('out'),
    stderr: read('err'),
    status: read('status'),
    /** Ends what nobody writes: a pipe that never had a writer has no end by itself. A writer that
     *  is there keeps its pipe open. */
    endUnwritten(): void {
      for (const { fd, socket } of readers) {
        if (!socket.destroyed) closeSync(openSync(`/proc/self/fd/${fd}`, WRITE_ONLY));
      }
    },
    /** To who waits for it, before anything else is written there. */
    say(line: string): void {
      assert(isInputOpen, 'a released sandbox was parked');
      writeSync(inputFd, line);
    },
    /** Whether what was said last still stands there: its reader takes byte by byte, so that who
     *  has not taken the last one knows nothing. Not known where more input may have followed. */
    isUnheard(): boolean {
      if (hasInput || !isInputOpen) return false;
      try {
        const left = Buffer.alloc(LINE_MAX);
        return left.subarray(0, readSync(inputFd, left)).includes('\n');
      } catch {
        // It is empty, which nothing but its reader makes it.
        return false;
      }
    },
  };
}

/** A reset of such a pipe says the same as its end. */
function watchErrors(socket: Socket): Socket {
  return socket.on('error', () => undefined);
}

/** What bubblewrap reports: the pid of the sandbox's first process, as the cell counts, and the
 *  exit code, only when the command was started at all. */
function watchStatus(stream: Socket) {
  let text = '';
  let tellBorn: () => void = () => undefined;
  const born = new Promise<void>((resolve) => {
    tellBorn = resolve;
  });
  stream.on('data', (chunk: Buffer) => {
    if (text.length < STATUS_TEXT_MAX) text += chunk.toString('latin1');
    if (find(CHILD_PID) !== undefined) tellBorn();
  });
  const closed = new Promise<void>((resolve) => {
    stream.once('close', () => {
      tellBorn();
      resolve();
    });
  });
  const find = (pattern: RegExp): number | undefined => {
    const digits = pattern.exec(text)?.[1];
    return digits === undefined ? undefined : Number(digits);
  };
  return {
    closed,
    /** Resolves when its pid is known, or never will be. */
    born,
    findInnerPid: () => find(CHILD_PID),
    findExitCode: () => find(/"exit-code": (\d+)/),
  };
}

export interface SandboxPool {
  take(): Promise<ParkedSandbox>;
  /** Starts what is missing; call it when nothing is waiting for an answer. */
  refill(): Promise<void>;
  close(): void;
}

/** Parked sandboxes ready to be used: enough for a call and the next one. */
export const PARKED_COUNT = 2;

export function createPool(park: () => Promise<ParkedSandbox>, count: number): SandboxPool {
  let parked: ParkedSandbox[] = [];
  let open = true;
  let filling: Promise<void> | undefined;

  async function fill(): Promise<void> {
    parked = parked.filter((sandbox) => sandbox.isUsable());
    while (open && parked.length < count) {
      const sandbox = await park();
      if (open) parked.push(sandbox);
      else sandbox.discard();
    }
  }

  return {
    async take() {
      assert(open, 'a closed pool is not asked');
      for (let next = parked.shift(); next !== undefined; next = parked.shift()) {
        if (next.isUsable()) return next;
      }
      return await park();
    },
    refill() {
      filling ??= fill().finally(() => {
        filling = undefined;
      });
      return filling;
    },
    close() {
      open = false;
      for (const sandbox of parked.splice(0)) sandbox.discard();
    },
  };
}
