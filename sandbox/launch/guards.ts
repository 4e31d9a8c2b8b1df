/** What of the guarded names exists in a workspace, to be mounted read-only; and putting aside what
 *  appears. Works through an open descriptor of the workspace: whoever moves a folder above it
 *  cannot lead us elsewhere. */
import {
  chmodSync,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  realpathSync,
  renameSync,
  type Stats,
  statSync,
} from 'node:fs';
import { isAbsolute, join, relative } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import { systemCode } from '../../base/errors.ts';
import type { Random } from '../../base/random.ts';
import { toPathBytes, toRawPath, toShownPath } from '../../base/raw-path.ts';
import { findLeads, GIT_ENTRIES, starterNames, toAsideName } from '../guarded.ts';
import { readSmall } from './git-scan.ts';

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
  const own = [...starters, ...surveyRepository(workspace, '.git', 0)].slice(0, PATHS_MAX);
  const led = listLed(workspace).flatMap((path) => resolveInside(workspace, path) ?? []);
  return [...new Map([...led, ...own].map((guard) => [guard.path, guard])).values()];
}

const LED_MAX = 100;

/** What the repository of the workspace leads git to in the workspace: by its configuration, or by
 *  hooks that are links. Relative to the workspace; it may not be there. */
function listLed(workspace: string): string[] {
  const { hooks, includes } = findLeads(readSmall(`${workspace}/.git/config`));
  const links = listLinks(`${workspace}/.git/hooks`).map((name) => `.git/hooks/${name}`);
  return [
    ...hooks.map((path) => toInner(path, '.')),
    ...includes.map((path) => toInner(path, '.git')),
  ]
    .filter((path) => path !== undefined)
    .concat(links)
    .slice(0, LED_MAX);

  function toInner(path: string, from: string): string | undefined {
    const inner = isAbsolute(path) ? relative(findReal(workspace), path) : join(from, path);
    return inner.startsWith('..') || inner === '.' || inner === '' ? undefined : inner;
  }
}

function listLinks(folder: string): string[] {
  try {
    const entries = readdirSync(folder, { withFileTypes: true });
    return entries.filter((entry) => entry.isSymbolicLink()).map((entry) => entry.name);
  } catch {
    // There are no hooks.
    return [];
  }
}

function findReal(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    // Gone meanwhile.
    return path;
  }
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
/** O_PATH: to pass through a folder it need not be readable. */
const PASSED = 0o10000000 | constants.O_DIRECTORY;

/** A folder's time says whether a name in it came or went; but two changes within one tick of the
 *  kernel's clock have the same. The time of its last change of any kind (ctime), because the other
 *  one (mtime) is set to whatever a tool likes. */
const TICK_MS = 20;

/** What differs once anything guarded has come or gone; undefined: it is too fresh to tell, or
 *  shows where no time does. */
export type Stamper = (workspace: string, nowMs: number) => string | undefined;

/** Its workspace may be an open descriptor, `/proc/self/fd/N/.`: it is not normalised (`join`),
 *  because without its dot that is a link of the kernel's, which nothing in the folder changes. */
export function createStamper(): Stamper {
  let plain: string | undefined;
  return (workspace, nowMs) => {
    const folders = [find(`${workspace}/.`), ...findGitFolders(workspace)];
    const isFresh = folders.some((stat) => stat !== undefined && nowMs - stat.ctimeMs < TICK_MS);
    if (isFresh) return undefined;
    const stamp = folders.map((stat) => `${stat?.ino}:${stat?.ctimeMs}`).join(' ');
    if (stamp === plain) return stamp;
    // What these are may change where no time shows it.
    if (listLed(workspace).length > 0) return undefined;
    plain = stamp;
    return stamp;
  };
}

/** Of the hooks what a link leads to, because that is where their links are. */
function findGitFolders(workspace: string): (Stats | undefined)[] {
  const git = find(`${workspace}/.git`);
  if (git === undefined) return [];
  const names = ['config', 'modules'].map((name) => find(`${workspace}/.git/${name}`));
  return [git, ...names, findTarget(`${workspace}/.git/hooks`)];
}

/** Watched: the starters, and in a git folder what moves git to another configuration. A whole new
 *  git folder is looked into by the scan (git-scan.ts), because making one is ordinary work.
 *  @returns begins a watch; that gives undefined when the workspace is not ours to open. */
