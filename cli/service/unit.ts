/** The systemd unit as text, each choice with its reason: the file is read by people long after it
 *  was written. Pure. Nothing in it changes with the version of this program, so that an upgrade
 *  alone is no reason to install it again. */
import { PrxError } from '../../base/errors.ts';

export type Scope = 'user' | 'system';

export const UNIT_NAME = 'prx-supervisor.service';

/** The first systemd with DelegateSubgroup=; older ones warn of a key they do not know. */
const SUBGROUP_VERSION = 254;

export interface UnitOptions {
  readonly scope: Scope;
  /** How this program is started, up to its command. */
  readonly program: readonly string[];
  /** Absolute; absent: the program finds its own. */
  readonly config?: string | undefined;
  readonly stateDir?: string | undefined;
  /** Who it runs as (system units). */
  readonly runAs?: string | undefined;
  /** Of the systemd that reads the unit; absent: not known. */
  readonly version?: number | undefined;
}

/** @throws INVALID_REQUEST for a path that cannot be written into a unit. */
export function renderUnit(options: UnitOptions): string {
  const sections = [
    head(options),
    unitSection(options),
    serviceSection(options),
    startLines(options),
    stopLines,
    confinementLines(options),
    leftOut,
    `[Install]\nWantedBy=${options.scope === 'user' ? 'default' : 'multi-user'}.target`,
  ];
  return `${sections.join('\n\n')}\n`;
}

const edit = (scope: Scope): string => (scope === 'user' ? 'systemctl --user' : 'systemctl');

function head({ scope }: UnitOptions): string {
  return `# Written by: prx-supervisor service install --${scope}
# Changes of your own belong into a drop-in, which survives the next installation:
#   ${edit(scope)} edit ${UNIT_NAME}`;
}

function unitSection({ scope }: UnitOptions): string {
  const network = `
# Model providers are asked over the network.
Wants=network-online.target
After=network-online.target`;
  return `[Unit]
Description=prx-supervisor, hosting for LLM agents
# What made a start fail may pass (a full disk, a missing mount): one try a second for as long as
# it takes. What no repetition mends is named in RestartPreventExitStatus.
StartLimitIntervalSec=0${scope === 'system' ? network : ''}`;
}

function serviceSection(options: UnitOptions): string {
  const lines = [
    `[Service]
# Started means: the journal is open, what an earlier supervisor left is resumed, the doors answer.
Type=notify
# That is said by systemd-notify, a child: the runtime itself cannot send datagrams, and systemd
# would not believe a child otherwise. No other child of ours is given the socket's address.
NotifyAccess=all`,
  ];
  if (options.runAs !== undefined) {
    lines.push(`# The only one who can talk to it over its socket, and the owner of what agents write.
User=${options.runAs}`);
  }
  const stateName = toStateName(options);
  if (stateName !== undefined) {
    lines.push(`# Made before the start, for this user alone: journal, spool, artifacts, socket, token.
StateDirectory=${stateName}
StateDirectoryMode=0700`);
  }
  const places = [
    ...(options.config === undefined ? [] : [`PRX_CONFIG=${options.config}`]),
    ...(options.stateDir === undefined ? [] : [`PRX_STATE_DIR=${options.stateDir}`]),
  ];
  if (places.length > 0) {
    lines.push(`# Both commands below find the same supervisor by these.
${places.map((place) => `Environment=${quoteWord(place)}`).join('\n')}`);
  }
  lines.push(`# Keys of providers: lines such as OPENAI_API_KEY=…, readable for the owner alone (mode 0600).
# Of all children only the gateway gets them.
EnvironmentFile=-%E/prx-supervisor/environment
# Whatever is made is for the owner alone.
UMask=0077`);
  return lines.join('\n');
}

/** A directory below /var/lib is systemd's to make; any other is yours. */
function toStateName({ scope, stateDir }: UnitOptions): string | undefined {
  if (scope === 'user') return undefined;
  return /^\/var\/lib\/([A-Za-z0-9_.-]+)$/.exec(stateDir ?? '')?.[1];
}

