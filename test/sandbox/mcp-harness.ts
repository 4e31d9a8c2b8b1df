/** Starts a real MCP host from its sources, with a server of one behaviour behind it, and speaks to
 *  it as a supervisor does. `close` leaves nothing behind. */
import { chownSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { readAppendLog } from '../../base/append-log.ts';
import { realClock } from '../../base/clock.ts';
import { startProcess } from '../../base/process.ts';
import { createConnection } from '../../protocol/connection.ts';
import type { ToolOutcome } from '../../protocol/content.ts';
import type { Fingerprints } from '../../protocol/fingerprints.ts';
import { effectIdSchema, type SessionId } from '../../protocol/ids.ts';
import {
  type McpListing,
  type McpReach,
  type McpSecrets,
  mcpAsks,
  mcpNotifications,
  mcpReports,
  mcpRequests,
} from '../../protocol/mcp-methods.ts';
import { noNetwork } from '../../protocol/network.ts';
import type { SandboxPolicy } from '../../protocol/sandbox-methods.ts';
import { createStreamTransport } from '../../protocol/transport.ts';
import { programs } from '../programs.ts';

export const serverPath = new URL('../integration/fixtures/mcp-server.mjs', import.meta.url)
  .pathname;
const remote = { requests: mcpRequests, notifications: mcpNotifications };

export const session = 's_0123456789abcdef' as SessionId;

export interface HostOptions {
  readonly uid?: number;
  readonly timeoutMs?: number;
  readonly maxOutputBytes?: number;
  readonly policy?: Partial<SandboxPolicy>;
  readonly reach?: McpReach;
  readonly fingerprints?: Fingerprints;
  readonly readSecrets?: () => McpSecrets;
}

export type McpTestHost = Awaited<ReturnType<typeof startMcpHost>>;

/** @param behaviour see the fixture. */
export async function startMcpHost(behaviour: string, options: HostOptions = {}) {
  const { uid, timeoutMs = 60_000, maxOutputBytes = 65_536, fingerprints } = options;
  const base = mkdtempSync(join(tmpdir(), 'prx-mcp-test-'));
  if (uid !== undefined) chownSync(base, uid, uid);
  const child = await startProcess({
    command: process.execPath,
    args: [programs.mcp],
    cwd: '/',
    env: {},
    ownSession: true,
    ...(uid === undefined ? {} : { uid, gid: uid }),
  });
  child.stderr.resume();
  const changed = Promise.withResolvers<McpListing>();
  const ending = Promise.withResolvers<string>();
  const connection = createConnection({
    transport: createStreamTransport(child.stdout, child.stdin),
    clock: realClock,
    peer: 'the MCP host',
    local: { requests: mcpAsks, notifications: mcpReports },
    remote,
    requests: {
      'mcp/secrets': async () =>
        options.readSecrets?.() ?? { kind: 'refused' as const, reason: 'there is no vault' },
    },
    notifications: {
      'mcp/ready': () => undefined,
      'mcp/tools': (listing) => changed.resolve(listing),
      'mcp/ending': ({ reason }) => ending.resolve(reason),
    },
  });
  let count = 0;
  const spoolPath = (effect: string): string => join(base, 'spool', `${effect}.log`);
  const reach = options.reach ?? toReach(behaviour, options.policy);
  const host = {
    process: child,
    connection,
    base,
    /** Resolves at the first change of the list. */
    changed: changed.promise,
    ending: ending.promise,
    readSpool: (effect: string) => readAppendLog(spoolPath(effect)).records,
    initialize: () =>
      connection.request(
        'mcp/initialize',
        { server: 'srv', reach, timeoutMs, maxOutputBytes, artifactsDir: join(base, 'artifacts') },
        { timeoutMs: 120_000 },
      ),
    check: (tool: string, value: unknown) =>
      connection.request(
        'mcp/check',
        { tool: `mcp__srv__${tool}`, arguments: value },
        { timeoutMs: 60_000 },
      ),
    call(tool: string, args: unknown = {}, of: SessionId = session): Promise<ToolOutcome> {
      count += 1;
      const effect = effectIdSchema.parse(`1.1.${count}`);
      const name = `mcp__srv__${tool}`;
      const spool = spoolPath(`${of === session ? '' : `${of}-`}${effect}`);
      const params = { session: of, effect, tool: name, arguments: args, spoolPath: spool };
      const prints = fingerprints === undefined ? {} : { fingerprints };
      return connection.request('mcp/call', { ...params, ...prints }, { timeoutMs: 120_000 });
    },
    cancel: (effect: string) =>
      connection.notify('mcp/cancel', { session, effect: effectIdSchema.parse(effect) }),
    async close() {
      connection.close();
      await Promise.race([child.exited, realClock.sleep(3000)]);
      child.kill('SIGKILL');
      await child.exited;
      rmSync(base, { recursive: true, force: true });
    },
  };
  return host;
}

function toReach(behaviour: string, policy: Partial<SandboxPolicy> = {}): McpReach {
  return {
    kind: 'stdio',
    command: [process.execPath, serverPath, behaviour],
    policy: {
      backend: 'bubblewrap',
      workspace: '',
      readOnlyPaths: [dirname(process.execPath), dirname(serverPath)],
      writablePaths: [],
      hiddenPaths: [],
      protectedPaths: [],
      envAllowlist: ['TOKEN'],
      env: { TOKEN: 'for the server' },
      timeoutMs: 60_000,
      memoryLimitBytes: 0,
      cpuMs: 0,
      diskBytes: 0,
      filesMax: 0,
      maxPids: 256,
      backgroundMax: 0,
      backgroundTimeoutMs: 0,
      maxOutputBytes: 65_536,
      tmpBytes: 64 * 1024 * 1024,
      network: noNetwork,
      ...policy,
    },
  };
}