export function createWatcher(
  workspace: string,
  { clock, random }: { readonly clock: Clock; readonly random: Random },
): () => GuardWatch | undefined {
  const stampGuarded = createStamper();
  let last: { readonly stamp: string | undefined; readonly seen: Seen } | undefined;

  /** By the watch before. Where links lead may have changed since, which no folder's time shows. */
  function findSeen(stamp: string | undefined): Seen | undefined {
    const isSame = stamp !== undefined && stamp === last?.stamp;
    return isSame && last?.seen.hasLinks === false ? last.seen : undefined;
  }

  return () => {
    const fd = openFolder(workspace);
    if (fd === undefined) return undefined;
    const root = `/proc/self/fd/${fd}/.`;
    const stamp = stampGuarded(root, clock.wallMs());
    const before = findSeen(stamp) ?? look(root, stamp === undefined);
    last = { stamp, seen: before };
    const { mode } = fstatSync(fd);
    let open = true;

    return {
      sweep() {
        if (!open) return [];
        reopen(fd, mode);
        const isSame = stamp !== undefined && stamp === stampGuarded(root, clock.wallMs());
        if (isSame && !before.hasLinks) return [];
        return before.names
          .map((path) => ({ path, identity: identify(`${root}/${path}`) }))
          .filter(({ path, identity }) => identity !== undefined && identity !== before.of(path))
          .filter(({ path }) => before.hadGit || !path.startsWith('.git/'))
          .flatMap(({ path }) => putAside(fd, toRawPath(path), random));
      },
      close() {
        if (open) closeSync(fd);
        open = false;
      },
    };
  };
}

/** The guarded names, and which files they were. */
interface Seen {
  readonly names: readonly string[];
  of(name: string): string | undefined;
  readonly hasLinks: boolean;
  readonly hadGit: boolean;
}

function look(root: string, mayBeLed: boolean): Seen {
  const own = starterNames.concat(GIT_ENTRIES.map((name) => `.git/${name}`));
  const names = [...new Set([...own, ...(mayBeLed ? listLed(root) : [])])];
  const identities = new Map(names.map((name) => [name, identify(`${root}/${name}`)]));
  return {
    names,
    of: (name) => identities.get(name),
    hasLinks: [...identities.values()].some((identity) => identity?.includes('>')),
    hadGit: find(`${root}/.git`)?.isDirectory() === true,
  };
}

/** Which file it is, and where it is a link, `>` and which one it leads to. Undefined: none. */
function identify(path: string): string | undefined {
  const stat = find(path);
  if (stat?.isSymbolicLink() !== true) return stat?.ino.toString();
  return `${stat.ino}>${findTarget(path)?.ino}`;
}

function findTarget(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    // It leads in circles, or behind a folder that we may not pass.
    return undefined;
  }
}

const OWNER_MODE = 0o700;

/** A workspace that its user could enter and write to before is so afterwards. */
function reopen(fd: number, before: number): void {
  const now = fstatSync(fd).mode;
  const lost = before & OWNER_MODE & ~now;
  if (lost !== 0) changeMode(fd, now | lost);
}

/** Renames within its folder. Each folder on the way is opened by itself and never through a link,
 *  so what a tool does to the path meanwhile cannot lead out of the workspace: a link on the way is
 *  what is renamed.
 *  @param path  raw. */
export function putAside(rootFd: number, path: string, random: Random): Withheld[] {
  const names = path.split('/');
  const opened: number[] = [];
  try {
    let fd = rootFd;
    for (const [index, name] of names.entries()) {
      const next = index === names.length - 1 ? undefined : openStep(fd, name);
      if (next === undefined) {
        const before = names.slice(0, index);
        const aside = toAsideName(name, random.hex(3));
        inOpened(fd, () => renameSync(toStep(fd, name), toStep(fd, aside)));
        const toWhole = (last: string): string => toShownPath([...before, last].join('/'));
        return [{ path: toWhole(name), aside: toWhole(aside) }];
      }
      opened.push(next);
      fd = next;
    }
    return [];
  } catch {
    // Gone again, or not ours to rename: the next look begins anew.
    return [];
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}

/** Undefined: it is no folder. */
function openStep(fd: number, name: string): number | undefined {
  try {
    return inOpened(fd, () => openSync(toStep(fd, name), PASSED | constants.O_NOFOLLOW));
  } catch (error) {
    if (systemCode(error) === 'ENOTDIR') return undefined;
    throw error;
  }
}

function toStep(fd: number, name: string): Buffer {
  return toPathBytes(`/proc/self/fd/${fd}/${name}`);
}

/** In a folder that a tool has closed to its user, who is the owner of both: it is as before when
 *  the use is over. */
function inOpened<T>(fd: number, use: () => T): T {
  try {
    return use();
  } catch (error) {
    if (systemCode(error) !== 'EACCES') throw error;
  }
  const { mode } = fstatSync(fd);
  changeMode(fd, mode | OWNER_MODE);
  try {
    return use();
  } finally {
    changeMode(fd, mode);
  }
}

/** By its name under /proc, because a descriptor that only passes cannot be changed by itself. */
function changeMode(fd: number, mode: number): void {
  try {
    chmodSync(`/proc/self/fd/${fd}`, mode & 0o7777);
  } catch {
    // Somebody else's.
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
