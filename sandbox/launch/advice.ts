/** What a failed sandbox start means and what to do about it. The texts on the left are what
 *  bubblewrap, the prelude and the kernel say; a person gets the right-hand side. */

export interface Advice {
  readonly reason: string;
  readonly mend: string;
}

const rows: readonly (readonly [RegExp, string])[] = [
  [
    /RTM_NEWADDR|uid map: Permission denied/,
    'this system restricts user namespaces by AppArmor (Ubuntu 23.10 and later): install the ' +
      "profile of the distribution's own bubblewrap (apt-get install -y apparmor-profiles, then " +
      'reload), or as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0',
  ],
  [
    /No permissions to creat/,
    'user namespaces are switched off: in a container start it with ' +
      '--security-opt seccomp=unconfined, on a host as root: ' +
      'sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=15000',
  ],
  [
    /uid map: Operation not permitted/,
    'root here lacks CAP_SETFCAP: start the supervisor as an ordinary user, or give the ' +
      'container that capability',
  ],
  [
    /mount proc|Can't mount proc/i,
    'the /proc of this container is masked: start it with --security-opt systempaths=unconfined',
  ],
  [
    /ENOSPC|No space left|nesting depth/,
    'user namespaces cannot be nested here: this seems to be a sandbox already, or ' +
      'user.max_user_namespaces is used up (sysctl user.max_user_namespaces)',
  ],
  [
    /fail (unshare|private|stage)/,
    'root here lacks CAP_SYS_ADMIN, so it cannot prepare the workspace: start the supervisor as ' +
      'an ordinary user that owns the workspace',
  ],
  [
    /Can't chdir to .*Permission denied/,
    'the workspace is closed to the user that tools run as: chmod u+rwx the folder, or chown it',
  ],
  [/EMFILE|ENFILE|Too many open files/, 'raise the limit of open files (ulimit -n)'],
  [/EAGAIN|Resource temporarily/, 'raise the limit of processes (ulimit -u)'],
];

/** Maps what was printed to its mend. Pure. */
export function toAdvice(said: string): Advice {
  const reason = said.trim().split('\n').slice(-3).join('; ').slice(0, 400) || 'it said nothing';
  const mend = rows.find(([pattern]) => pattern.test(said))?.[1];
  return {
    reason,
    mend: mend ?? 'run bwrap by hand to see more: bwrap --unshare-all --ro-bind / / true',
  };
}

/** The first package manager that is present names the command. */
const managers = [
  ['apt-get', 'apt-get install -y bubblewrap'],
  ['dnf', 'dnf install -y bubblewrap'],
  ['apk', 'apk add bubblewrap'],
  ['pacman', 'pacman -S --noconfirm bubblewrap'],
  ['zypper', 'zypper install -y bubblewrap'],
] as const;

export function toMissingAdvice(has: (program: string) => boolean): Advice {
  const command = managers.find(([name]) => has(name))?.[1];
  return {
    reason: 'bubblewrap (bwrap) is not installed',
    mend: command === undefined ? 'install the package bubblewrap' : `as root: ${command}`,
  };
}

/** Said with every result of a workspace whose owner could not be mapped. Pure. */
export function toReadOnlyNotice(workspace: string, reason: string): string {
  return (
    `The workspace ${workspace} is read-only for tools: it belongs to root, tools never run as ` +
    `root, and this system cannot map its owner (${reason}). Mend: give the folder to an ` +
    'ordinary user (chown), or run the supervisor as the user who owns it.'
  );
}

/** The same for a workspace that is itself protected: what we run from. Pure. */
export function toOwnNotice(workspace: string): string {
  return (
    `The workspace ${workspace} is read-only for tools: prx-supervisor itself runs from there. ` +
    'Mend: work in a folder outside of it, or on a copy.'
  );
}

/** The same for a workspace that belongs to somebody else than the supervisor's user. Pure. */
export function toForeignNotice(workspace: string, uid: number): string {
  return (
    `The workspace ${workspace} is read-only for tools: they run as the supervisor's user (uid ` +
    `${uid}), which may not write there. Mend: chown or chmod the folder for that user.`
  );
}
