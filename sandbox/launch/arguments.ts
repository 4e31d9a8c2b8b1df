/** From policy to bubblewrap arguments, by pure functions: what a sandbox may see is data here and
 *  tested as data. The root is built up from nothing (an allow-list): what is not named does not
 *  exist inside. Paths keep their own names, so that a path in a tool's output means the same
 *  outside. Never: a bind of `/`, a value of the host's environment that was not allowed. */
import { sep } from 'node:path';
import { assert } from '../../base/assert.ts';
import type { NetworkPolicy } from '../../protocol/network.ts';
import type { StageItem } from './prelude.ts';

export type PathKind = 'folder' | 'file';

/** A path of the host that may be shown inside. */
export interface PathFact {
  /** The name it has inside: as the policy wrote it, normalised, absolute. */
  readonly path: string;
  /** Where the cell finds it: the real path, or its place on the stage. */
  readonly source: string;
  readonly kind: PathKind;
}

/** A name in the root folder of a merged-/usr system is a link, elsewhere a folder of its own. */
export type SystemEntry =
  | { readonly kind: 'link'; readonly path: string; readonly target: string }
  | { readonly kind: 'bind'; readonly path: string };

/** What stands in /run/prx: the host's own files, never the user's. */
export interface RuntimeMount {
  readonly source: string;
  readonly target: string;
}

export interface View {
  readonly workspace: PathFact;
  /** none: it is not shown, only its path is where things start. */
  readonly workspaceAccess: 'write' | 'read-only' | 'none';
  readonly readOnly: readonly PathFact[];
  readonly writable: readonly PathFact[];
  readonly hidden: readonly PathFact[];
  readonly protected: readonly PathFact[];
  /** Of the workspace: writable, but mounted, so that nobody can move it away. */
  readonly pinned: readonly PathFact[];
  readonly system: readonly SystemEntry[];
  /** What is to be seen of /etc, which is mounted as one. */
  readonly settings: readonly string[];
  readonly runtime: readonly RuntimeMount[];
  readonly env: Readonly<Record<string, string>>;
  readonly tmpBytes: number;
  readonly network: NetworkPolicy['mode'];
  /** Whether a system call filter lies ready for it. */
  readonly isFiltered: boolean;
}

/** Where bubblewrap finds its side channels; the spawner opens them under these numbers. */
const descriptors = { args: 3, block: 4, status: 5, seccomp: 6 } as const;

export const SANDBOX_HOME = '/home/agent';
export const RUNTIME_DIR = '/run/prx';
/** Where the script of a call stands; it exists in sandboxes only. */
export const SCRIPT_FOLDER = `${RUNTIME_DIR}/call`;
export const HOME_BYTES = 64 * 1024 * 1024;
export const SHM_BYTES = 64 * 1024 * 1024;
const MASK_BYTES = 4096;

interface Mount {
  readonly target: string;
  /** Among equal targets the higher rank is mounted later and wins. */
  readonly rank: number;
  readonly args: readonly string[];
  /** Emitted after every mount: what must stay writable until all mount points exist. */
  readonly seal?: readonly string[];
}

/** All arguments up to the command, without the program's name. Pure. */
export function toSandboxArguments(view: View, options: { readonly isHeld: boolean }): string[] {
  assert(view.workspace.path.startsWith('/'), 'a workspace path is absolute');
  assert(view.tmpBytes > 0, 'a sandbox has room in /tmp');
  const mounts = orderMounts(planMounts(view));
  return [
    // The network is the cell's: only its loopback, or with network = "full" the machine's.
    ...['--unshare-user', '--unshare-ipc', '--unshare-pid'],
    ...['--unshare-uts', '--unshare-cgroup', '--hostname', 'sandbox'],
    ...baseMounts(view),
    ...mounts.flatMap((mount) => mount.args),
    ...mounts.flatMap((mount) => mount.seal ?? []),
    ...['--remount-ro', '/dev', '--remount-ro', '/proc', '--remount-ro', '/'],
    ...['--chdir', view.workspace.path, '--clearenv'],
    ...Object.entries(view.env).flatMap(([name, value]) => ['--setenv', name, value]),
    ...['--new-session', '--die-with-parent', '--cap-drop', 'ALL', '--disable-userns'],
    ...(view.isFiltered ? ['--seccomp', String(descriptors.seccomp)] : []),
    ...['--json-status-fd', String(descriptors.status)],
    ...(options.isHeld ? ['--block-fd', String(descriptors.block)] : []),
  ];
}

