/** The sandbox host of one session: serves the supervisor, owns the backend and the calls. When
 *  the supervisor is gone it takes nothing new, lets what runs come to its end within its
 *  deadline, spools it, and ends. */
import type { Clock } from '../base/clock.ts';
import { PrxError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { createConnection, type Transport } from '../protocol/connection.ts';
import type { SessionId } from '../protocol/ids.ts';
import type { OrphanFace } from '../protocol/orphan-door.ts';
import {
  type SandboxPolicy,
  sandboxNotifications,
  sandboxReports,
  sandboxRequests,
} from '../protocol/sandbox-methods.ts';
import { type Calls, createCalls } from './calls.ts';
import type { Backend } from './launch/backend.ts';
import { createFileTools, type FileTools } from './tools/files.ts';

export interface HostSpec {
  readonly transport: Transport;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly pid: number;
  readonly createBackend: (policy: SandboxPolicy, artifactDir: string) => Promise<Backend>;
}

export interface Host {
  /** Resolves when everything has ended and was given back. */
  readonly ended: Promise<void>;
  /** Cancels what runs and ends. Idempotent. */
  stop(): void;
  /** What a later supervisor may see and do. */
  readonly face: OrphanFace;
}

interface Room {
  readonly session: SessionId;
  readonly backend: Backend;
  readonly fileTools: FileTools;
  readonly calls: Calls;
}

interface RoomSpec {
  readonly session: SessionId;
  readonly backend: Backend;
  readonly policy: SandboxPolicy;
  readonly artifactDir: string;
}

export function serveHost(spec: HostSpec): Host {
  const { transport, clock, logger, createBackend } = spec;
  let room: Room | undefined;
  let initializing = false;
  let closing = false;

  const connection = createConnection({
    transport,
    clock,
    peer: 'the supervisor',
    local: { requests: sandboxRequests, notifications: sandboxNotifications },
    remote: { requests: {}, notifications: sandboxReports },
    requests: {
      async 'sandbox/initialize'({ sessionId, policy, artifactDir }) {
        if (initializing) throw new PrxError('INVALID_REQUEST', 'the sandbox is initialized once');
        initializing = true;
        const backend = await createBackend(policy, artifactDir).catch((error: unknown) => {
          initializing = false;
          throw error;
        });
        room = openRoom({ session: sessionId, backend, policy, artifactDir });
        if (closing) await backend.close();
        const { level, uid, workspaceAccess, notice } = backend;
        logger.info('sandbox.initialized', { level, uid, workspaceAccess });
        return { level, uid, workspaceAccess, ...(notice === undefined ? {} : { notice }) };
      },
      async 'tool/run'(params) {
        if (closing) throw new PrxError('SHUTTING_DOWN', 'the sandbox host is ending');
        if (room === undefined) {
          const message = `tool/run before sandbox/initialize succeeded (effect ${params.effect})`;
          throw new PrxError('SANDBOX_UNAVAILABLE', message);
        }
        return await room.calls.run({ ...params, arguments: params.arguments });
      },
      'sandbox/ping': async () => ({ running: room?.calls.count() ?? 0 }),
    },
    notifications: {
      'tool/cancel': ({ effect }) => room?.calls.cancel(effect),
    },
  });

  function isOrphaned(): boolean {
    return closing || !connection.isOpen();
  }

  function openRoom({ session, backend, policy, artifactDir }: RoomSpec): Room {
    const { workspace } = policy;
    const fileTools = createFileTools({ backend, workspace, clock, logger });
    const report = (output: Parameters<typeof connection.notify<'tool/output'>>[1]) =>
      connection.notify('tool/output', output);
    const ports = { clock, logger, report, isOrphaned };
    const calls = createCalls({ session, backend, fileTools, policy, artifactDir, ...ports });
    return { session, backend, fileTools, calls };
  }

  async function end(): Promise<void> {
    const reason = await connection.closed;
    closing = true;
    if (reason.kind === 'protocol') logger.error('sandbox.protocol', { error: reason.error });
    await room?.calls.settled();
    room?.fileTools.close();
    await room?.backend.close();
  }

  void connection.notify('sandbox/ready', { pid: spec.pid });
  return {
    ended: end(),
    stop() {
      closing = true;
      room?.calls.cancelAll();
      connection.close();
    },
    face: {
      isOrphaned,
      session: () => room?.session,
      running: () => room?.calls.running() ?? [],
      cancel(session, effect) {
        if (room?.session === session) room.calls.cancel(effect);
      },
    },
  };
}
