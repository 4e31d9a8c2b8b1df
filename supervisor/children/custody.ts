/** All about processes beyond one supervisor's life: the mark on what we start, the registry, the
 *  orphans of earlier supervisors, and the sweeps at start, each minute and when asked for. */
import { join } from 'node:path';
import { background } from '../../base/background.ts';
import type { Clock, Timer } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import type { MarkTable } from '../../base/marked-processes.ts';
import type { ProcessPort } from '../../base/process.ts';
import { RUN_DIR_OPTION, RUN_FOLDER } from '../../protocol/orphan-methods.ts';
import type { SweepView } from '../../protocol/sweep.ts';
import type { ProcessRecord, Store } from '../../store/contract.ts';
import { createSessionFolders, type SessionFolders } from '../sessions/session-folders.ts';
import type { Cgroups } from './cgroup.ts';
import type { ChildSpec } from './child.ts';
import { removeLeftovers, removeSockets } from './leftovers.ts';
import { type ConnectOrphan, createOrphans, type EffectKey, type Orphans } from './orphans.ts';
import { createRegistry, type Registry, toMarkingPort, toOwner } from './registry.ts';

/** What it takes to find and to ask processes that somebody else started. */
export interface AdoptionPorts {
  /** The value of our mark; absent: the state dir tells. */
  readonly owner?: string;
  readonly marks: MarkTable;
  readonly connect: ConnectOrphan;
  /** Where hosts keep temporary files; absent: nowhere. */
  readonly temporaryDir?: string;
}

export interface CustodyDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly processes: ProcessPort;
  /** Absent: a machine (of a test) where nothing can be found or asked. */
  readonly adoption?: AdoptionPorts;
  readonly cgroups?: Pick<Cgroups, 'sweep'> | undefined;
}

export interface Custody extends Pick<Orphans, 'mayWrite' | 'cancel'> {
  /** For who starts children; these processes are marked. */
  readonly ports: { readonly processes: ProcessPort; readonly registry: Registry };
  /** The same child, listening where a later supervisor finds it. */
  toAdoptable(spec: ChildSpec): ChildSpec;
  /** The first sweep, of processes; the files follow when the doors are open, and from then on
   *  processes, sockets and control groups are swept each minute, files each ten minutes. */
  start(): Promise<void>;
  /** Of processes and files. */
  sweep(): Promise<SweepView>;
  /** Leaves everything to the next supervisor. */
  stop(): void;
  /** Of sessions, swept with the files. */
  readonly folders: SessionFolders;
}

const SWEEP_MS = 60_000;
/** Files are looked for at each of so many sweeps: it reads a folder for each session that ever
 *  used a tool. */
const FILES_EVERY = 10;
const FIRST_SWEEP_MS = 2000;

/** @param limitMs the longest that anything may run in a process of this kind. */
export function createCustody(
  deps: CustodyDeps,
  stateDir: string,
  limitMs: (kind: ProcessRecord['kind']) => number,
): Custody {
  const { store, clock, logger, adoption } = deps;
  const runDir = join(stateDir, RUN_FOLDER);
  const owner = adoption && (adoption.owner ?? toOwner(stateDir));
  const ownership =
    adoption === undefined || owner === undefined ? undefined : { marks: adoption.marks, owner };
  const processes = owner === undefined ? deps.processes : toMarkingPort(deps.processes, owner);
  const book = createRegistry({ store, clock, logger, processes, ownership });
  const registry: Registry = {
    ...book,
    remove(identity) {
      book.remove(identity);
      // One that was killed could not take its socket away.
      removeSockets({ stateDir, isKept: book.isKept });
    },
  };
  const connect = adoption?.connect ?? (() => Promise.reject(new Error('there are no sockets')));
  const orphans = createOrphans({
    ...{ registry, processes, connect, runDir, clock, logger, limitMs },
    listUnfinished: () => listUnfinished(store),
  });
  const folders = createSessionFolders(stateDir, store);
  let timer: Timer | undefined;
  let sweeping: Promise<SweepView> | undefined;
  let stopped = false;
  let sweeps = 0;

  async function sweepProcesses(): Promise<SweepView> {
    const { killed, forgotten } = await registry.sweep();
    orphans.watch();
    const sockets = removeSockets({ stateDir, isKept: registry.isKept });
    const groups = deps.cgroups?.sweep().map((name) => `cgroup ${name}`) ?? [];
    const removed = [...sockets, ...groups];
    return { killed: [...killed, ...orphans.review()], removed, forgotten };
  }

  async function sweepAll(): Promise<SweepView> {
    const view = await sweepProcesses();
    const { isKept, hasHost } = registry;
    const { temporaryDir } = adoption ?? {};
    const own = { stateDir, store, isKept, hasHost };
    const files = await removeLeftovers({ ...own, temporaryDir, processes: deps.processes });
    return { ...view, removed: [...view.removed, ...files, ...(await folders.sweep())] };
  }

  /** One at a time: whoever asks meanwhile has the same answer. */
  function sweep(): Promise<SweepView> {
    sweeping ??= sweepAll().finally(() => {
      sweeping = undefined;
    });
    return sweeping;
  }

  function sweepLater(delayMs: number): void {
    timer = clock.setTimer(delayMs, () => {
      if (stopped) return;
      const work = sweeps % FILES_EVERY === 0 ? sweep() : sweepProcesses();
      sweeps += 1;
      const swept = work.then(({ killed, removed, forgotten }) => {
        if (killed.length + removed.length === 0) return;
        logger.info('registry.swept', { killed, removed: removed.length, forgotten });
      });
      background(
        swept.finally(() => sweepLater(SWEEP_MS)),
        'registry.sweep',
        logger,
      );
    });
  }

  return {
    ports: { processes, registry },
    mayWrite: orphans.mayWrite,
    cancel: orphans.cancel,
    toAdoptable(spec) {
      const args = [...spec.process.args, `${RUN_DIR_OPTION}${runDir}`];
      return { ...spec, process: { ...spec.process, args } };
    },
    async start() {
      await sweepProcesses();
      sweepLater(FIRST_SWEEP_MS);
    },
    sweep,
    folders,
    stop() {
      stopped = true;
      timer?.cancel();
      orphans.stop();
    },
  };
}

async function listUnfinished(store: Pick<Store, 'listUnfinished'>): Promise<readonly EffectKey[]> {
  const records = await store.listUnfinished();
  return records.flatMap(({ id, open_turn: open }) =>
    (open?.unfinished ?? []).map((effect) => ({ session: id, effect })),
  );
}
