/** The durable list of processes we started: (pid, start time, boot) per process, in the store
 *  before the process is used. A later supervisor reads it, leaves alone what is not exactly ours,
 *  hands over hosts that may still finish an effect, and kills the rest. What was started and never
 *  written down is found by the mark in its environment. Never signalled: what has not the mark of
 *  this state dir, our own relatives, and an identity that changed since we looked. */
import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import { background } from '../../base/background.ts';
import type { Clock } from '../../base/clock.ts';
import { toTimestamp } from '../../base/clock.ts';
import { isPrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { MarkedProcess, MarkTable } from '../../base/marked-processes.ts';
import {
  OWNER_MARK,
  type ProcessIdentity,
  type ProcessPort,
  type ProcessTable,
  readBootId,
} from '../../base/process.ts';
import type { SessionId } from '../../protocol/ids.ts';
import type { ProcessRecord, Store } from '../../store/contract.ts';
import type { ChildKind } from './child.ts';

export interface Killed {
  /** `unregistered`: found by its mark alone. */
  readonly kind: ChildKind | 'unregistered';
  readonly pid: number;
}

export interface RegistrySweep {
  readonly killed: readonly Killed[];
  /** Entries whose process is gone, is not ours, or could never have been. */
  readonly forgotten: number;
}

export interface Registry {
  /** Resolves when a later supervisor would find it. Throws STORE_DEGRADED. */
  add(entry: {
    readonly kind: ChildKind;
    readonly session: SessionId | undefined;
    readonly identity: ProcessIdentity;
  }): Promise<void>;
  remove(identity: ProcessIdentity): void;
  /** We no longer speak to it: it is to end what runs, alone, as after our death. */
  disown(identity: ProcessIdentity): void;
  /** Live gateways and hosts that may still write a spool and that nobody speaks to. */
  orphans(): readonly ProcessRecord[];
  /** One of ours, or an orphan that was not killed. */
  isKept(pid: number): boolean;
  /** When one of ours was started; undefined: it is none. */
  startedAt(pid: number): string | undefined;
  /** A host of this session is among them. */
  hasHost(session: string): boolean;
  /** Kills exactly this process, when it is marked as ours. False: it is gone or a stranger. */
  kill(record: ProcessRecord): boolean;
  /** Kills workers nobody holds and whatever was never written down, and forgets the dead. */
  sweep(): Promise<RegistrySweep>;
}

export interface RegistryDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly processes: ProcessTable;
  /** Absent (a machine without marks): who has the identity of an entry is ours. */
  readonly ownership?: Ownership | undefined;
}

export interface Ownership {
  /** The value of our mark: toOwner(). */
  readonly owner: string;
  readonly marks: MarkTable;
}

/** Whose a process is: the state dir itself, so that a copy of it is another owner, a moved one
 *  the same. */
export function toOwner(stateDir: string): string {
  const { dev, ino } = statSync(stateDir);
  return createHash('sha256').update(`${dev}:${ino}`).digest('hex').slice(0, 16);
}

/** Marks whatever is started through it. */
export function toMarkingPort(processes: ProcessPort, owner: string): ProcessPort {
  return {
    ...processes,
    start: (spec) => processes.start({ ...spec, env: { ...spec.env, [OWNER_MARK]: owner } }),
  };
}

