/** Who the tools are on the host. Never root: root inside a user namespace is still root to files
 *  and to /proc/sys, whatever it is called there (measured: it can write core_pattern). */
import { assert } from '../../base/assert.ts';

/** The unprivileged user for workspaces that root owns. Above what distributions assign to people
 *  (60000), below the dynamic users of systemd (61184); no account of this name need exist. */
export const TOOL_UID = 60800;
export const TOOL_GID = 60800;

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

export interface Identity {
  readonly uid: number;
  readonly gid: number;
  /** True: the host is root, drops to `uid`, and stages what the user could not reach. */
  readonly drops: boolean;
}

/** Decides the tools' user: the supervisor's when that is not root, else the workspace owner's,
 *  else the dedicated one. Pure. */
export function decideIdentity(host: Owner, workspaceOwner: Owner): Identity {
  if (host.uid !== 0) return { ...host, drops: false };
  const uid = workspaceOwner.uid === 0 ? TOOL_UID : workspaceOwner.uid;
  // Group root reads more than its name says, so it is never kept.
  const gid = workspaceOwner.uid === 0 || workspaceOwner.gid === 0 ? TOOL_GID : workspaceOwner.gid;
  assert(uid !== 0 && gid !== 0, 'tools never run as root');
  return { uid, gid, drops: true };
}

/** How a path is shown to a user that is not its owner: `map` makes root's files the tool's own
 *  (an idmapped mount; the disk does not change), the others leave owners as they are. */
export type StageKind = 'map' | 'map-read-only' | 'write' | 'read-only';

/** Root's own files are mapped where the tools shall write, and where they are ours to run; what
 *  is only to be read keeps its owner, so that root's secrets stay unreadable. Pure. */
export function decideStageKind(
  ownerUid: number,
  access: 'write' | 'read-only' | 'resolver' | 'tool' | 'file-host' | 'custom',
): StageKind {
  if (access === 'read-only' || access === 'resolver') return 'read-only';
  if (access !== 'write') return 'map-read-only';
  return ownerUid === 0 ? 'map' : 'write';
}
