/** Starts a real sandbox host, with a temporary place of its own, and speaks to
 *  it as a supervisor does. `close` leaves nothing behind. */
import { chmodSync, chownSync, mkdirSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type LogRecord, readAppendLog } from '../../base/append-log.ts';
import { realClock } from '../../base/clock.ts';
import {
  type ProcessExit,
  type RunningProcess,
  spawnQuick,
  startProcess,
} from '../../base/process.ts';
import { removeTree } from '../../base/remove-tree.ts';
import { type Connection, createConnection } from '../../protocol/connection.ts';
import type { ToolOutcome } from '../../protocol/content.ts';
import { type Fingerprints, noFingerprints } from '../../protocol/fingerprints.ts';
import { effectIdSchema, sessionIdSchema } from '../../protocol/ids.ts';
import { type NetworkRequest, noNetwork } from '../../protocol/network.ts';
import type { ProcessEnd, ProcessStart } from '../../protocol/processes.ts';
import {
  type SandboxPolicy,
  type SandboxReport,
  sandboxAsks,
  sandboxNotifications,
  sandboxReports,
  sandboxRequests,
  type ToolOutput,
} from '../../protocol/sandbox-methods.ts';
import { createStreamTransport } from '../../protocol/transport.ts';
import { findProgram } from '../../sandbox/launch/survey.ts';
import { programs } from '../programs.ts';

export const isRoot = process.getuid?.() === 0;
export const hasBubblewrap = findProgram('bwrap') !== undefined;

/** To start a real host may take so long on a loaded machine; then the test itself has begun. */
const INITIALIZE_MS_MAX = 60_000;
/** Longer than any call that a test makes; no statement of how long one takes. */
const CALL_MS_MAX = 150_000;

const remote = { requests: sandboxRequests, notifications: sandboxNotifications };

export interface HostOptions {
  readonly policy?: Partial<SandboxPolicy>;
  /** Runs the host as this user (root only). */
  readonly uid?: number;
  readonly env?: Readonly<Record<string, string>>;
  /** A file that is open, under 40, in whoever starts the host. */
  readonly open?: string;
  /** What the vault holds, as far as this host may have it. */
  readonly secrets?: Readonly<Record<string, string>>;
  readonly fingerprints?: Fingerprints;
  /** Hears of a background process before it may run. */
  readonly onRegister?: (start: ProcessStart) => Promise<void> | void;
}

export type ProcessNews =
  | { readonly kind: 'started'; readonly call: string }
  | { readonly kind: 'exited'; readonly call: string; readonly end: ProcessEnd };

export interface TestHost {
  readonly process: RunningProcess;
  readonly connection: Connection<typeof remote>;
  readonly exited: Promise<ProcessExit>;
  readonly base: string;
  readonly workspace: string;
  readonly artifactDir: string;
  readonly outputs: ToolOutput[];
  readonly requests: NetworkRequest[];
  /** What it said of background processes. */
  readonly processes: ProcessNews[];
  readonly stderr: () => string;
  spoolPath(effect: string): string;
  readSpool(effect: string): readonly LogRecord[];
  initialize(): Promise<SandboxReport>;
  run(tool: string, args: unknown, effect?: string): Promise<ToolOutcome>;
  shell(command: string, effect?: string): Promise<ToolOutcome>;
  cancel(effect: string): Promise<void>;
  close(): Promise<void>;
}

