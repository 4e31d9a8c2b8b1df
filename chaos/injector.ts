/** Works off the plan: each lane in its order, each fault when its time has come and there is a
 *  process to hit. What could not be hit in time is counted as missed, never replaced by something
 *  else. However it ends, nothing stays frozen and no disk stays full. */
import type { Clock } from '../base/clock.ts';
import type { Disk } from './disk.ts';
import type { InjectedFault } from './history.ts';
import type { Lifeline } from './lifeline.ts';
import type { FaultKind, Lane, PlannedFault } from './plan.ts';
import type { OwnProcess, ProcessKind, ProcessWatch } from './processes.ts';

export interface InjectorDeps {
  readonly clock: Clock;
  readonly processes: ProcessWatch;
  readonly lifeline: Lifeline;
  readonly disk: Disk | undefined;
  readonly onFinding: (message: string) => void;
}

export interface Injector {
  /** Resolves when the lanes are through, or soon after the signal aborted. */
  run(plan: readonly Lane[], signal: AbortSignal): Promise<void>;
  readonly faults: readonly InjectedFault[];
  readonly missed: ReadonlyMap<FaultKind, number>;
  /** The disk is full, or was a moment ago. */
  isDiskFull(): boolean;
}

/** How long a fault waits for a process to hit, ms. */
const TARGET_MS = 8000;
const POLL_MS = 40;
/** What failed for want of space may still be failing a little later, ms. */
const DISK_ECHO_MS = 2000;
/** A supervisor that was asked to stop has this long, ms. */
const STOP_MS = 8000;

export function createInjector(deps: InjectorDeps): Injector {
  const { clock, processes, lifeline, disk } = deps;
  const faults: InjectedFault[] = [];
  const missed = new Map<FaultKind, number>();
  let diskFullUntilMs = 0;

  async function runLane({ faults: planned }: Lane, signal: AbortSignal): Promise<void> {
    const startMs = clock.nowMs();
    for (const fault of planned) {
      await clock.sleep(startMs + fault.atMs - clock.nowMs(), signal);
      if (signal.aborted) return;
      const isDone = await inject(fault, signal);
      if (!isDone) missed.set(fault.kind, (missed.get(fault.kind) ?? 0) + 1);
    }
  }

  async function inject(fault: PlannedFault, signal: AbortSignal): Promise<boolean> {
    const [verb, noun] = fault.kind.split(' ');
    if (fault.kind === 'fill disk') return fillDisk(fault, signal);
    if (fault.kind === 'kill supervisor' || fault.kind === 'stop supervisor') {
      return endSupervisor(fault);
    }
    // The two words of every other kind: what is done, and to which kind of process.
    const kind = noun as ProcessKind;
    const target = await awaitTarget(kind, fault.pick, signal);
    if (target === undefined) return false;
    if (verb === 'freeze') return freeze(fault, target, signal);
    // A little later: else every late kill would hit the first instant of a life.
    await clock.sleep(fault.holdMs, signal);
    const victim = await awaitTarget(kind, fault.pick, signal);
    return victim !== undefined && kill(fault, victim);
  }

  async function awaitTarget(
    kind: ProcessKind,
    pick: number,
    signal: AbortSignal,
  ): Promise<OwnProcess | undefined> {
    const deadlineMs = clock.nowMs() + TARGET_MS;
    while (!signal.aborted && clock.nowMs() < deadlineMs) {
      const candidates = processes.list().filter((each) => each.kind === kind);
      const target = candidates[Math.floor(pick * candidates.length)];
      if (target !== undefined) return target;
      await clock.sleep(POLL_MS, signal);
    }
    return undefined;
  }

  function note(kind: FaultKind, pid: number, fromMs: number): void {
    faults.push({ kind, pid, fromMs, toMs: clock.wallMs() });
  }

  function kill({ kind }: PlannedFault, target: OwnProcess): boolean {
    const fromMs = clock.wallMs();
    if (!processes.signal(target, 'SIGKILL')) return false;
    note(kind, target.identity.pid, fromMs);
    return true;
  }

  async function freeze(
    { kind, holdMs }: PlannedFault,
    target: OwnProcess,
    signal: AbortSignal,
  ): Promise<boolean> {
    const fromMs = clock.wallMs();
    if (!processes.signal(target, 'SIGSTOP')) return false;
    try {
      await clock.sleep(holdMs, signal);
    } finally {
      processes.signal(target, 'SIGCONT');
      note(kind, target.identity.pid, fromMs);
    }
    return true;
  }

  async function endSupervisor({ kind, holdMs }: PlannedFault): Promise<boolean> {
    const pid = lifeline.identity()?.pid;
    if (pid === undefined || !lifeline.isUp()) {
      await lifeline.up();
      return false;
    }
    const fromMs = clock.wallMs();
    const isKill = kind === 'kill supervisor';
    const isGone = await lifeline.end(isKill ? 'SIGKILL' : 'SIGTERM', STOP_MS);
    if (!isGone) {
      deps.onFinding(`the supervisor did not end within ${STOP_MS} ms of its signal (${kind})`);
      await lifeline.end('SIGKILL', STOP_MS);
    }
    note(kind, pid, fromMs);
    await clock.sleep(holdMs);
    await lifeline.up();
    return true;
  }

  async function fillDisk(fault: PlannedFault, signal: AbortSignal): Promise<boolean> {
    if (disk === undefined) return false;
    const fromMs = clock.wallMs();
    diskFullUntilMs = Number.POSITIVE_INFINITY;
    const isFull = await disk.fill();
    try {
      if (isFull) await clock.sleep(fault.holdMs, signal);
    } finally {
      await disk.free();
      diskFullUntilMs = clock.nowMs() + DISK_ECHO_MS;
    }
    if (isFull) note(fault.kind, 0, fromMs);
    return isFull;
  }

  return {
    faults,
    missed,
    isDiskFull: () => clock.nowMs() < diskFullUntilMs,
    async run(plan, signal) {
      const wanted = plan.filter((lane) => lane.name !== 'disk' || disk !== undefined);
      await Promise.all(wanted.map((lane) => runLane(lane, signal)));
    },
  };
}
