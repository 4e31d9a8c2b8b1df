/** The serving side of orphan-methods.ts: a door that a gateway or a host opens at its start. Where
 *  it cannot be opened (a full disk) the process works all the same; whoever looks for it later
 *  then knows less, and waits longer. */
import type { Duplex } from 'node:stream';
import { type Clock, toTimestamp } from '../base/clock.ts';
import { toPrxError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { createConnection } from './connection.ts';
import type { EffectId, SessionId } from './ids.ts';
import {
  type OrphanKind,
  type OrphanStatus,
  orphanRequests,
  type RunningEffect,
  toOrphanSocketPath,
} from './orphan-methods.ts';
import { createStreamTransport } from './transport.ts';

/** An effect that runs, by the monotonic clock of its process. */
export interface RunningSpan extends Pick<RunningEffect, 'session' | 'effect' | 'attempt'> {
  readonly startedMs: number;
  readonly deadlineMs: number;
}

/** What the door shows of the process behind it. */
export interface OrphanFace {
  isOrphaned(): boolean;
  session?(): SessionId | undefined;
  running(): readonly RunningSpan[];
  cancel(session: SessionId, effect: EffectId): void;
}

/** Listens at a path that belongs to the caller; see base/owner-socket.ts. */
export type Listen = (spec: {
  readonly path: string;
  readonly connectionsMax: number;
  readonly onConnection: (socket: Duplex) => void;
}) => Promise<{ close(): void }>;

export interface OrphanDoorSpec {
  readonly runDir: string;
  readonly kind: OrphanKind;
  readonly pid: number;
  readonly face: OrphanFace;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly listen: Listen;
}

export interface OrphanDoor {
  /** Takes the socket away. Idempotent; may be called at once. */
  close(): void;
}

/** One supervisor, and a person who looks. */
const CONNECTIONS_MAX = 8;

export function openOrphanDoor(spec: OrphanDoorSpec): OrphanDoor {
  const { runDir, kind, pid, logger } = spec;
  const path = toOrphanSocketPath(runDir, kind, pid);
  let socket: { close(): void } | undefined;
  let open = true;
  const onConnection = (stream: Duplex): void => serve(spec, stream);
  spec.listen({ path, connectionsMax: CONNECTIONS_MAX, onConnection }).then(
    (listening) => {
      socket = listening;
      if (!open) listening.close();
    },
    (error: unknown) => logger.warn('orphan.no_socket', { path, error: toPrxError(error).message }),
  );
  return {
    close() {
      open = false;
      socket?.close();
    },
  };
}

function serve(spec: OrphanDoorSpec, stream: Duplex): void {
  const { kind, pid, face, clock } = spec;
  createConnection({
    transport: createStreamTransport(stream, stream),
    clock,
    peer: 'a supervisor',
    local: { requests: orphanRequests, notifications: {} },
    remote: { requests: {}, notifications: {} },
    requests: {
      'orphan/status': async (): Promise<OrphanStatus> => {
        const session = face.session?.();
        return {
          kind,
          pid,
          ...(session === undefined ? {} : { session }),
          orphaned: face.isOrphaned(),
          running: face.running().map((span) => toRunningEffect(span, clock)),
        };
      },
      'orphan/cancel': async ({ session, effect }) => {
        face.cancel(session, effect);
        return {};
      },
    },
    notifications: {},
  });
}

function toRunningEffect(span: RunningSpan, clock: Clock): RunningEffect {
  const { session, effect, attempt, startedMs, deadlineMs } = span;
  const offsetMs = clock.wallMs() - clock.nowMs();
  return {
    session,
    effect,
    attempt,
    started_at: toTimestamp(offsetMs + startedMs),
    deadline_at: toTimestamp(offsetMs + deadlineMs),
  };
}
