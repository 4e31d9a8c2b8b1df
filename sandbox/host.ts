/** The sandbox host of one session: serves the supervisor, owns the backend and the calls. When
 *  the supervisor is gone it takes nothing new, lets what runs come to its end within its
 *  deadline, spools it, and ends. */
import type { Clock } from '../base/clock.ts';
import { PrxError, toPrxError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { Random } from '../base/random.ts';
import { createConnection, type Transport } from '../protocol/connection.ts';
import { type Fingerprints, noFingerprints } from '../protocol/fingerprints.ts';
import type { EffectId, SessionId } from '../protocol/ids.ts';
import type { OrphanFace } from '../protocol/orphan-door.ts';
import { toPolicyDigest } from '../protocol/policy-digest.ts';
import type { ProcessEnd, ProcessStart } from '../protocol/processes.ts';
import { redactText } from '../protocol/redactor.ts';
import {
  type SandboxPolicy,
  sandboxAsks,
  sandboxNotifications,
  sandboxReports,
  sandboxRequests,
} from '../protocol/sandbox-methods.ts';
import { type Calls, createCalls } from './calls.ts';
import type { Backend } from './launch/backend.ts';
import {
  createWorkspaceGuard,
  surveyKnown,
  type WorkspaceGuard,
} from './launch/workspace-guard.ts';
import type { Callers } from './network/callers.ts';
import { createSessionNetwork, type SessionNetwork } from './network/session-network.ts';
import { type CustomToolHost, createCustomTools } from './tools/custom.ts';
import { createFileTools, type FileTools } from './tools/files.ts';
import type { ToMarkdown } from './tools/html.ts';

export interface HostSpec {
  readonly transport: Transport;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly random: Random;
  readonly pid: number;
  readonly toMarkdown: ToMarkdown;
  readonly createBackend: (
    policy: SandboxPolicy,
    artifactDir: string,
    callers: Callers,
  ) => Promise<Backend>;
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
  readonly customTools: CustomToolHost;
  readonly calls: Calls;
  readonly network: SessionNetwork;
}

interface RoomSpec {
  readonly session: SessionId;
  readonly backend: Backend;
  readonly policy: SandboxPolicy;
  readonly artifactDir: string;
  readonly network: SessionNetwork;
  readonly guard: WorkspaceGuard;
}

const SECRET_TIMEOUT_MS = 10_000;
/** A journal on a slow disk. */
const REGISTER_TIMEOUT_MS = 30_000;

export function serveHost(spec: HostSpec): Host {
  const { transport, clock, logger, createBackend } = spec;
  let room: Room | undefined;
  let initializing = false;
  let closing = false;
  let prints: Fingerprints = noFingerprints;

  const connection = createConnection({
    transport,
    clock,
    peer: 'the supervisor',
    local: { requests: sandboxRequests, notifications: sandboxNotifications },
    remote: { requests: sandboxAsks, notifications: sandboxReports },
    requests: {
      async 'sandbox/initialize'({ sessionId, policy, artifactDir, fingerprints }) {
        prints = fingerprints;
        if (initializing) throw new PrxError('INVALID_REQUEST', 'the sandbox is initialized once');
        initializing = true;
        const network = openNetwork(policy);
        const { callers } = network;
        const making = createBackend(policy, artifactDir, callers).catch((error: unknown) => {
          initializing = false;
          network.close();
          throw error;
        });
        const surveying = surveyKnown(policy.workspace);
        const backend = await making;
        const known = await surveying;
        const guard = createWorkspaceGuard({ backend, known, clock, random: spec.random });
        room = openRoom({ session: sessionId, backend, policy, artifactDir, network, guard });
        if (closing) await backend.close();
        const { level, uid, workspaceAccess, notice } = backend;
        logger.info('sandbox.initialized', { sandbox: level, uid, workspaceAccess });
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
      async 'tool/check'({ tool, arguments: value }) {
        if (closing) throw new PrxError('SHUTTING_DOWN', 'the sandbox host is ending');
        if (room === undefined) throw new PrxError('SANDBOX_UNAVAILABLE', `no sandbox for ${tool}`);
        const problem = await room.customTools.check(tool, value);
        return problem === undefined ? {} : { problem };
      },
      async 'process/end_all'({ reason }) {
        await room?.calls.endProcesses(reason);
        return {};
      },
      'sandbox/ping': async () => ({ running: room?.calls.count() ?? 0 }),
    },
    notifications: {
      'tool/cancel': ({ effect }) => room?.calls.cancel(effect),
      'sandbox/fingerprints': (next) => {
        prints = next;
      },
    },
  });

  function isOrphaned(): boolean {
    return closing || !connection.isOpen();
  }

  function openNetwork({ network: policy }: SandboxPolicy): SessionNetwork {
    return createSessionNetwork({
      ...{ policy, clock, logger },
      redact: (text) => redactText(text, prints),
      async report(request) {
        const offset = room?.calls.note(request);
        await connection.notify('network/request', {
          ...request,
          ...(offset === undefined ? {} : { offset }),
        });
      },
      // Alone, we have only the spools of our calls to write to.
      canRecord: (call) => !isOrphaned() || (call !== undefined && room?.calls.has(call) === true),
      async readSecret(name, { use, purpose, call }) {
        const params = { name, use, purpose, ...(call === undefined ? {} : { call_id: call }) };
        const options = { timeoutMs: SECRET_TIMEOUT_MS };
        return await connection.request('secret/read', params, options).catch((error: unknown) => {
          const reason = `the secret ${name} could not be read: ${toPrxError(error).message}`;
          return { kind: 'refused' as const, reason };
        });
      },
    });
  }

  function openRoom({ session, backend, policy, artifactDir, network, guard }: RoomSpec): Room {
    const { workspace } = policy;
    const { writablePaths } = policy;
    const fileTools = createFileTools({ backend, workspace, writablePaths, clock, logger });
    const report = (output: Parameters<typeof connection.notify<'tool/output'>>[1]) =>
      connection.notify('tool/output', output);
    const fingerprints = (): Fingerprints => prints;
    const policyDigest = toPolicyDigest(policy);
    const { toMarkdown } = spec;
    const registerProcess = (start: ProcessStart) =>
      connection.request('process/register', start, { timeoutMs: REGISTER_TIMEOUT_MS });
    const reportProcessEnd = (call: EffectId, end: ProcessEnd): void =>
      void connection.notify('process/exited', { call_id: call, ...end });
    const book = { registerProcess, reportProcessEnd };
    const ports = { clock, logger, report, isOrphaned, fingerprints, toMarkdown, ...book };
    const { custom } = policy;
    const customTools = createCustomTools({ backend, custom, guard, clock, logger });
    const own = { session, backend, fileTools, customTools, network };
    const calls = createCalls({ ...own, policy, policyDigest, guard, artifactDir, ...ports });
    return { ...own, calls };
  }

  async function end(): Promise<void> {
    const reason = await connection.closed;
    closing = true;
    if (reason.kind === 'protocol') logger.error('sandbox.protocol', { error: reason.error });
    // Who could be told of them, and could end them, is gone.
    const ended = room?.calls.endProcesses('orphaned');
    await room?.calls.settled();
    await ended;
    await room?.calls.scan();
    room?.fileTools.close();
    room?.customTools.close();
    room?.network.close();
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
