/** Looks through a workspace for repositories that would make git run something: a nested one, or a
 *  folder that looks like one, with such keys in its configuration, with hooks, with what an
 *  unfinished rebase or cherry-pick would run, or pointing to another configuration; and for
 *  folders that nobody can look into. Only finds; what of it is new is decided, and renamed,
 *  elsewhere (the paths are the tool's to play with). All paths are raw: a folder whose name is no
 *  text can be entered, too. */
import {
  closeSync,
  constants,
  type Dirent,
  lstatSync,
  openSync,
  readdirSync,
  readSync,
  realpathSync,
  statSync,
} from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { systemCode } from '../../base/errors.ts';
import { RAW, toPathBytes, toRawPath } from '../../base/raw-path.ts';
import {
  findActiveKey,
  holdsCommand,
  holdsForeignStrategy,
  isForeignStrategy,
} from '../guarded.ts';

export interface GitFinding {
  /** Relative to the workspace; raw. */
  readonly path: string;
  readonly reason: string;
  /** The same as long as nobody wrote to it, replaced or renamed it, wherever it lies. Not its
   *  time alone: a file may be old when the folder around it becomes a repository. */
  readonly identity: string;
}

const FOLDERS_MAX = 200_000;
const CONFIG_BYTES_MAX = 64 * 1024;
/** Of a repository with more, the folder of them is found as one. */
const HOOKS_MAX = 20;
const TOO_LONG = '(too long)';
const UNREADABLE = '(unreadable)';
/** So many folders are read between two turns of the event loop. */
const BATCH = 100;

/** Nearest to the top first: that is where somebody would enter.
 *  @returns what was found; `isWhole` false: there are more folders than are looked at. */
export async function scanGit(
  path: string,
): Promise<{ readonly findings: readonly GitFinding[]; readonly isWhole: boolean }> {
  const workspace = toRawPath(path);
  const findings: GitFinding[] = [];
  const folders = [''];
  for (let index = 0; index < folders.length; index += 1) {
    if (index % BATCH === BATCH - 1) await nextLoopTurn();
    const folder = folders[index] ?? '';
    const entries = listEntries(join(workspace, folder));
    if (entries === undefined) {
      findings.push(toFinding(workspace, folder, 'it cannot be looked into'));
      continue;
    }
    const names = new Map(entries.map((entry) => [entry.name, entry]));
    if (isRepository(names)) findings.push(...judge(workspace, folder, names));
    if (folders.length > FOLDERS_MAX) continue;
    for (const entry of entries) if (entry.isDirectory()) folders.push(join(folder, entry.name));
  }
  return { findings, isWhole: folders.length <= FOLDERS_MAX };
}

type Names = ReadonlyMap<string, Pick<Dirent, 'isSymbolicLink'>>;

/** What git takes for one, and what it takes for the common folder of one, which needs no HEAD. */
function isRepository(names: Names): boolean {
  return (names.has('objects') && names.has('refs')) || names.has('commondir');
}

function judge(workspace: string, folder: string, names: Names): GitFinding[] {
  const configs = ['config', 'config.worktree'].flatMap((name) => {
    if (!names.has(name)) return [];
    const path = join(folder, name);
    const isOwn = (target: string): boolean => isOwnWorktree(workspace, folder, target);
    const key = findActiveKey(readRaw(join(workspace, path)), isOwn);
    return key === undefined ? [] : [toFinding(workspace, path, `it sets ${key}`)];
  });
  const pointer = join(folder, 'commondir');
  const isMoved = names.has('commondir') && !isOrdinary(workspace, pointer);
  const reason = 'it points to another configuration';
  return [
    ...configs,
    ...(isMoved ? [toFinding(workspace, pointer, reason)] : []),
    ...judgeHooks(workspace, join(folder, 'hooks'), names.get('hooks')?.isSymbolicLink() === true),
    ...judgeUnfinished(workspace, folder, names),
  ];
}

/** A folder of the workspace, not behind a link, whose `.git` leads back here. */
function isOwnWorktree(workspace: string, folder: string, target: string): boolean {
  const place = join(folder, toRawPath(target));
  if (isAbsolute(target) || place.startsWith('..') || place === '.') return false;
  const [, back = ''] = /^gitdir: (.+)\n$/.exec(readRaw(join(workspace, place, '.git'))) ?? [];
  const around = join(place, toRawPath(back));
  return !isAbsolute(back) && around === folder && isReal(join(workspace, place));
}

