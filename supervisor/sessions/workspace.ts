/** Which folder may be a workspace. Tools get write access to it, so the machine's own places are
 *  refused by name: /, a home itself, /etc, /usr, the state dir, and every ancestor of these. */
import { constants, realpathSync, type Stats, statSync } from 'node:fs';
import { cp, lstat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, sep } from 'node:path';
import { PrxError, systemCode } from '../../base/errors.ts';
import { makeFolder } from '../../base/make-folder.ts';
import { removeTree } from '../../base/remove-tree.ts';
import type { SessionId } from '../../protocol/ids.ts';
import type { SessionRecord } from '../../store/contract.ts';
import { unusable } from '../../store/state-dir.ts';

export interface WorkspaceRules {
  readonly stateDir: string;
  /** Not empty: a workspace must lie inside one of these. */
  readonly roots: readonly string[];
  /** Homes that may not be a workspace themselves. */
  readonly homes: readonly string[];
}

const SYSTEM_DIRS = [
  '/etc',
  '/usr',
  '/bin',
  '/sbin',
  '/lib',
  '/boot',
  '/dev',
  '/proc',
  '/sys',
  '/run',
  '/var',
];
/** Whole trees that are never the user's to work in. Below /var and /run workspaces may lie. */
const SYSTEM_TREES = ['/etc', '/usr', '/bin', '/sbin', '/lib', '/boot', '/dev', '/proc', '/sys'];

/** The real path of a usable workspace. Throws WORKSPACE_REFUSED with the rule and the mend. */
export function checkWorkspace(asked: string, rules: WorkspaceRules): string {
  if (!asked.startsWith('/')) throw refused(asked, 'the path must be absolute');
  let real: string;
  let isFolder: boolean;
  try {
    real = realpathSync(asked);
    isFolder = statSync(real).isDirectory();
  } catch (error) {
    const code = systemCode(error);
    if (code === undefined) throw error;
    const what =
      code === 'ENOENT' ? 'it does not exist; create it first' : `it cannot be read (${code})`;
    throw refused(asked, what);
  }
  if (!isFolder) throw refused(asked, 'it is not a folder');
  const reason = findReason(real, {
    ...rules,
    stateDir: toReal(rules.stateDir),
    roots: rules.roots.map(toReal),
  });
  if (reason !== undefined) throw refused(asked, reason);
  return real;
}

/** A link in the rules must not hide what they name. */
function toReal(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    // It does not exist (yet): then nothing lies in it.
    return path;
  }
}

/** Why a real path may not be a workspace, or undefined. Pure. */
export function findReason(real: string, rules: WorkspaceRules): string | undefined {
  if (real === '/') return 'it is the root of the file system';
  for (const home of rules.homes) {
    if (real === home) return `it is a home itself (${home}); use a folder inside it`;
    if (isInside(home, real)) return `it holds the home ${home}`;
  }
  if (real === '/root' || real === '/home' || /^\/home\/[^/]+$/.test(real)) {
    return 'it is a home itself; use a folder inside it';
  }
  for (const dir of SYSTEM_DIRS) if (real === dir) return `${dir} belongs to the system`;
  for (const dir of SYSTEM_TREES)
    if (isInside(real, dir)) return `it lies in ${dir}, which belongs to the system`;
  if (real === rules.stateDir || isInside(real, rules.stateDir)) {
    return `it lies in the state directory ${rules.stateDir}`;
  }
  if (isInside(rules.stateDir, real)) return `it holds the state directory ${rules.stateDir}`;
  const inRoots = rules.roots.some((root) => real === root || isInside(real, root));
  if (rules.roots.length > 0 && !inRoots) {
    return `it lies outside security.sandbox.workspace_roots (${rules.roots.join(', ')})`;
  }
  return undefined;
}

/** The private workspace of a session: made by us, removed with it. Throws STATE_DIR_UNUSABLE. */
export function createPrivateWorkspace(stateDir: string, session: SessionId): string {
  const path = privateWorkspacePath(stateDir, session);
  try {
    makeFolder(path);
    return path;
  } catch (cause) {
    throw unusable(dirname(path), cause);
  }
}

/** Where a session works. A private workspace is where the state directory is now, also after that
 *  was moved or restored from a backup elsewhere. */
export function workspaceOf(
  stateDir: string,
  record: Pick<SessionRecord, 'id' | 'workspace' | 'private_workspace'>,
): string {
  return record.private_workspace ? privateWorkspacePath(stateDir, record.id) : record.workspace;
}

/** A fork's own private workspace: a copy of the original's as it is now, sharing blocks where the
 *  file system can, with times, modes and links as they are; what is no file, folder or link (a
 *  socket, a pipe) is left out. Throws LIMIT_EXCEEDED when it does not fit; then nothing
 *  is left. */
export async function copyPrivateWorkspace(
  stateDir: string,
  from: SessionId,
  to: SessionId,
): Promise<string> {
  const path = createPrivateWorkspace(stateDir, to);
  try {
    await cp(privateWorkspacePath(stateDir, from), path, {
      recursive: true,
      preserveTimestamps: true,
      verbatimSymlinks: true,
      mode: constants.COPYFILE_FICLONE,
      filter: async (source) => isCopied(await lstat(source)),
    });
    return path;
  } catch (cause) {
    removeTree(path);
    const reason = systemCode(cause) ?? String(cause);
    const message = `the private workspace of ${from} could not be copied (${reason}); not forked`;
    throw new PrxError('LIMIT_EXCEEDED', message, { data: { session: from, reason }, cause });
  }
}

function isCopied(stats: Stats): boolean {
  return stats.isFile() || stats.isDirectory() || stats.isSymbolicLink();
}

export function privateWorkspacePath(stateDir: string, session: SessionId): string {
  return join(stateDir, 'workspaces', session);
}

/** Homes of this machine's people as far as they concern us: the caller's own. */
export function listHomes(): readonly string[] {
  try {
    return [realpathSync(homedir())];
  } catch {
    // No home at all (a bare service user): nothing to protect.
    return [];
  }
}

function isInside(path: string, dir: string): boolean {
  return path.startsWith(dir === sep ? sep : `${dir}${sep}`);
}

function refused(asked: string, reason: string): PrxError {
  const message = `${asked} may not be a workspace: ${reason}`;
  return new PrxError('WORKSPACE_REFUSED', message, { data: { workspace: asked } });
}