/** The system, read-only, and the places every sandbox has anew. */
function baseMounts(view: View): string[] {
  return [
    ...mountSystem(view.system),
    // The devices of the cell as one mount: each of them alone is a walk of the table of mounts.
    ...['--proc', '/proc', '--dev-bind', '/dev', '/dev'],
    ...['--perms', '1777', '--size', String(SHM_BYTES), '--tmpfs', '/dev/shm'],
    ...['--perms', '1777', '--size', String(view.tmpBytes), '--tmpfs', '/tmp'],
    ...['--size', String(HOME_BYTES), '--tmpfs', SANDBOX_HOME],
    ...view.runtime.flatMap(({ source, target }) => ['--ro-bind', source, target]),
  ];
}

/** Of these places, those that stay in memory: a workspace may be the machine's /tmp, and what lies
 *  there is on its disk and is not the call's. Pure. */
export function listMemoryFolders(view: View): string[] {
  const { workspace, workspaceAccess, readOnly, writable } = view;
  const shown = [...readOnly, ...writable, ...(workspaceAccess === 'none' ? [] : [workspace])];
  return ['/tmp', '/dev/shm', SANDBOX_HOME].filter(
    (folder) => !shown.some(({ path }) => isInside(folder, path)),
  );
}

function mountSystem(system: readonly SystemEntry[]): string[] {
  return system.flatMap((entry) =>
    entry.kind === 'link'
      ? ['--symlink', entry.target, entry.path]
      : ['--ro-bind-try', entry.path, entry.path],
  );
}

function planMounts(view: View): Mount[] {
  const shown: Mount[] = [
    ...view.readOnly.map((fact) => bind('--ro-bind-try', fact, 1)),
    ...view.writable.map((fact) => bind('--bind-try', fact, 2)),
    ...(view.workspaceAccess === 'none' ? [] : [bindWorkspace(view)]),
  ];
  const visible = [
    ...shown.map((mount) => mount.target),
    ...systemRoots(view.system),
    ...view.settings,
  ];
  const covers = view.hidden
    .filter((fact) => visible.some((root) => isInside(fact.path, root)))
    .filter((fact) => fact.path !== view.workspace.path)
    .map(cover);
  const guards = view.protected
    .filter((fact) => isInside(fact.path, view.workspace.path))
    .filter((fact) => fact.path !== view.workspace.path)
    .map((fact) => bind('--ro-bind-try', fact, 4));
  const pins = view.pinned.map((fact) => bind('--bind-try', fact, 4));
  const isWritable = view.workspaceAccess === 'write';
  return [...shown, ...(isWritable ? pins : []), ...guards, ...covers];
}

function bindWorkspace({ workspace, workspaceAccess }: View): Mount {
  return bind(workspaceAccess === 'write' ? '--bind' : '--ro-bind', workspace, 3);
}

/** Parents before children, so that the deeper rule wins. */
function orderMounts(mounts: readonly Mount[]): Mount[] {
  return [...mounts].sort((a, b) => depth(a.target) - depth(b.target) || a.rank - b.rank);
}

function bind(option: string, fact: PathFact, rank: number): Mount {
  return { target: fact.path, rank, args: [option, fact.source, fact.path] };
}

/** An empty read-only folder, or a file that cannot be opened, in place of what is hidden. */
function cover(fact: PathFact): Mount {
  const { path, kind } = fact;
  if (kind === 'file') return { target: path, rank: 5, args: ['--ro-bind', '/dev/null', path] };
  return {
    target: path,
    rank: 5,
    args: ['--perms', '0555', '--size', String(MASK_BYTES), '--tmpfs', path],
    seal: ['--remount-ro', path],
  };
}

function systemRoots(system: readonly SystemEntry[]): string[] {
  return system.filter((entry) => entry.kind === 'bind').map((entry) => entry.path);
}

/** True for the folder itself and everything below it. Pure; both are absolute and normalised. */
export function isInside(path: string, folder: string): boolean {
  return path === folder || folder === sep || path.startsWith(`${folder}${sep}`);
}

function depth(path: string): number {
  return path === sep ? 0 : path.split(sep).length;
}

/** The first of `hidden` that holds `path`, which then may not be shown. A listed path that is an
 *  ancestor of something hidden stays; the hidden part of it is covered. */
export function findHider(path: string, hidden: readonly string[]): string | undefined {
  return hidden.find((folder) => isInside(path, folder));
}

