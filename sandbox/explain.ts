/** `prx sandbox explain`: what a command would have here, found out by building the sandbox: the
 *  level and why it is no stronger, who it runs as, what it sees, what bounds it. */
import { existsSync, readFileSync } from 'node:fs';
import { errorTable, toPrxError } from '../base/errors.ts';
import type { NetworkPolicy } from '../protocol/network.ts';
import { toPolicyDigest } from '../protocol/policy-digest.ts';
import { isConfining } from '../protocol/sandbox-levels.ts';
import type { SandboxPolicy } from '../protocol/sandbox-methods.ts';
import {
  HOME_BYTES,
  type PathFact,
  SANDBOX_HOME,
  SHM_BYTES,
  type View,
} from './launch/arguments.ts';
import type { Backend, Level } from './launch/backend.ts';
import { toFilter } from './launch/seccomp.ts';
import { absentCalls, inspectedCalls, refusedCalls, unseenMemoryCalls } from './launch/syscalls.ts';
import { type Order, type OrderPorts, orderSchema, toOrderedPolicy } from './order.ts';

export interface ExplainPorts {
  /** The order, JSON. */
  readonly text: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly createBackend: (policy: SandboxPolicy) => Promise<Backend>;
  readonly probe: OrderPorts['probe'];
}

interface MountLine {
  readonly path: string;
  readonly access: 'write' | 'read-only' | 'pinned' | 'hidden' | 'memory';
  readonly bytes?: number;
}

interface Explanation {
  readonly level: string;
  /** Why it is not stronger, and the mend. */
  readonly reason?: string | undefined;
  readonly mend?: string | undefined;
  readonly policy: string;
  readonly uid?: number;
  readonly workspace: string;
  readonly workspace_access?: string;
  readonly notice?: string | undefined;
  readonly network: NetworkPolicy['mode'];
  /** What an allow-list lets through. */
  readonly allowed_domains?: readonly string[];
  readonly mounts: readonly MountLine[];
  readonly environment: readonly string[];
  readonly limits: Readonly<Record<string, number>>;
  readonly memory_kept_by?: string;
  readonly seccomp?: Readonly<Record<string, number>> | undefined;
  readonly machine: Readonly<Record<string, string>>;
}

/** Exit 1 when no command would run. */
export async function explainOrdered(
  ports: ExplainPorts,
): Promise<{ readonly text: string; readonly exit: number }> {
  const order = orderSchema.parse(JSON.parse(ports.text));
  const { explanation, exit } = await explain(order, ports);
  return { text: order.json ? JSON.stringify(explanation) : toLines(explanation), exit };
}

async function explain(order: Order, ports: ExplainPorts) {
  const common = {
    workspace: order.policy.workspace,
    policy: toPolicyDigest(order.policy),
    limits: toLimits(order.policy),
    machine: surveyMachine(),
  };
  try {
    const policy = await toOrderedPolicy(order, ports);
    const backend = await ports.createBackend(policy);
    const own = { ...common, policy: toPolicyDigest(policy) };
    const explanation = describe(backend, own, policy.network.allowedDomains);
    await backend.close();
    return { explanation, exit: 0 };
  } catch (error) {
    const { code, message, data } = toPrxError(error);
    const mend = typeof data['mend'] === 'string' ? data['mend'] : undefined;
    const reason = typeof data['reason'] === 'string' ? data['reason'] : message;
    const nothing = { network: 'none' as const, mounts: [], environment: [] };
    const explanation = { ...common, ...nothing, level: 'none (refused)', reason, mend };
    return { explanation, exit: errorTable[code].exit };
  }
}

type Common = Pick<Explanation, 'workspace' | 'policy' | 'limits' | 'machine'>;

function describe(backend: Backend, common: Common, domains: readonly string[]): Explanation {
  const view = backend.view();
  const isNone = view === undefined;
  return {
    ...common,
    level: backend.level,
    ...(backend.level === 'bubblewrap' ? {} : toShortfall(backend.level)),
    uid: backend.uid,
    workspace: backend.workspace,
    workspace_access: backend.workspaceAccess,
    notice: backend.notice,
    network: backend.network,
    ...(view?.network === 'allowlist' ? { allowed_domains: domains } : {}),
    mounts: isNone ? [] : toMounts(view),
    environment: isNone ? [] : Object.keys(view.env).sort(),
    memory_kept_by: backend.memoryKeeper,
    seccomp: isConfining(backend.level) ? countCalls() : undefined,
  };
}

const shortfalls: Readonly<Record<Exclude<Level, 'bubblewrap'>, string>> = {
  unshare:
    'bubblewrap is not asked for, or not to be had: the same mounts and filter, by our builder',
  landlock: 'no mounts of its own: what it may not open is there to be seen; see docs/sandbox.md',
  'limits-only': 'no isolation: limits, and nobody is left behind',
  none: 'security.sandbox.backend or --level says none: no isolation',
};

