/** What of the guarded names exists in a workspace, to be mounted read-only; and putting aside what
 *  appears. Works through an open descriptor of the workspace: whoever moves a folder above it
 *  cannot lead us elsewhere. */
import {
  closeSync,
  constants,
  lstatSync,
  openSync,
  readdirSync,
  realpathSync,
  renameSync,
  type Stats,
} from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import type { Random } from '../../base/random.ts';
import { GIT_ENTRIES, starterNames, toAsideName } from '../guarded.ts';

export interface GuardedPath {
  /** Relative to the workspace. */
  readonly path: string;
  /** read-only: as it is. pinned: writable, but it cannot be moved away or replaced. */
  readonly how: 'read-only' | 'pinned';
  readonly kind: 'folder' | 'file';
}

const MODULE_DEPTH_MAX = 4;
const PATHS_MAX = 200;

/** Parents before children. Links are not mounted over: what they are is watched instead, and what
 *  they lead to inside the workspace is read-only. */
export function surveyGuarded(workspace: string): GuardedPath[] {
  const starters = starterNames.flatMap((name) => toReadOnly(workspace, name));
  return [...starters, ...surveyRepository(workspace, '.git', 0)].slice(0, PATHS_MAX);
}

function surveyRepository(workspace: string, path: string, depth: number): GuardedPath[] {
  const stat = find(join(workspace, path));
  // A link, or a file that says where the repository is.
  if (stat?.isDirectory() !== true) return toReadOnly(workspace, path);
  return [
    { path, how: 'pinned', kind: 'folder' },
    ...GIT_ENTRIES.flatMap((name) => toReadOnly(workspace, `${path}/${name}`)),
    ...surveyModules(workspace, `${path}/modules`, depth + 1),
  ];
}

/** Submodules' repositories, by names that may have slashes in them. */
function surveyModules(workspace: string, path: string, depth: number): GuardedPath[] {
  if (depth > MODULE_DEPTH_MAX || find(join(workspace, path))?.isDirectory() !== true) return [];
  const below = listFolders(workspace, path).flatMap((name) => {
    const child = `${path}/${name}`;
    const isRepository = find(join(workspace, child, 'HEAD')) !== undefined;
    return isRepository
      ? surveyRepository(workspace, child, depth)
      : surveyModules(workspace, child, depth + 1);
  });
  return [{ path, how: 'pinned', kind: 'folder' }, ...below];
}

function listFolders(workspace: string, path: string): string[] {
  try {
    const entries = readdirSync(join(workspace, path), { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  } catch {
    // Closed to us, or gone.
    return [];
  }
}

function toReadOnly(workspace: string, path: string): GuardedPath[] {
  const stat = find(join(workspace, path));
  if (stat === undefined) return [];
  if (!stat.isSymbolicLink()) {
    return [{ path, how: 'read-only', kind: stat.isDirectory() ? 'folder' : 'file' }];
  }
  const target = resolveInside(workspace, path);
  return target === undefined ? [] : [target];
}

function resolveInside(workspace: string, path: string): GuardedPath | undefined {
  try {
    const real = realpathSync(join(workspace, path));
    const root = realpathSync(workspace);
    if (!real.startsWith(`${root}/`)) return undefined;
    const kind = lstatSync(real).isDirectory() ? 'folder' : 'file';
    return { path: real.slice(root.length + 1), how: 'read-only', kind };
  } catch {
    // It leads nowhere.
    return undefined;
  }
}

function find(path: string): Stats | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch {
    // Behind a folder that we may not pass: then nobody of ours made it.
    return undefined;
  }
}

export interface Withheld {
  readonly path: string;
  /** What it is called now. */
  readonly aside: string;
  /** Why; absent: its name says it. */
  readonly reason?: string;
}

export interface GuardWatch {
  /** Renames what has appeared since the watch began. Cheap when nothing has. */
  sweep(): readonly Withheld[];
  close(): void;
}

const FOLDER = constants.O_RDONLY | constants.O_DIRECTORY;

/** A folder's time says whether a name in it came or went; but two changes within one tick of the
 *  kernel's clock have the same. The time of its last change of any kind (ctime), because the other
 *  one (mtime) is set to whatever a tool likes. */
const TICK_MS = 20;

/** What would differ if anything guarded had come or gone; undefined: it is too fresh to tell.
 *  @param workspace  may be an open descriptor, `/proc/self/fd/N/.`: it is not normalised (`join`),
 *  because without its dot that is a link of the kernel's, which nothing in the folder changes. */
export function stampGuarded(workspace: string, nowMs: number): string | undefined {
  const folders = ['.', '.git', '.git/modules'].map((name) => find(`${workspace}/${name}`));
  const isFresh = folders.some((stat) => stat !== undefined && nowMs - stat.ctimeMs < TICK_MS);
  return isFresh ? undefined : folders.map((stat) => `${stat?.ino}:${stat?.ctimeMs}`).join(' ');
}

/** Watched: the starters, and in a git folder what moves git to another configuration. A whole new
 *  git folder is looked into by the scan (git-scan.ts), because making one is ordinary work.
 *  @returns undefined when the workspace is not ours to open. */
export function watchGuarded(
  workspace: string,
  ports: { readonly clock: Clock; readonly random: Random },
): GuardWatch | undefined {
  const { clock, random } = ports;
  const fd = openFolder(workspace);
  if (fd === undefined) return undefined;
  const root = `/proc/self/fd/${fd}/.`;
  const stamp = stampGuarded(root, clock.wallMs());
  const names = starterNames.concat(GIT_ENTRIES.map((name) => `.git/${name}`));
  const readInodes = () => new Map(names.map((name) => [name, find(`${root}/${name}`)?.ino]));
  const before = readInodes();
  const hadGit = find(`${root}/.git`)?.isDirectory() === true;
  let open = true;

  return {
    sweep() {
      if (!open) return [];
      if (stamp !== undefined && stamp === stampGuarded(root, clock.wallMs())) return [];
      return [...readInodes()]
        .filter(([path, ino]) => ino !== undefined && ino !== before.get(path))
        .filter(([path]) => hadGit || !path.startsWith('.git/'))
        .flatMap(([path]) => putAside(fd, path, random));
    },
    close() {
      if (open) closeSync(fd);
      open = false;
    },
  };
}

/** Renames within its folder. Each folder on the way is opened by itself and never through a link,
 *  so what a tool does to the path meanwhile cannot lead out of the workspace. */
export function putAside(rootFd: number, path: string, random: Random): Withheld[] {
  const folders = path.split('/');
  const name = folders.pop() ?? '';
  const aside = toAsideName(name, random.hex(3));
  const opened: number[] = [];
  try {
    let fd = rootFd;
    for (const folder of folders) {
      fd = openSync(`/proc/self/fd/${fd}/${folder}`, FOLDER | constants.O_NOFOLLOW);
      opened.push(fd);
    }
    renameSync(`/proc/self/fd/${fd}/${name}`, `/proc/self/fd/${fd}/${aside}`);
    return [{ path, aside: [...folders, aside].join('/') }];
  } catch {
    // Gone again, or not ours to rename: the next look begins anew.
    return [];
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}

export function openFolder(path: string): number | undefined {
  try {
    return openSync(path, FOLDER);
  } catch {
    // Not ours to read: then nobody of ours runs in it as us either.
    return undefined;
  }
}