function isReal(path: string): boolean {
  try {
    return realpathSync(toPathBytes(path), RAW) === path;
  } catch {
    // Gone meanwhile.
    return false;
  }
}

/** As `git worktree add` writes it: the repository around it, which is looked at by itself. */
function isOrdinary(workspace: string, pointer: string): boolean {
  if (!/(^|\/)worktrees\/[^/]+\/commondir$/.test(pointer)) return false;
  return readRaw(join(workspace, pointer)).trim() === '../..';
}

const STRATEGY_REASON = 'it names a merge strategy that is not of git';
const unfinished: readonly {
  readonly folder: string;
  readonly name: string;
  readonly isActive: (text: string) => boolean;
  readonly reason: string;
}[] = [
  {
    ...{ folder: 'rebase-merge', name: 'git-rebase-todo', isActive: holdsCommand },
    reason: 'the rebase would run a command',
  },
  {
    ...{ folder: 'rebase-merge', name: 'strategy', isActive: isForeignStrategy },
    reason: STRATEGY_REASON,
  },
  {
    ...{ folder: 'sequencer', name: 'opts', isActive: holdsForeignStrategy },
    reason: STRATEGY_REASON,
  },
];

/** `git rebase --continue` runs what stands there, and a strategy is a program. */
function judgeUnfinished(workspace: string, gitFolder: string, names: Names): GitFinding[] {
  return unfinished.flatMap(({ folder, name, isActive, reason }) => {
    if (!names.has(folder)) return [];
    const entries = listEntries(join(workspace, gitFolder, folder)) ?? [];
    if (!entries.some((entry) => entry.name === name)) return [];
    const path = join(gitFolder, folder, name);
    const text = readRaw(join(workspace, path));
    if (!isActive(text) && text !== TOO_LONG && text !== UNREADABLE) return [];
    // Behind a link nothing is renamed: then it is the link.
    const isLink = names.get(folder)?.isSymbolicLink() === true;
    return [toFinding(workspace, isLink ? join(gitFolder, folder) : path, reason)];
  });
}

/** Behind a link nothing is renamed: then it is the link. */
function judgeHooks(workspace: string, path: string, isLink: boolean): GitFinding[] {
  const names = (listEntries(join(workspace, path)) ?? []).map(({ name }) => name);
  const hooks = names
    .filter((name) => !name.endsWith('.sample'))
    .map((name) => toFinding(workspace, `${path}/${name}`, 'it is a hook'));
  if (hooks.length === 0 || (!isLink && hooks.length <= HOOKS_MAX)) return hooks;
  const own = toFinding(workspace, path, 'it holds hooks');
  return [{ ...own, identity: [own, ...hooks].map(({ identity }) => identity).join(' ') }];
}

function toFinding(workspace: string, path: string, reason: string): GitFinding {
  return { path, reason, identity: identify(join(workspace, path)) };
}

/** Of the name and, where it is a link, of what it leads to. */
function identify(path: string): string {
  return [lstatSync, statSync]
    .map((read) => {
      try {
        const stat = read(toPathBytes(path), { bigint: true, throwIfNoEntry: false });
        return stat === undefined ? 'none' : `${stat.dev}:${stat.ino}:${stat.ctimeNs}`;
      } catch {
        // Behind a folder that we may not pass.
        return 'closed';
      }
    })
    .join('>');
}

/** Undefined: closed to us. */
function listEntries(path: string) {
  try {
    return readdirSync(toPathBytes(path), { withFileTypes: true, encoding: RAW });
  } catch (error) {
    // Gone, or no folder.
    return systemCode(error) === 'EACCES' ? undefined : [];
  }
}

function readRaw(path: string): string {
  return readSmall(toPathBytes(path));
}

/** What is too long, or cannot be read, is no plain configuration. */
export function readSmall(path: string | Buffer): string {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return UNREADABLE;
  }
  try {
    const bytes = Buffer.alloc(CONFIG_BYTES_MAX + 1);
    const count = readSync(fd, bytes, 0, bytes.length, 0);
    return count > CONFIG_BYTES_MAX ? TOO_LONG : bytes.toString('utf8', 0, count);
  } catch {
    return UNREADABLE;
  } finally {
    closeSync(fd);
  }
}

function nextLoopTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