function toShortfall(level: Exclude<Level, 'bubblewrap'>) {
  return { reason: shortfalls[level], mend: 'level bubblewrap: backend = "auto", see doctor' };
}

function toMounts(view: View): MountLine[] {
  const lines = (facts: readonly PathFact[], access: MountLine['access']): MountLine[] =>
    facts.map(({ path }) => ({ path, access }));
  return [
    ...view.system.map(({ path }) => ({ path, access: 'read-only' as const })),
    { path: '/tmp', access: 'memory', bytes: view.tmpBytes },
    { path: '/dev/shm', access: 'memory', bytes: SHM_BYTES },
    { path: SANDBOX_HOME, access: 'memory', bytes: HOME_BYTES },
    ...view.runtime.map(({ target }) => ({ path: target, access: 'read-only' as const })),
    ...lines(view.readOnly, 'read-only'),
    ...lines(view.writable, 'write'),
    ...(view.workspaceAccess === 'none' ? [] : lines([view.workspace], view.workspaceAccess)),
    ...lines(view.pinned, 'pinned'),
    ...lines(view.protected, 'read-only'),
    ...lines(view.hidden, 'hidden'),
  ];
}

function toLimits(policy: SandboxPolicy): Record<string, number> {
  return {
    timeout_secs: policy.timeoutMs / 1000,
    memory_limit_mb: policy.memoryLimitBytes / 2 ** 20,
    max_cpu_secs: policy.cpuMs / 1000,
    max_pids: policy.maxPids,
    max_disk_mb: policy.diskBytes / 2 ** 20,
    max_files: policy.filesMax,
    max_output_bytes: policy.maxOutputBytes,
  };
}

function countCalls(): Explanation['seccomp'] {
  const program = toFilter({ arch: process.arch, refuseUnseenMemory: true });
  if (program === undefined) return undefined;
  return {
    instructions: program.length,
    refused: Object.keys(refusedCalls).length + Object.keys(unseenMemoryCalls).length,
    absent: Object.keys(absentCalls).length,
    inspected: Object.keys(inspectedCalls).length,
  };
}

/** What decides about levels, as the kernel says it; absent files are left out. */
function surveyMachine(): Record<string, string> {
  const files = {
    user_namespaces_max: '/proc/sys/user/max_user_namespaces',
    unprivileged_user_namespaces: '/proc/sys/kernel/unprivileged_userns_clone',
    apparmor_restricts_user_namespaces: '/proc/sys/kernel/apparmor_restrict_unprivileged_userns',
    security_modules: '/sys/kernel/security/lsm',
    seccomp_actions: '/proc/sys/kernel/seccomp/actions_avail',
  };
  return Object.fromEntries(
    Object.entries(files).flatMap(([name, path]) => {
      const text = existsSync(path) ? readText(path) : '';
      return text === '' ? [] : [[name, text]];
    }),
  );
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim().slice(0, 200);
  } catch {
    // Not for us to read.
    return '';
  }
}

function toLines(explanation: Explanation): string {
  const { level, reason, mend, mounts, limits, seccomp, machine } = explanation;
  const row = (name: string, value: unknown): string[] =>
    value === undefined || value === '' ? [] : [`${name}: ${value}`];
  const pairs = (values: Readonly<Record<string, unknown>>): string[] =>
    Object.entries(values).map(([name, value]) => `  ${name}: ${value}`);
  return [
    ...row('level', level),
    ...row('reason', reason),
    ...row('mend', mend),
    ...row('policy', explanation.policy),
    ...row('runs as uid', explanation.uid),
    ...row('workspace', `${explanation.workspace} (${explanation.workspace_access ?? 'nothing'})`),
    ...row('notice', explanation.notice),
    ...row('network', explanation.network),
    ...row('allowed domains', explanation.allowed_domains?.join(' ')),
    ...row('memory is kept by', explanation.memory_kept_by),
    ...row('environment', explanation.environment.join(' ')),
    'limits of one call (0: none):',
    ...pairs(limits),
    ...(mounts.length === 0 ? [] : ['what it sees (nothing else exists inside):']),
    ...mounts.map(({ path, access, bytes }) => {
      const size = bytes === undefined ? '' : `, ${Math.round(bytes / 2 ** 20)} MiB`;
      return `  ${access.padEnd(9)} ${path}${size}`;
    }),
    ...(seccomp === undefined ? [] : ['system calls:', ...pairs(seccomp)]),
    'this machine:',
    ...pairs(machine),
  ].join('\n');
}