/** The workspace stands below a folder of mode 0700, as in a root's home. */
export async function startTestHost(options: HostOptions = {}): Promise<TestHost> {
  const { base, workspace, artifactDir } = createPlace(options.uid);
  const child = await startChild(options);
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString('utf8');
  });
  const outputs: ToolOutput[] = [];
  const requests: NetworkRequest[] = [];
  const processes: ProcessNews[] = [];
  const connection = createConnection({
    transport: createStreamTransport(child.stdout, child.stdin),
    clock: realClock,
    peer: 'the sandbox host',
    local: { requests: sandboxAsks, notifications: sandboxReports },
    remote,
    requests: {
      'process/register': async (start) => {
        await options.onRegister?.(start);
        processes.push({ kind: 'started', call: start.call_id });
        return {};
      },
      'secret/read': async ({ name }) => {
        const value = options.secrets?.[name];
        if (value === undefined)
          return { kind: 'refused' as const, reason: `there is no secret ${name}` };
        return { kind: 'value' as const, value };
      },
    },
    notifications: {
      'sandbox/ready': () => undefined,
      'tool/output': (output) => void outputs.push(output),
      'network/request': (request) => void requests.push(request),
      'process/exited': ({ call_id: call, ...end }) => {
        processes.push({ kind: 'exited', call, end });
      },
    },
  });
  let count = 0;
  const policy: SandboxPolicy = { ...defaultPolicy(workspace), ...options.policy };
  const spoolPath = (effect: string): string => join(base, 'spool', `${effect}.log`);
  const host: TestHost = {
    process: child,
    connection,
    exited: child.exited,
    base,
    workspace,
    artifactDir,
    outputs,
    requests,
    processes,
    stderr: () => stderr,
    spoolPath,
    readSpool: (effect) => readAppendLog(spoolPath(effect)).records,
    initialize: () =>
      connection.request(
        'sandbox/initialize',
        {
          sessionId: sessionIdSchema.parse('s_0123456789abcdef'),
          ...{ policy, artifactDir, fingerprints: options.fingerprints ?? noFingerprints },
        },
        { timeoutMs: INITIALIZE_MS_MAX },
      ),
    run(tool, args, asked) {
      count += 1;
      const effect = asked ?? `1.1.${count}`;
      const params = {
        effect: effectIdSchema.parse(effect),
        tool,
        arguments: args,
        spoolPath: spoolPath(effect),
      };
      return connection.request('tool/run', params, { timeoutMs: CALL_MS_MAX });
    },
    shell: (command, effect) => host.run('shell', { command }, effect),
    cancel: (effect) => connection.notify('tool/cancel', { effect: effectIdSchema.parse(effect) }),
    async close() {
      connection.close();
      await Promise.race([child.exited, realClock.sleep(3000)]);
      child.kill('SIGKILL');
      await child.exited;
      removeTree(base);
    },
  };
  return host;
}

function createPlace(uid: number | undefined) {
  const base = mkdtempSync(join(tmpdir(), 'prx-sandbox-test-'));
  const workspace = join(base, 'private', 'workspace');
  mkdirSync(workspace, { recursive: true });
  chmodSync(join(base, 'private'), 0o700);
  if (uid !== undefined) {
    for (const path of [base, join(base, 'private'), workspace]) chownSync(path, uid, uid);
  }
  return { base, workspace, artifactDir: join(base, 'artifacts') };
}

function startChild(options: HostOptions): Promise<RunningProcess> {
  const { uid, open } = options;
  const host = [process.execPath, programs.sandbox];
  const [command = '', ...args] =
    open === undefined ? host : ['/bin/bash', '-c', 'exec 40<"$0"; exec "$@"', open, ...host];
  return startProcess({
    ...{ command, args },
    cwd: '/',
    env: { ...options.env },
    ownSession: true,
    ...(uid === undefined ? {} : { uid, gid: uid }),
  });
}

function defaultPolicy(workspace: string): SandboxPolicy {
  return {
    backend: 'bubblewrap',
    workspace,
    readOnlyPaths: [],
    writablePaths: [],
    hiddenPaths: [],
    protectedPaths: [],
    envAllowlist: [],
    env: {},
    timeoutMs: 120_000,
    memoryLimitBytes: 0,
    cpuMs: 0,
    diskBytes: 0,
    filesMax: 0,
    maxPids: 256,
    backgroundMax: 4,
    backgroundTimeoutMs: 60_000,
    maxOutputBytes: 65_536,
    tmpBytes: 64 * 1024 * 1024,
    network: noNetwork,
  };
}

/** Runs a command line with an empty environment to its end; its standard output. */
export async function startProgram([command = '', ...args]: readonly string[]): Promise<string> {
  const stdio = ['ignore', 'pipe', 'inherit'] as const;
  const own = { command, args, env: {}, ownSession: false, stdio: [...stdio] };
  const { child, exited } = await spawnQuick(own);
  let text = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    text += chunk.toString('utf8');
  });
  await exited;
  return text;
}
