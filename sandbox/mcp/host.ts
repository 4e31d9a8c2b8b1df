/** The MCP host: serves the supervisor, owns one MCP server. The supervisor's end: nothing new is
 *  taken, what runs comes to its end, is spooled, and the server goes with the host. The server's
 *  end: what ran is indeterminate, the supervisor hears why, and the host goes with the server. */
import { assert } from '../../base/assert.ts';
import type { Clock } from '../../base/clock.ts';
import { PrxError, toPrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { createConnection, type Transport } from '../../protocol/connection.ts';
import {
  type McpReach,
  type McpSecrets,
  mcpAsks,
  mcpNotifications,
  mcpReports,
  mcpRequests,
} from '../../protocol/mcp-methods.ts';
import type { OrphanFace } from '../../protocol/orphan-door.ts';
import type { SandboxPolicy } from '../../protocol/sandbox-methods.ts';
import type { Backend } from '../launch/backend.ts';
import { quote } from '../launch/quote.ts';
import { type Breach, toTreeLimits, watchTree } from '../watch.ts';
import { createMcpCalls, type McpCalls } from './calls.ts';
import { createHttpTransport } from './http.ts';
import { connectServer, type McpServer } from './server.ts';
import { createStdioTransport } from './stdio.ts';

export interface McpHostSpec {
  readonly transport: Transport;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly pid: number;
  readonly createBackend: (policy: SandboxPolicy, scratchDir: string) => Promise<Backend>;
}

export interface McpHost {
  /** Resolves when everything has ended and was given back. */
  readonly ended: Promise<void>;
  /** Cancels what runs and ends. Idempotent. */
  stop(): void;
  readonly face: OrphanFace;
}

interface Room {
  readonly server: McpServer;
  readonly calls: McpCalls;
  readonly backend: Backend | undefined;
}

const SECRETS_TIMEOUT_MS = 5000;

const HUNG = 'it answered neither a call within its limit nor a ping';

const NOT_CONFINED = 'This MCP server is reached by its URL: nothing here confines what it does.';

export function serveMcpHost(spec: McpHostSpec): McpHost {
  const { transport, clock, logger } = spec;
  let room: Room | undefined;
  let isBegun = false;
  let isClosing = false;

  const connection = createConnection({
    transport,
    clock,
    peer: 'the supervisor',
    local: { requests: mcpRequests, notifications: mcpNotifications },
    remote: { requests: mcpAsks, notifications: mcpReports },
    requests: {
      async 'mcp/initialize'(params) {
        if (isBegun) throw new PrxError('INVALID_REQUEST', 'an MCP host is initialized once');
        isBegun = true;
        const { server: name, reach, timeoutMs, maxOutputBytes, artifactsDir } = params;
        const opened = await openReach(reach, { artifactsDir, timeoutMs });
        const { level, notice } = opened;
        const server = await connectServer({
          ...{ name, clock, logger, transport: opened.transport, ended: opened.ended },
          onHung: opened.onHung,
          era: reach.kind === 'url' ? 'auto' : 'legacy',
          onChanged: (listing) => void connection.notify('mcp/tools', listing),
        }).catch(async (error: unknown) => {
          await opened.backend?.close();
          throw error;
        });
        const limits = { timeoutMs, maxOutputBytes, artifactsDir };
        const calls = createMcpCalls({
          ...{ server, level, notice, clock, logger, isOrphaned },
          ...limits,
        });
        room = { server, calls, backend: opened.backend };
        if (isClosing) await endRoom(room);
        else void server.ended.then(endByServer);
        const said = notice === undefined ? {} : { notice };
        return { ...server.listing(), level, ...said };
      },
      'mcp/check': async ({ tool, arguments: value }) => {
        const problem = getRoom().server.findProblem(tool, value);
        return problem === undefined ? {} : { problem };
      },
      'mcp/call': async (params) => getRoom().calls.run({ ...params, arguments: params.arguments }),
      'mcp/ping': async () => ({ running: room?.calls.running().length ?? 0 }),
    },
    notifications: {
      'mcp/cancel': ({ session, effect }) => room?.calls.cancel(session, effect),
    },
  });

  function getRoom(): Room {
    if (isClosing) throw new PrxError('SHUTTING_DOWN', 'the MCP host is ending');
    if (room !== undefined) return room;
    throw new PrxError('MCP_UNAVAILABLE', 'mcp/initialize did not succeed');
  }

  function isOrphaned(): boolean {
    return isClosing || !connection.isOpen();
  }

  /** Alone, there is nobody who may give one. */
  async function readSecrets(): Promise<McpSecrets> {
    const options = { timeoutMs: SECRETS_TIMEOUT_MS };
    return await connection.request('mcp/secrets', {}, options).catch((error: unknown) => {
      const reason = `its secrets could not be read: ${toPrxError(error).message}`;
      return { kind: 'refused' as const, reason };
    });
  }

  async function openReach(
    reach: McpReach,
    { artifactsDir, timeoutMs }: { readonly artifactsDir: string; readonly timeoutMs: number },
  ) {
    if (reach.kind === 'url') {
      const http = createHttpTransport({ reach, clock, timeoutMs, readSecrets });
      const ended = new Promise<string>(() => undefined);
      const notice = NOT_CONFINED;
      return {
        transport: http,
        ended,
        backend: undefined,
        level: 'none',
        notice,
        onHung: undefined,
      };
    }
    const backend = await spec.createBackend(reach.policy, artifactsDir);
    const script = `exec ${reach.command.map(quote).join(' ')}\n`;
    const process = await backend.startServer(script).catch(async (error: unknown) => {
      await backend.close();
      throw error;
    });
    const stdio = createStdioTransport(process);
    const watch = watchTree({
      ...{ clock, tree: process.tree, limits: toTreeLimits(reach.policy, backend.temporaryFolder) },
      onBreach: () => stdio.end(toTooMuch(watch.finish().breach)),
    });
    void process.exited.then(watch.finish);
    const { level, notice } = backend;
    const onHung = (): void => stdio.end(HUNG);
    return { transport: stdio, ended: stdio.ended, backend, level, notice, onHung };
  }

  async function endByServer(reason: string): Promise<void> {
    if (isClosing) return;
    isClosing = true;
    logger.warn('mcp.server_ended', { reason });
    // At once: whoever hears the end of a call may ask for the next one.
    await connection.notify('mcp/ending', { reason });
    await room?.calls.settled();
    connection.close();
  }

  async function end(): Promise<void> {
    const reason = await connection.closed;
    isClosing = true;
    if (reason.kind === 'protocol') logger.error('mcp.protocol', { error: reason.error });
    await room?.calls.settled();
    if (room !== undefined) await endRoom(room);
  }

  void connection.notify('mcp/ready', { pid: spec.pid });
  return {
    ended: end(),
    stop() {
      isClosing = true;
      room?.calls.cancelAll();
      connection.close();
    },
    face: {
      isOrphaned,
      running: () => room?.calls.running() ?? [],
      cancel: (session, effect) => room?.calls.cancel(session, effect),
    },
  };
}

/** For whoever configured the server: one call of it may be innocent. */
function toTooMuch(breach: Breach | undefined): string {
  assert(breach !== undefined, 'a limit that was exceeded has a name');
  const { value, max, limit } = breach;
  const used = `it and all it started used ${value} MiB of memory together`;
  return `${used}; the limit is ${max} MiB (${limit} of the server, else of security.sandbox)`;
}

async function endRoom({ server, backend }: Room): Promise<void> {
  await server.close();
  await backend?.close();
}