export interface EnvironmentInput {
  readonly allowlist: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** The whole environment of a tool: fixed names, then what the allow-list lets through. HOME and
 *  TMPDIR are the sandbox's own whatever is listed, because the host's do not exist inside. */
export function toEnvironment(input: EnvironmentInput): Record<string, string> {
  const allowed = Object.fromEntries(
    Object.entries(input.env).filter(
      ([name, value]) => input.allowlist.includes(name) && !value.includes('\0'),
    ),
  );
  return {
    LANG: 'C.UTF-8',
    TERM: 'dumb',
    USER: 'agent',
    LOGNAME: 'agent',
    // By which git commits where neither a repository nor a variable names somebody.
    EMAIL: 'agent@sandbox.invalid',
    ...allowed,
    HOME: SANDBOX_HOME,
    TMPDIR: '/tmp',
    PATH: `${allowed.PATH ?? DEFAULT_PATH}:${RUNTIME_DIR}/bin`,
  };
}

export interface Rlimits {
  readonly processes: number;
  readonly fileBytes: number;
  readonly openFiles: number;
  /** Private writable memory of one process; 0: no limit of ours. */
  readonly dataBytes: number;
}

/** The lines of a shell that set the limits, hard and soft, or end it with 126: in a sandbox that
 *  is the shell of the script itself, because a call waits for each program that is started. The
 *  limit of processes is `-u` for bash and `-p` for dash and busybox. */
export function toLimitScript(limits: Rlimits): string {
  const { processes, fileBytes, openFiles, dataBytes } = limits;
  const steps = [
    ...['ulimit -c 0', `ulimit -f ${Math.floor(fileBytes / 512)}`, `ulimit -n ${openFiles}`],
    ...(dataBytes > 0 ? [`ulimit -d ${Math.floor(dataBytes / 1024)}`] : []),
    ...(processes > 0 ? [`{ ulimit -u ${processes} 2>/dev/null || ulimit -p ${processes}; }`] : []),
  ];
  return `${steps.join(' && ')} || exit 126`;
}

/** The command prefix that sets the limits. */
export function toLimitCommand(limits: Rlimits): string[] {
  return ['/bin/sh', '-c', `${toLimitScript(limits)}; exec "$@"`, 'sh'];
}

/** The outer pid namespace of a session: no policy of its own, only a common death. Its root holds
 *  the system, the stage and nothing else, because bubblewrap reads the whole table of mounts once
 *  for each mount of a sandbox. */
export function toCellArguments(options: {
  readonly stage: string;
  /** True: the stage is there already. */
  readonly staged: boolean;
  /** Makes the command line of this cell unlike any other. */
  readonly mark: string;
  readonly network: NetworkPolicy['mode'];
  readonly system: readonly SystemEntry[];
  /** Mounted on the stage. */
  readonly items: readonly StageItem[];
}): string[] {
  const { stage, staged, mark, network, system, items } = options;
  const folders = stageFolders.flatMap((name) => ['--dir', `${stage}/${name}`]);
  const mounts = items.flatMap(({ kind, source, name }) => [
    ...[kind === 'write' ? '--bind-try' : '--ro-bind-try', source, `${stage}/${name}`],
  ]);
  return [
    // No --die-with-parent and no --json-status-fd: our death, or the broken pipe after it, would
    // kill bubblewrap in the middle of its two processes' handshake, and the second then waits for
    // ever (issue 633). The spawner's pipe ties the cell to us instead.
    ...['--unshare-user', '--unshare-pid', '--unshare-ipc', '--new-session'],
    // One loopback for the session, on which its proxy and its background processes listen.
    ...(network === 'full' ? [] : ['--unshare-net']),
    // The builders' own first mount is on /tmp; their loader finds its cache in /etc.
    ...mountSystem(system),
    ...['--symlink', `${stage.slice(1)}/etc`, '/etc', '--dir', '/tmp'],
    ...['--proc', '/proc', '--dev', '/dev'],
    // A staged cell was given its stage by the prelude, before the user was dropped.
    ...(staged
      ? ['--bind', stage, stage]
      : ['--size', String(STAGE_BYTES), '--tmpfs', stage, ...folders, ...mounts]),
    ...['--remount-ro', '/'],
    // The spawner itself is the first process: its end, at the end of our pipe, is everyone's.
    ...['--as-pid-1', '--setenv', 'PRX_CELL', mark],
  ];
}

/** Folders on the stage: command slots, the lines of /etc, unborn pipes. */
const stageFolders = ['slots', 'etc', 'pipes'] as const;
export const STAGE_BYTES = 16 * 1024 * 1024;

/** Where /etc/passwd and its like come from: two lines of our own, never the host's accounts. */
export function toAccountFiles(uid: number, gid: number): Readonly<Record<string, string>> {
  assert(Number.isSafeInteger(uid) && uid >= 0, 'a uid is a whole number');
  return {
    passwd: `agent:x:${uid}:${gid}:agent:${SANDBOX_HOME}:/bin/sh\nnobody:x:65534:65534:::\n`,
    group: `agent:x:${gid}:\nnogroup:x:65534:\n`,
    hosts: '127.0.0.1 localhost sandbox\n::1 localhost\n',
  };
}
