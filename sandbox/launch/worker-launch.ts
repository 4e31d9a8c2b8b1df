/** How a worker is started in namespaces of its own: no network, no other process to signal, a root
 *  built from nothing with only the runtime and its own program in it. The supervisor starts the
 *  command this gives it; it knows nothing of what is in it. Pure. */
import { dirname } from 'node:path';
import type { SystemEntry } from './arguments.ts';
import { type Identity, TOOL_GID, TOOL_UID } from './identity.ts';
import { canStage, STAGE, toPreludeCommand } from './prelude.ts';

export interface WorkerLaunch {
  /** What stands before the runtime's own command line. */
  readonly prefix: readonly string[];
  /** What it gives, strongest first. */
  readonly confinement: readonly string[];
}

export interface WorkerLaunchInput {
  readonly bwrap: string;
  /** Absent: root cannot stage what its user could not reach, so it gets no launcher. */
  readonly perl: string | undefined;
  readonly arch: string;
  readonly ownUid: number;
  readonly system: readonly SystemEntry[];
  /** Files and folders the worker reads: the runtime, its program. Full paths. */
  readonly readable: readonly string[];
}

const STAGE_BYTES = 1024 * 1024;

/** Undefined: this machine has no way to do it. */
export function toWorkerLaunch(input: WorkerLaunchInput): WorkerLaunch | undefined {
  const { bwrap, perl, arch, ownUid, readable } = input;
  const drops = ownUid === 0;
  const confinement = ['net-namespace', 'pid-namespace', 'mount-namespace'];
  const sources = readable.map((path, index) => (drops ? `${STAGE}/worker-${index}` : path));
  const inside = [bwrap, ...toArguments(input, sources), '--'];
  if (!drops) return { prefix: inside, confinement };
  if (perl === undefined || !canStage(arch)) return undefined;
  const identity: Identity = { uid: TOOL_UID, gid: TOOL_GID, drops };
  const items = readable.map((source, index) => ({
    kind: 'map-read-only' as const,
    source,
    name: `worker-${index}`,
  }));
  const command = { perl, arch, identity, stageBytes: STAGE_BYTES, items, command: inside };
  return { prefix: toPreludeCommand(command), confinement: [...confinement, 'own-uid'] };
}

function toArguments(
  { system, readable }: WorkerLaunchInput,
  sources: readonly string[],
): string[] {
  // The runtime's libraries; nothing of /etc: it needs none of it.
  const roots = system.filter((entry) => !entry.path.startsWith('/etc'));
  return [
    ...['--unshare-user', '--unshare-pid', '--unshare-net', '--unshare-ipc', '--unshare-uts'],
    ...['--unshare-cgroup', '--die-with-parent', '--new-session', '--cap-drop', 'ALL'],
    ...roots.flatMap((entry) =>
      entry.kind === 'link'
        ? ['--symlink', entry.target, entry.path]
        : ['--ro-bind-try', entry.path, entry.path],
    ),
    ...['--proc', '/proc', '--dev', '/dev'],
    ...readable.flatMap((path, index) => [
      ...['--dir', dirname(path)],
      ...['--ro-bind', sources[index] ?? path, path],
    ]),
    ...['--remount-ro', '/dev', '--remount-ro', '/proc', '--remount-ro', '/', '--disable-userns'],
    ...['--chdir', '/'],
  ];
}
