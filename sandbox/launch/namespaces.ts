/** The levels of namespaces, `bubblewrap` and `unshare`, which differ only in who builds them:
 *  surveys the machine, decides the tools' user and what is shown, starts the cell (again, if
 *  somebody killed it), keeps sandboxes parked. Never weaker than asked for: what cannot be had is
 *  refused with the mend. */
import { assert } from '../../base/assert.ts';
import { background } from '../../base/background.ts';
import type { Clock } from '../../base/clock.ts';
import { PrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { Random } from '../../base/random.ts';
import type { SandboxPolicy } from '../../protocol/sandbox-methods.ts';
import type { Callers } from '../network/callers.ts';
import { toMissingAdvice } from './advice.ts';
import { toLimitScript, type View } from './arguments.ts';
import type { Backend, CommandUse, StartedCommand, ToolHostProcess } from './backend.ts';
import { canBuild, toBuilderCommand } from './builder.ts';
import { type CallGroups, openRealCallGroups } from './call-group.ts';
import { type Cell, type Programs, startCell } from './cell.ts';
import { createStamper, type Stamper, surveyGuarded } from './guards.ts';
import { decideRlimits } from './limits.ts';
import { createPool, parkSandbox, type SandboxPool } from './one-shot.ts';
import { findRealOwnGroup, type OwnGroup } from './own-group.ts';
import { canStage } from './prelude.ts';
import { PROOF_SCRIPT, proveCommand } from './prove.ts';
import { type RuntimeFiles, toToolTarget } from './runtime-files.ts';
import { toFilter, toFilterBytes } from './seccomp.ts';
import { findProgram, readHardLimits } from './survey.ts';
import { planView, type ViewPlan } from './view.ts';

export interface NamespaceSpec {
  readonly level: 'bubblewrap' | 'unshare';
  readonly policy: SandboxPolicy;
  readonly files: RuntimeFiles;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** How many sandboxes wait ready; 0 where one run is all there will be. */
  readonly parkedCount: number;
  /** One command is all there will be: it shows by itself whether the sandbox can be had, and is
   *  worth a control group, which costs more than a parked sandbox saves. */
  readonly isSingle: boolean;
  /** What answers inside where the policy has an allow-list. */
  readonly callers: Callers;
  /** Whose the cell is, for who looks for what is left; absent: nobody does. */
  readonly mark?: string | undefined;
}

/** A cell and what was parked in it; they live and die together. */
interface Room {
  readonly cell: Cell;
  readonly parked: Parked;
}

/** Sandboxes built for the workspace as it was. */
interface Parked {
  /** Of the folders that hold what is guarded; undefined: it was too fresh to tell. */
  readonly stamp: string | undefined;
  /** What is guarded, as text to compare. */
  readonly guards: string;
  readonly pool: SandboxPool;
  readonly view: View;
  readonly fileHostView: View;
  readonly toolHostView: View;
}

/** How long a used sandbox's answer has the processor for itself before the next is built. */
const REFILL_DELAY_MS = 10;

/** Starts the level and proves it by one run. Throws SANDBOX_UNAVAILABLE, WORKSPACE_REFUSED. */
export async function createNamespaceBackend(spec: NamespaceSpec): Promise<Backend> {
  const { policy, files, clock, logger } = spec;
  const programs = findPrograms(spec.level);
  const limitScript = toLimitScript(decideRlimits(policy, readHardLimits()));
  const stages = programs.perl !== undefined && canStage(process.arch);
  const plan = planView({ policy, files, canStage: stages });
  const groups = openRealCallGroups(spec.isSingle ? policy.memoryLimitBytes : 0);
  const ownGroup = spec.isSingle ? undefined : findRealOwnGroup();
  const stampGuarded = createStamper();
  const bridge = { spec, programs, plan, limitScript, groups, ownGroup, stampGuarded };
  let room = await openRoom(bridge);
  let open = true;
  const backend = describe(spec.level, plan, room);

  async function getRoom(): Promise<Room> {
    assert(open, 'a closed backend is not used');
    if (!room.cell.isAlive()) {
      logger.warn('sandbox.cell_lost', {});
      room.parked.pool.close();
      room = await openRoom(bridge);
    }
    // What is guarded came or went since they were built: they would show it wrongly.
    const stamp = stampGuarded(plan.workspace, clock.wallMs());
    if (stamp !== undefined && stamp === room.parked.stamp) return room;
    const { cell, parked } = room;
    if (toGuards(plan) === parked.guards) {
      room = { cell, parked: { ...parked, stamp } };
    } else {
      parked.pool.close();
      room = { cell, parked: park(cell, bridge, stamp) };
    }
    return room;
  }

  /** A cell that was killed before `use` could begin anything says nothing about the next one. */
  async function inRoom<T>(use: (room: Room) => Promise<T>): Promise<T> {
    try {
      return await use(await getRoom());
    } catch (error) {
      if (!open || room.cell.isAlive()) throw error;
      return use(await getRoom());
    }
  }

  function refillLater(pool: SandboxPool): void {
    clock.setTimer(REFILL_DELAY_MS, () => {
      if (open) background(pool.refill(), 'sandbox.refill', logger);
    });
  }

  return {
    ...backend,
    memoryKeeper: groups === undefined ? 'watch' : `cgroup ${groups.version}`,
    network: policy.network.mode,
    temporaryFolder: undefined,
    view: () => room.parked.view,
    async run(script, use) {
      return inRoom(async ({ parked: { pool } }) => {
        const sandbox = await pool.take();
        await sandbox.placed;
        const { credential } = sandbox;
        if (credential !== undefined && use !== undefined) spec.callers.bind(credential, use.call);
        const command = sandbox.release(script, use?.secrets);
        refillLater(pool);
        return command;
      });
    },
    start: (script, use, admit) =>
      inRoom((its) => startAdmitted({ ...bridge, ...its }, { script, use, admit })),
    async startFileHost() {
      const script = `exec ${files.fileHost.inside.join(' ')}\n`;
      return inRoom((its) => startSpeaking(its.cell, its.parked.fileHostView, script));
    },
    async startToolHost() {
      const script = `exec ${files.toolHost.inside.join(' ')}\n`;
      return inRoom((its) => startSpeaking(its.cell, its.parked.toolHostView, script));
    },
    toToolPath: toToolTarget,
    async startServer(script) {
      return inRoom((its) => startSpeaking(its.cell, its.parked.view, script));
    },
    async close() {
      if (!open) return;
      open = false;
      room.parked.pool.close();
      await room.cell.close();
      groups?.close();
    },
  };
}

interface Bridge {
  readonly spec: NamespaceSpec;
  readonly programs: Programs;
  readonly plan: ViewPlan;
  readonly limitScript: string;
  readonly groups: CallGroups | undefined;
  readonly ownGroup: OwnGroup | undefined;
  readonly stampGuarded: Stamper;
}

async function openRoom(bridge: Bridge): Promise<Room> {
  const { spec, programs, plan, limitScript, stampGuarded } = bridge;
  const { clock, random } = spec;
  const { identity, system, items, etc } = plan;
  const filter = findFilter();
  const ports = { clock, random };
  const network = spec.policy.network.mode;
  const { accept: onConnection } = spec.callers;
  const door = hasProxy(spec) ? { runtime: plan.runtime, onConnection } : undefined;
  const { mark: owner } = spec;
  const shown = { system, items, etc };
  const parts = { programs, identity, ...shown, limitScript, filter, network, door, owner };
  const cell = await startCell({ ...parts, ...ports });
  const parked = park(cell, bridge, stampGuarded(plan.workspace, clock.wallMs()));
  try {
    if (!spec.isSingle) {
      const sandbox = await parked.pool.take();
      await proveCommand(sandbox.release(PROOF_SCRIPT));
    }
  } catch (error) {
    parked.pool.close();
    await cell.close();
    throw error;
  }
  background(parked.pool.refill(), 'sandbox.refill', spec.logger);
  return { cell, parked };
}

function park(cell: Cell, bridge: Bridge, stamp: string | undefined): Parked {
  const { spec, plan, groups, ownGroup } = bridge;
  const { view, fileHostView, toolHostView } = plan.toViews(cell.report, findFilter().length > 0);
  const pool = createPool(() => {
    const credential = createCredential(spec);
    return parkSandbox({ cell, groups, ownGroup, view, hasInput: false, credential });
  }, spec.parkedCount);
  return { stamp, guards: toGuards(plan), pool, view, fileHostView, toolHostView };
}

function createCredential(spec: NamespaceSpec): string | undefined {
  return hasProxy(spec) ? spec.random.hex(16) : undefined;
}

interface Admitted {
  readonly script: string;
  readonly use: CommandUse;
  readonly admit: () => Promise<void>;
}

/** Its sandbox stands before `admit` is asked; its script does not exist before that says yes. */
async function startAdmitted(
  { spec, groups, ownGroup, cell, parked }: Bridge & Room,
  { script, use, admit }: Admitted,
): Promise<StartedCommand> {
  const credential = createCredential(spec);
  const { view } = parked;
  const sandbox = await parkSandbox({ cell, groups, ownGroup, view, hasInput: true, credential });
  try {
    await sandbox.placed;
    await admit();
    if (!sandbox.isUsable()) throw refused('the cell has died', 'call again');
  } catch (error) {
    sandbox.discard();
    throw error;
  }
  if (credential !== undefined) spec.callers.bind(credential, use.call);
  return sandbox.release(script, use.secrets);
}

function hasProxy({ policy }: NamespaceSpec): boolean {
  return policy.network.mode === 'allowlist';
}

function toGuards({ workspace, hasWorkspace }: ViewPlan): string {
  return hasWorkspace ? JSON.stringify(surveyGuarded(workspace)) : '';
}

function findFilter(): Buffer {
  const program = toFilter({ arch: process.arch, refuseUnseenMemory: true });
  return program === undefined ? Buffer.alloc(0) : toFilterBytes(program);
}

async function startSpeaking(cell: Cell, view: View, script: string): Promise<ToolHostProcess> {
  const sandbox = await parkSandbox({ cell, view, hasInput: true });
  const { ended, ...streams } = sandbox.release(script);
  return { ...streams, exited: ended };
}

function describe(level: NamespaceSpec['level'], plan: ViewPlan, room: Room) {
  const notices = plan.toNotices(room.cell.report);
  return {
    level,
    uid: plan.identity.uid,
    workspace: plan.workspace,
    workspaceAccess: room.parked.view.workspaceAccess,
    notice: notices.length === 0 ? undefined : notices.join(' '),
    searchProgram: plan.searchProgram,
    nodeProgram: plan.nodeProgram,
  };
}

/** Throws SANDBOX_UNAVAILABLE with the command that installs what is missing. */
function findPrograms(level: NamespaceSpec['level']): Programs {
  const [bwrap, mkfifo, perl] = ['bwrap', 'mkfifo', 'perl'].map(findProgram);
  if (mkfifo === undefined) throw refused('mkfifo is missing', 'install coreutils');
  if (level === 'bubblewrap') {
    if (bwrap !== undefined) return { builder: [bwrap], mkfifo, perl };
    const { reason, mend } = toMissingAdvice((name) => findProgram(name) !== undefined);
    throw refused(reason, mend);
  }
  if (perl === undefined) throw refused('perl is missing', 'install perl, or better bubblewrap');
  if (!canBuild(process.arch)) {
    throw refused(`the processor ${process.arch} is not known to our builder`, 'use bubblewrap');
  }
  return { builder: toBuilderCommand(perl, process.arch), mkfifo, perl };
}

function refused(reason: string, mend: string): PrxError {
  const message = `no sandbox: ${reason}; mend: ${mend}`;
  return new PrxError('SANDBOX_UNAVAILABLE', message, { data: { reason, mend } });
}
