/** The bubblewrap level: surveys the machine, decides the tools' user and what is shown, starts
 *  the cell (again, if somebody killed it), keeps sandboxes parked. Never weaker than asked for:
 *  what cannot be had is refused with the mend. */
import { assert } from '../../base/assert.ts';
import { background } from '../../base/background.ts';
import type { Clock } from '../../base/clock.ts';
import { PrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { Random } from '../../base/random.ts';
import type { SandboxPolicy } from '../../protocol/sandbox-methods.ts';
import { toAdvice, toMissingAdvice } from './advice.ts';
import { toLimitCommand, type View } from './arguments.ts';
import type { Backend, FileHostProcess, RunningCommand } from './backend.ts';
import { type Cell, type Programs, startCell } from './cell.ts';
import { decideRlimits } from './limits.ts';
import { createPool, parkSandbox, type SandboxPool } from './one-shot.ts';
import { canStage } from './prelude.ts';
import type { RuntimeFiles } from './runtime-files.ts';
import { toFilter, toFilterBytes } from './seccomp.ts';
import { findProgram, readHardLimits } from './survey.ts';
import { planView, type ViewPlan } from './view.ts';

export interface BubblewrapSpec {
  readonly policy: SandboxPolicy;
  readonly files: RuntimeFiles;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** How many sandboxes wait ready; 0 where one run is all there will be. */
  readonly parkedCount: number;
}

/** A cell and what was parked in it; they live and die together. */
interface Room {
  readonly cell: Cell;
  readonly pool: SandboxPool;
  readonly view: View;
  readonly fileHostView: View;
}

/** How long a used sandbox's answer has the processor for itself before the next is built. */
const REFILL_DELAY_MS = 10;

/** Starts the level and proves it by one run. Throws SANDBOX_UNAVAILABLE, WORKSPACE_REFUSED. */
export async function createBubblewrapBackend(spec: BubblewrapSpec): Promise<Backend> {
  const { policy, files, clock, logger } = spec;
  const programs = findPrograms();
  const limitCommand = toLimits(programs, policy);
  const stages = programs.perl !== undefined && canStage(process.arch);
  const plan = planView({ policy, files, canStage: stages });
  const bridge = { spec, programs, plan, limitCommand };
  let room = await openRoom(bridge);
  let open = true;
  const backend = describe(plan, room);

  async function getRoom(): Promise<Room> {
    assert(open, 'a closed backend is not used');
    if (room.cell.isAlive()) return room;
    logger.warn('sandbox.cell_lost', {});
    room.pool.close();
    room = await openRoom(bridge);
    return room;
  }

  function refillLater(pool: SandboxPool): void {
    clock.setTimer(REFILL_DELAY_MS, () => {
      if (open) background(pool.refill(), 'sandbox.refill', logger);
    });
  }

  return {
    ...backend,
    async run(script) {
      const { pool } = await getRoom();
      const sandbox = await pool.take();
      const command = sandbox.release(script);
      refillLater(pool);
      return command;
    },
    async startFileHost() {
      return await startFileHost(await getRoom(), files);
    },
    async close() {
      if (!open) return;
      open = false;
      room.pool.close();
      await room.cell.close();
    },
  };
}

interface Bridge {
  readonly spec: BubblewrapSpec;
  readonly programs: Programs;
  readonly plan: ViewPlan;
  readonly limitCommand: readonly string[];
}

async function openRoom(bridge: Bridge): Promise<Room> {
  const { spec, programs, plan, limitCommand } = bridge;
  const { clock, random, parkedCount } = spec;
  const { identity, items } = plan;
  const program = toFilter({ arch: process.arch, refuseUnseenMemory: true });
  const filter = program === undefined ? Buffer.alloc(0) : toFilterBytes(program);
  const ports = { clock, random };
  const cell = await startCell({ programs, identity, items, limitCommand, filter, ...ports });
  const { view, fileHostView } = plan.toViews(cell.report, filter.length > 0);
  const pool = createPool(() => parkSandbox({ cell, view, hasInput: false }), parkedCount);
  try {
    await proveRoom(pool);
  } catch (error) {
    pool.close();
    await cell.close();
    throw error;
  }
  background(pool.refill(), 'sandbox.refill', spec.logger);
  return { cell, pool, view, fileHostView };
}

/** Runs the real profile once: nothing else shows that it can be had. */
async function proveRoom(pool: SandboxPool): Promise<void> {
  const sandbox = await pool.take();
  const command = sandbox.release('echo proved\n');
  const [stdout, stderr, end] = await Promise.all([
    readAll(command.stdout),
    readAll(command.stderr),
    command.ended,
  ]);
  if (end.kind === 'exited' && end.code === 0 && stdout === 'proved\n') return;
  throw unavailable(stderr === '' ? `it ended with ${JSON.stringify(end)}` : stderr);
}

async function readAll(stream: RunningCommand['stdout']): Promise<string> {
  let text = '';
  for await (const chunk of stream) text += String(chunk);
  return text;
}

async function startFileHost(room: Room, files: RuntimeFiles): Promise<FileHostProcess> {
  const { cell, fileHostView: view } = room;
  const sandbox = await parkSandbox({ cell, view, hasInput: true });
  const { ended, ...streams } = sandbox.release(`exec ${files.fileHostCommand.join(' ')}\n`);
  return { ...streams, exited: ended };
}

function describe(plan: ViewPlan, room: Room) {
  const notices = plan.toNotices(room.cell.report);
  return {
    level: 'bubblewrap' as const,
    uid: plan.identity.uid,
    workspaceAccess: room.view.workspaceAccess,
    notice: notices.length === 0 ? undefined : notices.join(' '),
    searchProgram: plan.searchProgram,
  };
}

function toLimits(programs: Programs, policy: SandboxPolicy): string[] {
  if (programs.prlimit === undefined) return [];
  return toLimitCommand(programs.prlimit, decideRlimits(policy, readHardLimits()));
}

/** Throws SANDBOX_UNAVAILABLE with the command that installs what is missing. */
function findPrograms(): Programs {
  const bwrap = findProgram('bwrap');
  if (bwrap === undefined) {
    const { reason, mend } = toMissingAdvice((name) => findProgram(name) !== undefined);
    throw refused(reason, mend);
  }
  const [mkfifo, prlimit, perl] = ['mkfifo', 'prlimit', 'perl'].map(findProgram);
  if (mkfifo === undefined) throw refused('mkfifo is missing', 'install coreutils');
  return { bwrap, mkfifo, prlimit, perl };
}

function refused(reason: string, mend: string): PrxError {
  const message = `no sandbox: ${reason}; mend: ${mend}`;
  return new PrxError('SANDBOX_UNAVAILABLE', message, { data: { reason, mend } });
}

function unavailable(said: string): PrxError {
  const { reason, mend } = toAdvice(said);
  return refused(reason, mend);
}
