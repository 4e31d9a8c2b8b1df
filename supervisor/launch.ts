/** How our children are started: commands as data, built by pure functions. A child gets exactly
 *  the environment it needs: the key reaches the gateway only, and nothing reaches a worker. */
import { join } from 'node:path';
import type { ProcessSpec } from '../base/process.ts';
import type { ChildSpec } from './children/child.ts';
import type { Environment } from './config.ts';
import type { WorkerLauncher } from './settings.ts';

/** Where the programs of this installation are. */
export interface Programs {
  readonly node: string;
  readonly worker: string;
  readonly gateway: string;
  readonly sandbox: string;
  readonly mcp: string;
  /** What a worker must be able to read: its bundle, or the source tree. */
  readonly workerReadable: readonly string[];
  /** Running from the source tree, not from bundles. */
  readonly isSource: boolean;
  /** The store's thread programs (bundles only). */
  readonly threads: { readonly writer: string; readonly reader: string };
  /** The installation's root folder: read-only wherever a workspace holds it. */
  readonly root: string;
}

/** Program paths next to the running supervisor: bundled (dist/*.js) or from source (*.ts). */
export function findPrograms(supervisorFile: string, node: string): Programs {
  const isSource = supervisorFile.endsWith('.ts');
  const here = join(supervisorFile, '..');
  const root = join(here, '..');
  const program = (name: string): string =>
    isSource ? join(root, name, 'main.ts') : join(here, `${name}.js`);
  return {
    node,
    worker: program('worker'),
    gateway: program('gateway'),
    sandbox: program('sandbox'),
    mcp: isSource ? join(root, 'sandbox', 'mcp-main.ts') : join(here, 'mcp.js'),
    workerReadable: isSource ? [`${root}/`] : [program('worker')],
    isSource,
    threads: { writer: join(here, 'writer.js'), reader: join(here, 'reader.js') },
    root,
  };
}

/** No start-up cost, 8 MB less after work, 3 threads instead of 7 (measured, docs/benchmarks).
 *  Collecting 2 MB takes less time than waking another thread for it. */
const LEAN_FLAGS = [
  ...['--max-semi-space-size=2', '--no-parallel-scavenge', '--v8-pool-size=1'],
  '--disable-sigusr1',
];

/** A worker: no network, no writes, no children, no keys (Node's permission model), and a heap
 *  ceiling below the memory limit. `launcher` puts it into namespaces of its own where the machine
 *  has them. */
export function toWorkerSpec(
  programs: Programs,
  memoryLimitBytes: number,
  launcher: WorkerLauncher | undefined,
): ChildSpec {
  const heapMb = Math.max(32, Math.floor((memoryLimitBytes * 0.75) / 2 ** 20));
  const args = [
    ...LEAN_FLAGS,
    `--max-old-space-size=${heapMb}`,
    '--permission',
    ...programs.workerReadable.map((path) => `--allow-fs-read=${path}`),
    programs.worker,
    ...(launcher === undefined ? [] : [`--confinement=${launcher.confinement.join(',')}`]),
  ];
  const [command = programs.node, ...rest] = [...(launcher?.prefix ?? []), programs.node, ...args];
  return {
    kind: 'worker',
    process: { command, args: rest, cwd: '/', env: {}, ownSession: true },
    readyTimeoutMs: 10_000,
    stopGraceMs: 200,
  };
}

/** The monitor lies beside the other bundles, or with its source. It ends with its pipe, and a
 *  signal to our terminal does not reach it. */
export function toMonitorSpec({ node, root, gateway, isSource }: Programs): ProcessSpec {
  const program = isSource
    ? join(root, 'supervisor', 'children', 'monitor-main.ts')
    : join(gateway, '..', 'monitor.js');
  return { command: node, args: [...LEAN_FLAGS, program], cwd: '/', env: {}, ownSession: true };
}

/** What else a provider connection may need: certificates, proxies, the account's parts. */
const PROVIDER_ENV = [
  'SSL_CERT_FILE',
  'NODE_EXTRA_CA_CERTS',
  'HTTPS_PROXY',
  'HTTP_PROXY',
  'NO_PROXY',
  'OPENAI_ORG_ID',
  'OPENAI_PROJECT_ID',
];

/** The gateway: the only process with the key. */
export function toGatewaySpec(programs: Programs, apiKeyEnv: string, env: Environment): ChildSpec {
  const passed = [apiKeyEnv, ...PROVIDER_ENV];
  const own: Record<string, string> = {};
  for (const name of passed) {
    const value = env[name];
    if (value !== undefined && value !== '') own[name] = value;
  }
  // The runtime heeds the proxy variables only where it is told to.
  if (own['HTTPS_PROXY'] !== undefined || own['HTTP_PROXY'] !== undefined) {
    own['NODE_USE_ENV_PROXY'] = '1';
  }
  return {
    kind: 'gateway',
    process: {
      command: programs.node,
      args: [...LEAN_FLAGS, programs.gateway],
      cwd: '/',
      env: own,
      ownSession: true,
    },
    readyTimeoutMs: 10_000,
    stopGraceMs: 1000,
  };
}

/** A sandbox host: trusted, one per session that uses tools. */
export function toHostSpec(programs: Programs, env: Environment): ChildSpec {
  return toTrustedSpec('sandbox', programs, env);
}

/** A listing or a result is a few dozen MB at most; a heap that holds more was attacked. */
const MCP_HEAP_FLAG = '--max-old-space-size=256';

/** An MCP host: trusted, one per configured server. */
export function toMcpHostSpec(programs: Programs, env: Environment): ChildSpec {
  return toTrustedSpec('mcp', programs, env);
}

function toTrustedSpec(kind: 'sandbox' | 'mcp', programs: Programs, env: Environment): ChildSpec {
  return {
    kind,
    process: {
      command: programs.node,
      args: [...LEAN_FLAGS, ...(kind === 'mcp' ? [MCP_HEAP_FLAG] : []), programs[kind]],
      cwd: '/',
      env: { PATH: env['PATH'] ?? '/usr/bin:/bin' },
      ownSession: true,
    },
    readyTimeoutMs: 15_000,
    stopGraceMs: 1000,
  };
}
