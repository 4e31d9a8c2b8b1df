/** Looks through a workspace for repositories that would make git run something, changed since a
 *  moment: a nested repository, or a folder that looks like one, with such keys in its
 *  configuration, with hooks, or pointing to another configuration. Only finds; what is found is
 *  renamed by a sandbox (the paths are the tool's to play with). */
import { closeSync, constants, lstatSync, openSync, readdirSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { findActiveKey } from '../guarded.ts';

export interface GitFinding {
  /** Relative to the workspace. */
  readonly path: string;
  readonly reason: string;
}

const FOLDERS_MAX = 20_000;
const FINDINGS_MAX = 100;
const CONFIG_BYTES_MAX = 64 * 1024;
/** So many folders are read between two turns of the event loop. */
const BATCH = 100;
/** In a repository: git's own data, which holds no other repository. */
const DATA: ReadonlySet<string> = new Set(['objects', 'refs', 'logs']);

/** @param sinceMs  wall time; what has not changed since is not looked at.
 *  @returns what was found; `isWhole` false: there are more folders than are looked at. */
export async function scanGit(
  workspace: string,
  sinceMs: number,
): Promise<{ readonly findings: readonly GitFinding[]; readonly isWhole: boolean }> {
  const findings: GitFinding[] = [];
  const folders = [''];
  for (let count = 0; count < FOLDERS_MAX && findings.length < FINDINGS_MAX; count += 1) {
    const folder = folders.pop();
    if (folder === undefined) break;
    if (count % BATCH === BATCH - 1) await nextLoopTurn();
    const entries = listEntries(join(workspace, folder));
    const names = new Set(entries.map(({ name }) => name));
    // What git takes for a repository.
    const isRepository = names.has('HEAD') && (names.has('objects') || names.has('commondir'));
    for (const entry of entries) {
      const isData = isRepository && DATA.has(entry.name);
      if (entry.isDirectory() && !isData) folders.push(join(folder, entry.name));
    }
    if (isRepository) findings.push(...judge(workspace, folder, sinceMs));
  }
  return { findings, isWhole: folders.length === 0 };
}

function judge(workspace: string, folder: string, sinceMs: number): GitFinding[] {
  const isWorktree = /(^|\/)worktrees\/[^/]+$/.test(folder);
  const fresh = (name: string): string[] =>
    isFresh(join(workspace, folder, name), sinceMs) ? [join(folder, name)] : [];
  const configs = [...fresh('config'), ...fresh('config.worktree')].flatMap((path) => {
    const key = findActiveKey(readSmall(join(workspace, path)));
    return key === undefined ? [] : [{ path, reason: `it sets ${key}` }];
  });
  const moved = isWorktree ? [] : fresh('commondir');
  const hooks = listEntries(join(workspace, folder, 'hooks'))
    .filter(({ name }) => !name.endsWith('.sample'))
    .flatMap(({ name }) => fresh(`hooks/${name}`));
  return [
    ...configs,
    ...moved.map((path) => ({ path, reason: 'it points to another configuration' })),
    ...hooks.map((path) => ({ path, reason: 'it is a hook' })),
  ];
}

function isFresh(path: string, sinceMs: number): boolean {
  try {
    const stat = lstatSync(path, { throwIfNoEntry: false });
    return stat !== undefined && stat.ctimeMs >= sinceMs;
  } catch {
    // Behind a folder that we may not pass.
    return false;
  }
}

function listEntries(path: string) {
  try {
    return readdirSync(path, { withFileTypes: true });
  } catch {
    // Gone, or closed to us.
    return [];
  }
}

/** What is too long, or cannot be read, is no plain configuration. */
function readSmall(path: string): string {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return '(unreadable)';
  }
  try {
    const bytes = Buffer.alloc(CONFIG_BYTES_MAX + 1);
    const count = readSync(fd, bytes, 0, bytes.length, 0);
    return count > CONFIG_BYTES_MAX ? '(too long)' : bytes.toString('utf8', 0, count);
  } catch {
    return '(unreadable)';
  } finally {
    closeSync(fd);
  }
}

function nextLoopTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
