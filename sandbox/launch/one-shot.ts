/** One-shot sandboxes: built ahead, parked before their command, used once. A parked one waits on
 *  its block descriptor; its script does not exist before the call, so that whatever ends the wait
 *  (also the death of this process) runs nothing. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { assert } from '../../base/assert.ts';
import { type QuickProcess, spawnQuick } from '../../base/process.ts';
import { descriptors, RUNTIME_DIR, toSandboxArguments, type View } from './arguments.ts';
import type { CommandEnd, RunningCommand } from './backend.ts';
import type { Cell } from './cell.ts';
import { getPipe, writeArguments } from './child-pipes.ts';
import type { OutputPipe, PipeSource } from './pipes.ts';
import { STAGE } from './prelude.ts';
import { killProcess, killTree, listTree } from './process-tree.ts';

export interface OneShotSpec {
  readonly cell: Cell;
  readonly pipes: PipeSource;
  readonly bwrap: string;
  readonly view: View;
  /** The command prefix that sets limits. */
  readonly limitCommand: readonly string[];
  /** Unique within the cell. */
  readonly slot: number;
}

export interface ParkedSandbox {
  isUsable(): boolean;
  /** Runs the script; once. */
  release(script: string): RunningCommand;
  discard(): void;
}

const SCRIPT_FOLDER = `${RUNTIME_DIR}/call`;
const SCRIPT_NAME = 'call.sh';
const STATUS_TEXT_MAX = 4096;

export async function parkSandbox(spec: OneShotSpec): Promise<ParkedSandbox> {
  const { cell, slot } = spec;
  const slotPath = join(cell.stagePath, 'slots', String(slot));
  mkdirSync(slotPath, { mode: 0o755 });
  const [stdout, stderr] = [await spec.pipes.take(), await spec.pipes.take()];
  const quick = await startBwrap(spec, stdout, stderr);
  const status = readStatus(quick);
  let state: 'parked' | 'released' | 'over' = 'parked';
  const block = getPipe(quick, descriptors.block);
  const ended = quick.exited.then(async ({ code, signal }): Promise<CommandEnd> => {
    state = 'over';
    const reported = await status;
    block.destroy();
    rmSync(slotPath, { recursive: true, force: true });
    if (reported !== undefined) return { kind: 'exited', code: reported };
    cell.killStrays();
    return { kind: 'lost', detail: signal ?? `exit ${code}` };
  });
  // Nobody waits for a parked one that dies; its slot is cleaned above.
  ended.catch(() => undefined);
  const kill = (): void => killOneShot(quick, state === 'over');
  return {
    isUsable: () => state === 'parked' && cell.isAlive(),
    release(script) {
      assert(state === 'parked', 'a sandbox is used once');
      state = 'released';
      writeFileSync(join(slotPath, SCRIPT_NAME), script, { mode: 0o644 });
      block.end('x');
      return { stdout: stdout.output, stderr: stderr.output, ended, kill };
    },
    discard() {
      kill();
      stdout.output.destroy();
      stderr.output.destroy();
    },
  };
}

async function startBwrap(
  spec: OneShotSpec,
  stdout: OutputPipe,
  stderr: OutputPipe,
): Promise<QuickProcess> {
  const { cell, slot, bwrap, view, limitCommand } = spec;
  const payload = [...limitCommand, '/bin/sh', `${SCRIPT_FOLDER}/${SCRIPT_NAME}`];
  const entry = cell.enter([bwrap, '--args', String(descriptors.args), '--', ...payload]);
  const { uid, gid, drops } = cell.identity;
  const pipe = 'pipe' as const;
  try {
    const quick = await spawnQuick({
      ...entry,
      cwd: '/',
      env: {},
      ownSession: false,
      stdio: ['ignore', stdout.writerFd, stderr.writerFd, pipe, pipe, pipe],
      ...(drops ? { uid, gid } : {}),
    });
    const slotMount = { source: `${STAGE}/slots/${slot}`, target: SCRIPT_FOLDER };
    const runtime = [...view.runtime, slotMount];
    writeArguments(
      getPipe(quick, descriptors.args),
      toSandboxArguments({ ...view, runtime }, { parked: true }),
    );
    return quick;
  } finally {
    stdout.closeWriter();
    stderr.closeWriter();
  }
}

/** The exit code that bubblewrap reports: only when the command was started at all. */
function readStatus(quick: QuickProcess): Promise<number | undefined> {
  const stream = getPipe(quick, descriptors.status);
  let text = '';
  return new Promise((resolve) => {
    const finish = (): void => {
      const code = /"exit-code": (\d+)/.exec(text)?.[1];
      resolve(code === undefined ? undefined : Number(code));
    };
    stream.on('data', (chunk: Buffer) => {
      if (text.length < STATUS_TEXT_MAX) text += chunk.toString('latin1');
    });
    stream.on('close', finish);
    stream.on('error', finish);
  });
}

/** nsenter → bwrap → first process of the sandbox: the last one's death is everyone's. */
function killOneShot(quick: QuickProcess, over: boolean): void {
  if (over) return;
  const [, monitor, init] = listTree(quick.pid);
  if (init !== undefined) killProcess(init);
  else if (monitor !== undefined) killProcess(monitor);
  else killTree(quick.pid);
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