export function createRegistry(deps: RegistryDeps): Registry {
  const { store, clock, logger, processes, ownership } = deps;
  /** By pid: what we started and what has not exited. */
  const held = new Map<number, ProcessRecord>();
  let orphans: readonly ProcessRecord[] = [];

  function forget(record: ProcessIdentity): void {
    const removed = store.removeProcess(record).catch((error: unknown) => {
      // The journal is closed: the next start sees for itself that this process is gone.
      if (!isPrxError(error, 'SHUTTING_DOWN')) throw error;
    });
    background(removed, 'registry.remove', logger);
  }

  function listOrphans(): readonly ProcessRecord[] {
    const gone = orphans.filter((record) => !processes.isAlive(record));
    if (gone.length === 0) return orphans;
    orphans = orphans.filter((record) => !gone.includes(record));
    for (const record of gone) forget(record);
    return orphans;
  }

  const isKept = (pid: number): boolean =>
    held.has(pid) || orphans.some((record) => record.pid === pid);

  const isMarked = ({ pid }: ProcessIdentity): boolean =>
    ownership === undefined || ownership.marks.read(pid, OWNER_MARK) === ownership.owner;

  function kill(record: ProcessRecord): boolean {
    if (!isMarked(record)) return false;
    const isKilled =
      ownership === undefined
        ? processes.signalIdentity(record, 'SIGKILL')
        : ownership.marks.kill(record);
    if (!isKilled) return false;
    logger.warn('registry.killed', { kind: record.kind, pid: record.pid });
    return true;
  }

  function sweepRecords(records: readonly ProcessRecord[]): RegistrySweep {
    const killed: Killed[] = [];
    let forgotten = 0;
    const pidMax = ownership?.marks.pidMax() ?? Number.MAX_SAFE_INTEGER;
    for (const record of records) {
      if (isKept(record.pid)) continue;
      const isOurs = isPossible(record, pidMax) && processes.isAlive(record) && isMarked(record);
      if (isOurs && record.kind !== 'worker') {
        orphans = [...orphans, record];
        continue;
      }
      // A worker without its supervisor has nobody to ask; it exits at EOF, this is the backstop.
      if (isOurs && kill(record)) killed.push({ kind: record.kind, pid: record.pid });
      else forgotten += 1;
      forget(record);
    }
    return { killed, forgotten };
  }

  function sweepMarked({ owner, marks }: Ownership): readonly Killed[] {
    const relatives = new Set([process.pid, ...marks.listAncestors(process.pid)]);
    const isStray = ({ identity: { pid }, mark }: MarkedProcess): boolean => {
      if (!isMarkOf(mark, owner) || isKept(pid) || relatives.has(pid)) return false;
      const host = parseHost(mark);
      if (host !== undefined && isKept(host.pid) && processes.isAlive(host)) return false;
      return !marks.listAncestors(pid).some((each) => each === process.pid || isKept(each));
    };
    const killed: Killed[] = [];
    for (const { identity, mark } of marks.find(OWNER_MARK).filter(isStray)) {
      const { pid } = identity;
      if (marks.read(pid, OWNER_MARK) !== mark || !marks.kill(identity)) continue;
      logger.warn('registry.killed', { kind: 'unregistered', pid });
      killed.push({ kind: 'unregistered', pid });
    }
    return killed;
  }

  return {
    async add({ kind, session, identity }) {
      const record = { ...identity, kind, session, started_at: toTimestamp(clock.wallMs()) };
      held.set(identity.pid, record);
      await store.putProcess(record);
    },
    remove(identity) {
      if (isSame(held.get(identity.pid), identity)) held.delete(identity.pid);
      orphans = orphans.filter((record) => !isSame(record, identity));
      forget(identity);
    },
    disown(identity) {
      const record = held.get(identity.pid);
      if (record === undefined || !isSame(record, identity)) return;
      held.delete(identity.pid);
      orphans = [...orphans, record];
    },
    orphans: listOrphans,
    isKept,
    startedAt: (pid) => held.get(pid)?.started_at,
    hasHost: (session) =>
      [...held.values(), ...orphans].some((record) => record.session === session),
    kill,
    async sweep() {
      listOrphans();
      const { killed, forgotten } = sweepRecords(await store.listProcesses());
      const strays = ownership === undefined ? [] : sweepMarked(ownership);
      return { killed: [...killed, ...strays], forgotten };
    },
  };
}

function isSame(one: ProcessIdentity | undefined, other: ProcessIdentity): boolean {
  return one?.pid === other.pid && one.startTicks === other.startTicks;
}

/** Could this ever have been a child of ours? Whatever else stands there was not written by us. */
function isPossible({ pid, startTicks }: ProcessIdentity, pidMax: number): boolean {
  return pid > 1 && pid <= pidMax && pid !== process.pid && startTicks > 0;
}

/** Commands of a level without isolation have `owner.pid.ticks`: also which host runs them. */
function isMarkOf(mark: string, owner: string): boolean {
  return mark === owner || mark.startsWith(`${owner}.`);
}

function parseHost(mark: string): ProcessIdentity | undefined {
  const [, pid, startTicks] = mark.split('.').map(Number);
  if (pid === undefined || startTicks === undefined) return undefined;
  return { pid, startTicks, bootId: readBootId() };
}