function startLines({ program }: UnitOptions): string {
  // The program itself is not looked through for variables.
  const words = program
    .map((word, at) => (at === 0 ? quoteWord(word) : quoteArgument(word)))
    .join(' ');
  return `ExecStart=${words} start
# As SIGHUP, but it tells how it went: a bad configuration fails the reload, the last good one stays.
ExecReload=${words} reload
# A start after an unclean end reads the unfinished sessions first.
TimeoutStartSec=120
# Crash-only: there is one way to start, and it resumes. So start again, whatever the end was;
# also after \`prx-supervisor stop\`: to stop it, tell systemd.
Restart=always
RestartSec=1
# 75: another supervisor holds the state directory. 78: the configuration is not valid.
RestartPreventExitStatus=75 78
# It answers SIGTERM and SIGINT with 0. A wrapper in ExecStart that reports the signal as a shell
# does has not failed either.
SuccessExitStatus=130 143
# Every 30 s the supervisor says that its event loop turns and that the journal's writer answered.
# Silence for a minute: a hang, or a journal that only a new start can mend.
WatchdogSec=60
# A killed supervisor loses nothing, and a core dump would hold what sessions said.
WatchdogSignal=SIGKILL
LimitCORE=0`;
}

const stopLines = `# Stop and restart end the supervisor alone. Workers leave by themselves when it is gone. A model
# call or a tool call under way is finished by its own process, within its deadline, and the next
# supervisor finds the outcome: so an upgrade in mid-turn loses nothing. Until then systemd shows
# such processes as left over, and a start logs them as found; both are meant.
KillMode=process
# Nothing is waited for but the journal; this is a bound, not a duration.
TimeoutStopSec=30
# A tool that the kernel kills for its memory is one failed call, not a reason to stop the service.
OOMPolicy=continue`;

function confinementLines({ version, scope }: UnitOptions): string {
  const user = `
# (A user's systemd hands on only what it was given itself, as a rule memory and pids.)`;
  const subgroup =
    version !== undefined && version >= SUBGROUP_VERSION
      ? `# A group with limits for its parts must not hold processes itself: the supervisor starts in a
# leaf. systemd 254 and later.
DelegateSubgroup=supervisor`
      : `# A group with limits for its parts must not hold processes itself. systemd 254 and later can
# start the supervisor in a leaf; older ones only warn of this key:
#DelegateSubgroup=supervisor`;
  return `# The cgroup below this unit is ours to divide among sessions; systemd does not move what is in it.${
    scope === 'user' ? user : ''
  }
Delegate=yes
${subgroup}`;
}

const leftOut = `# Left out on purpose: each tool call is confined by a sandbox of its own, which needs what these
# would take away.
# - RestrictNamespaces, PrivateUsers: sandboxes are made of user namespaces.
# - SystemCallFilter, RestrictAddressFamilies: mount, unshare, pivot_root, seccomp, netlink.
# - ProtectProc, ProtectKernelTunables, ProtectKernelLogs, ProtectControlGroups, PrivateDevices:
#   where parts of /proc are covered, the kernel allows no sandbox a /proc of its own.
# - NoNewPrivileges, and LockPersonality and RestrictSUIDSGID, which imply it: each sandbox sets it
#   for itself; here it would disarm a setuid bubblewrap.
# - MemoryDenyWriteExecute: V8 compiles to memory.
# - PrivateTmp: it is deleted at a stop, under calls that are still running.
# - ProtectHome, ProtectSystem=strict: workspaces are where you keep them. What of them a tool sees
#   is the sandbox's decision.
# Limits for everything together (MemoryMax=, CPUQuota=, TasksMax=) are yours: in a drop-in.`;

/** One word of a unit, as systemd reads it back; a % would begin a specifier. */
export function quoteWord(word: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is refused
  if (/[\u0000-\u001f\u007f]/.test(word)) {
    const message = `${JSON.stringify(word)} has a control character: it cannot stand in a unit`;
    throw new PrxError('INVALID_REQUEST', message);
  }
  const escaped = word.replaceAll('%', '%%');
  if (/^[\w@%+=:,./-]+$/.test(escaped)) return escaped;
  return `"${escaped.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
}

/** One word of a command: there a $ begins a variable. */
function quoteArgument(word: string): string {
  return quoteWord(word).replaceAll('$', '$$$$');
}
