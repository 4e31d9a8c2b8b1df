/** Files of processes that are gone: sockets, pipes that nobody opened, spools of sessions that
 *  were deleted, temporary files of hosts. Each is known by its name and kind; nothing of the
 *  user's is touched. */
import { type Dirent, lstatSync, readdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { ProcessTable } from '../../base/process.ts';
import { removeTree } from '../../base/remove-tree.ts';
import { parseHostFolderName } from '../../protocol/host-folders.ts';
import { sessionIdSchema } from '../../protocol/ids.ts';
import { parseOrphanSocketName, RUN_FOLDER } from '../../protocol/orphan-methods.ts';
import type { Store } from '../../store/contract.ts';

export interface LeftoverDeps {
  readonly stateDir: string;
  readonly store: Pick<Store, 'getSession'>;
  readonly isKept: (pid: number) => boolean;
  /** Some host of this session lives: what it makes is its own. */
  readonly hasHost: (session: string) => boolean;
  /** Where hosts keep temporary files; absent: nowhere. */
  readonly temporaryDir?: string | undefined;
  readonly processes: Pick<ProcessTable, 'findIdentity'>;
}

/** Both return what they removed: paths below the state dir, others in full. This one looks at a
 *  folder for each session that ever used a tool. */
export async function removeLeftovers(deps: LeftoverDeps): Promise<readonly string[]> {
  return [...removePipes(deps), ...(await removeSpools(deps)), ...(await removeTemporaries(deps))];
}

export function removeSockets(deps: Pick<LeftoverDeps, 'stateDir' | 'isKept'>): readonly string[] {
  const { stateDir, isKept } = deps;
  return list(stateDir, RUN_FOLDER)
    .filter((entry) => {
      const owner = parseOrphanSocketName(entry.name);
      return entry.isSocket() && owner !== undefined && !isKept(owner.pid);
    })
    .filter(({ name }) => remove(stateDir, join(RUN_FOLDER, name)))
    .map(({ name }) => join(RUN_FOLDER, name));
}

/** A host without isolation makes named pipes beside the artifacts and opens them at once. */
function removePipes({ stateDir, hasHost }: LeftoverDeps): readonly string[] {
  const folders = list(stateDir, 'artifacts').filter(
    (entry) => entry.isDirectory() && !hasHost(entry.name),
  );
  return folders.flatMap((folder) => {
    const place = join('artifacts', folder.name);
    return list(stateDir, place)
      .filter((entry) => entry.isFIFO() && /^pipe-[0-9a-f]{16}$/.test(entry.name))
      .map(({ name }) => join(place, name))
      .filter((path) => remove(stateDir, path));
  });
}

async function removeSpools({ stateDir, store }: LeftoverDeps): Promise<readonly string[]> {
  const removed: string[] = [];
  for (const entry of list(stateDir, 'spool')) {
    const session = sessionIdSchema.safeParse(entry.name);
    if (!entry.isDirectory() || !session.success) continue;
    if ((await store.getSession(session.data)) !== undefined) continue;
    const path = join('spool', entry.name);
    if (remove(stateDir, path)) removed.push(path);
  }
  return removed;
}

/** Of a host that was killed: its commands are gone with it. There may be much in them, so it is
 *  not done in one go. Anybody can make a folder of such a name: then it is not ours. */
async function removeTemporaries(deps: LeftoverDeps): Promise<readonly string[]> {
  const { temporaryDir, processes } = deps;
  if (temporaryDir === undefined) return [];
  const removed: string[] = [];
  for (const { name } of list(temporaryDir, '.')) {
    const host = parseHostFolderName(name);
    const path = join(temporaryDir, name);
    if (host === undefined || !isOwn(path)) continue;
    if (processes.findIdentity(host.pid)?.startTicks === host.startTicks) continue;
    const isGone = await rm(path, { recursive: true, force: true }).then(
      () => true,
      () => tryRemove(path), // Closed to us, or somebody still writes there.
    );
    if (isGone) removed.push(path);
  }
  return removed;
}

function isOwn(path: string): boolean {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  return stat?.isDirectory() === true && stat.uid === process.getuid?.();
}

function list(stateDir: string, folder: string): readonly Dirent[] {
  try {
    return readdirSync(join(stateDir, folder), { withFileTypes: true });
  } catch {
    // Not there, or not readable now: the next sweep looks again.
    return [];
  }
}

function remove(stateDir: string, path: string): boolean {
  return tryRemove(join(stateDir, path));
}

function tryRemove(path: string): boolean {
  try {
    removeTree(path);
    return true;
  } catch {
    // A disk that takes no changes: the next sweep tries again.
    return false;
  }
}
