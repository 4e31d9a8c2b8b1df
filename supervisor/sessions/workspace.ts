/** Which folder may be a workspace. Tools get write access to it, so the machine's own places are
 *  refused by name: /, a home itself, /etc, /usr, the state dir, and every ancestor of these. */
import { mkdirSync, realpathSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, sep } from 'node:path';
import { PrxError, systemCode } from '../../base/errors.ts';
import type { SessionId } from '../../protocol/ids.ts';

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
/** Whole trees that are never the user's to work in; below /var and /run there may be workspaces. */
const SYSTEM_TREES = ['/etc', '/usr', '/bin', '/sbin', '/lib', '/boot', '/dev', '/proc', '/sys'];

/** The real path of a usable workspace. Throws WORKSPACE_REFUSED with the rule and the mend. */
export function checkWorkspace(asked: string, rules: WorkspaceRules): string {
  if (!asked.startsWith('/')) throw refused(asked, 'the path must be absolute');
  let real: string;
  try {
    real = realpathSync(asked);
    if (!statSync(real).isDirectory()) throw refused(asked, 'it is not a folder');
  } catch (error) {
    const code = systemCode(error);
    if (code === undefined) throw error;
    const what =
      code === 'ENOENT' ? 'it does not exist; create it first' : `it cannot be read (${code})`;
    throw refused(asked, what);
  }
  const reason = findReason(real, rules);
  if (reason !== undefined) throw refused(asked, reason);
  return real;
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

/** The private workspace of a session: made by us, removed with it. */
export function createPrivateWorkspace(stateDir: string, session: SessionId): string {
  const path = privateWorkspacePath(stateDir, session);
  mkdirSync(path, { recursive: true, mode: 0o700 });
  return path;
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
