/** The host's side of the file tools: one sandboxed file host per session, started at the first
 *  use, ended when idle, started again after a death. Paths are resolved by the kernel in there. */
import { resolve } from 'node:path';
import { background } from '../../base/background.ts';
import type { Clock } from '../../base/clock.ts';
import { isPrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { type Connection, createConnection } from '../../protocol/connection.ts';
import { listPatchPaths } from '../../protocol/patch.ts';
import { hasOwnRoot } from '../../protocol/sandbox-levels.ts';
import { applyPatchArgumentsSchema, writeFileArgumentsSchema } from '../../protocol/tools.ts';
import { createStreamTransport } from '../../protocol/transport.ts';
import { type FileToolName, fileHostReports, fileRequests } from '../inside/methods.ts';
import type { Backend, FileHostProcess } from '../launch/backend.ts';
import { type ToolResult, toFailure } from '../outcome.ts';

export interface FileCall {
  readonly tool: FileToolName;
  readonly arguments: unknown;
  readonly limits: { readonly timeoutMs: number; readonly maxOutputBytes: number };
  readonly signal: AbortSignal;
}

export interface FileTools {
  /** Throws SANDBOX_UNAVAILABLE; every other end is a result. */
  run(call: FileCall): Promise<ToolResult>;
  close(): void;
}

export interface FileToolsSpec {
  readonly backend: Backend;
  readonly workspace: string;
  readonly writablePaths: readonly string[];
  readonly clock: Clock;
  readonly logger: Logger;
}

const remoteSide = { requests: fileRequests, notifications: {} };
const localSide = { requests: {}, notifications: fileHostReports };
type FileConnection = Connection<typeof remoteSide>;

interface FileHost {
  readonly connection: FileConnection;
  readonly process: FileHostProcess;
}

/** A file host holds about 40 MB; an agent that thinks for longer starts it anew in 60 ms. */
const IDLE_MS = 300_000;
const STDERR_CHARS_MAX = 4000;
const NOTE =
  'Commands do not see it: each has a /tmp of its own. Write what they need into the workspace.';

export function createFileTools(spec: FileToolsSpec): FileTools {
  const { backend, workspace, writablePaths, clock, logger } = spec;
  let host: Promise<FileHost> | undefined;
  let running = 0;
  let lastUsedMs = 0;

  async function start(): Promise<FileHost> {
    const started = await startFileHost(backend, clock);
    background(watch(started), 'file_host.watch', logger);
    return started;
  }

  async function watch(started: FileHost): Promise<void> {
    let said = '';
    started.process.stderr.on('data', (chunk: Buffer) => {
      said = (said + chunk.toString('utf8')).slice(-STDERR_CHARS_MAX);
    });
    const reason = await started.connection.closed;
    host = undefined;
    started.process.kill();
    if (reason.kind !== 'closed') logger.warn('file_host.ended', { reason: reason.kind, said });
  }

  function stopWhenIdle(): void {
    clock.setTimer(IDLE_MS, () => {
      const idle = running === 0 && clock.nowMs() - lastUsedMs >= IDLE_MS;
      if (idle) close();
    });
  }

  function close(): void {
    const ending = host;
    host = undefined;
    if (ending === undefined) return;
    background(
      ending.then((started) => {
        started.connection.close();
        started.process.kill();
      }),
      'file_host.close',
      logger,
    );
  }

  return {
    async run(call) {
      const folders = [workspace, ...writablePaths];
      const own = hasOwnRoot(backend.level) ? findPrivate(call, folders) : undefined;
      // What a patch moved there would be lost.
      if (own !== undefined && call.tool === 'apply_patch') {
        const why = `${own} lies outside of the workspace`;
        return toFailure(`nothing was changed: ${why}, where no command sees it`);
      }
      running += 1;
      try {
        host ??= start();
        const started = await host.catch((error: unknown) => {
          host = undefined;
          throw error;
        });
        const result = await ask(started, call, workspace);
        if (own === undefined || result.status !== 'ok') return result;
        return { ...result, output: `${result.output} ${NOTE}` };
      } finally {
        running -= 1;
        lastUsedMs = clock.nowMs();
        stopWhenIdle();
      }
    },
    close,
  };
}

/** The first path that a call writes where the file host alone sees it: its own /tmp, or home. */
function findPrivate({ tool, arguments: args }: FileCall, folders: readonly string[]) {
  const [workspace = ''] = folders;
  const isPrivate = (path: string): boolean =>
    !folders.some((folder) => `${resolve(workspace, path)}/`.startsWith(`${folder}/`));
  if (tool === 'apply_patch') {
    return listPatchPaths(applyPatchArgumentsSchema.parse(args).patch).find(isPrivate);
  }
  return tool === 'write_file'
    ? [writeFileArgumentsSchema.parse(args).path].find(isPrivate)
    : undefined;
}

async function startFileHost(backend: Backend, clock: Clock): Promise<FileHost> {
  const child = await backend.startFileHost();
  const connection = createConnection({
    transport: createStreamTransport(child.stdout, child.stdin),
    clock,
    peer: 'the file host',
    local: localSide,
    remote: remoteSide,
    requests: {},
    notifications: { 'file/ready': () => undefined },
  });
  return { connection, process: child };
}

async function ask(host: FileHost, call: FileCall, workspace: string): Promise<ToolResult> {
  const { timeoutMs, maxOutputBytes } = call.limits;
  const params = { tool: call.tool, arguments: call.arguments, workspace, maxOutputBytes };
  try {
    const options = { timeoutMs, signal: call.signal };
    return await host.connection.request('file/run', params, options);
  } catch (error) {
    // What it was doing cannot be called back, so it is ended with what it was doing.
    if (isPrxError(error, 'CANCELLED') || isPrxError(error, 'DEADLINE_EXCEEDED')) {
      host.connection.close();
      host.process.kill();
    }
    return toFileFailure(error, call);
  }
}

function toFileFailure(error: unknown, call: FileCall): ToolResult {
  if (isPrxError(error, 'CANCELLED')) return toFailure('The call was cancelled.', 'cancelled');
  if (isPrxError(error, 'DEADLINE_EXCEEDED')) {
    const seconds = call.limits.timeoutMs / 1000;
    return toFailure(`${call.tool} did not end within ${seconds} s and was killed.`, 'timeout');
  }
  if (isPrxError(error, 'PEER_CLOSED')) {
    const message =
      `The file host ended during ${call.tool}: whether it was done is not known. ` +
      'Read the file before trying again.';
    return toFailure(message, 'indeterminate');
  }
  throw error;
}
