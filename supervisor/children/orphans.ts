/** Gateways, sandbox hosts and MCP hosts that nobody speaks to over their pipes any more: those an
 *  earlier supervisor left with work to end, and our own ones once released. Over its owner-only
 *  socket each says what still runs in it, so that we wait for exactly that, cancel it where its
 *  turn ends, and kill what has nothing left to do, is past its deadline, or is silent and not
 *  needed. One that does not answer is taken for a possible writer of anything it could write. */
import { background } from '../../base/background.ts';
import type { Clock } from '../../base/clock.ts';
import { toPrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { connectOwnerSocket } from '../../base/owner-socket.ts';
import type { ProcessTable } from '../../base/process.ts';
import { type Connection, createConnection, type Transport } from '../../protocol/connection.ts';
import { type EffectId, parseEffectId, type SessionId } from '../../protocol/ids.ts';
import {
  type OrphanStatus,
  orphanRequests,
  toOrphanSocketPath,
} from '../../protocol/orphan-methods.ts';
import { createStreamTransport } from '../../protocol/transport.ts';
import type { ProcessRecord } from '../../store/contract.ts';
import { decideOrphan } from './orphan-verdict.ts';
import type { Killed, Registry } from './registry.ts';

const remote = { requests: orphanRequests, notifications: {} };

export interface EffectKey {
  readonly session: SessionId;
  readonly effect: EffectId;
}

export interface Orphans {
  /** May a process still write this effect's spool? False is certain; true may be caution. */
  mayWrite(session: SessionId, effect: EffectId): boolean;
  /** Ends the effect wherever it runs, now or as soon as its process answers. */
  cancel(session: SessionId, effect: EffectId): void;
  /** Begins to watch what the registry calls an orphan and is not watched yet. */
  watch(): void;
  /** Kills what has no reason to live on. */
  review(): readonly Killed[];
  /** The supervisor stops: they go on alone. */
  stop(): void;
}

export interface OrphansDeps {
  readonly registry: Pick<Registry, 'orphans' | 'kill'>;
  readonly processes: ProcessTable;
  readonly connect: ConnectOrphan;
  readonly runDir: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Effects that the journal has as reserved and not ended. */
  readonly listUnfinished: () => Promise<readonly EffectKey[]>;
  /** The longest that anything may run in such a process, ms. */
  readonly limitMs: (kind: ProcessRecord['kind']) => number;
}

/** Connects to the socket at this path. Rejects when nobody answers before the signal aborts. */
export type ConnectOrphan = (path: string, signal: AbortSignal) => Promise<Transport>;

export const connectRealOrphan: ConnectOrphan = async (path, signal) => {
  const socket = await connectOwnerSocket(path, signal);
  return createStreamTransport(socket, socket);
};

interface Orphan {
  readonly record: ProcessRecord;
  readonly foundMs: number;
  readonly cancelledMs: Map<string, number>;
  connection: Connection<typeof remote> | undefined;
  status: OrphanStatus | undefined;
  answeredMs: number;
  /** When the last of what runs there has ended at the latest. */
  deadlineMs: number;
  /** Since when nothing runs there. */
  idleMs: number | undefined;
  /** Silent, and the journal has something that may run there. */
  isWanted: boolean;
}

/** To connect, and to answer. */
const ANSWER_MS = 1000;
/** Between two questions, while something runs there: an end shows in the spool before. */
const ASK_MS = 100;

export function createOrphans(deps: OrphansDeps): Orphans {
  const { registry, clock, logger, processes } = deps;
  const watched = new Map<number, Orphan>();
  const stopped = new AbortController();

  async function follow(orphan: Orphan): Promise<void> {
    const { record } = orphan;
    logger.info('orphan.found', { kind: record.kind, pid: record.pid });
    while (!stopped.signal.aborted && processes.isAlive(record)) {
      await ask(orphan);
      judge(orphan);
      await clock.sleep(ASK_MS, stopped.signal);
    }
    orphan.connection?.close();
    watched.delete(record.pid);
    if (!stopped.signal.aborted) logger.info('orphan.ended', { pid: record.pid });
  }

  async function ask(orphan: Orphan): Promise<void> {
    try {
      orphan.connection ??= await connect(orphan.record);
      const options = { timeoutMs: ANSWER_MS };
      hear(orphan, await orphan.connection.request('orphan/status', {}, options));
      await sendCancels(orphan);
    } catch (error) {
      logger.debug('orphan.silent', { pid: orphan.record.pid, error: toPrxError(error).message });
      orphan.connection?.close();
      orphan.connection = undefined;
      orphan.isWanted = await isWanted(orphan);
    }
  }

  async function connect(record: ProcessRecord): Promise<Connection<typeof remote>> {
    const late = new AbortController();
    const timer = clock.setTimer(ANSWER_MS, () => late.abort());
    // Workers end with their supervisor, and are never asked.
    const kind = record.kind === 'worker' ? 'sandbox' : record.kind;
    try {
      const path = toOrphanSocketPath(deps.runDir, kind, record.pid);
      return createConnection({
        transport: await deps.connect(path, late.signal),
        clock,
        peer: `the ${kind} ${record.pid}`,
        local: { requests: {}, notifications: {} },
        remote,
        requests: {},
        notifications: {},
      });
    } finally {
      timer.cancel();
    }
  }

  function hear(orphan: Orphan, status: OrphanStatus): void {
    const nowMs = clock.nowMs();
    const offsetMs = nowMs - clock.wallMs();
    const deadlines = status.running.map((each) => Date.parse(each.deadline_at) + offsetMs);
    orphan.status = status;
    orphan.answeredMs = nowMs;
    orphan.deadlineMs = Math.max(nowMs, ...deadlines);
    orphan.idleMs = status.running.length > 0 ? undefined : (orphan.idleMs ?? nowMs);
  }

  async function sendCancels(orphan: Orphan): Promise<void> {
    const { connection, status } = orphan;
    for (const { session, effect } of status?.running ?? []) {
      if (connection === undefined || !orphan.cancelledMs.has(keyOf(session, effect))) continue;
      await connection.request('orphan/cancel', { session, effect }, { timeoutMs: ANSWER_MS });
    }
  }

  async function isWanted(orphan: Orphan): Promise<boolean> {
    try {
      const unfinished = await deps.listUnfinished();
      return unfinished.some(
        ({ session, effect }) =>
          isItsKind(orphan.record, session, effect) &&
          !orphan.cancelledMs.has(keyOf(session, effect)),
      );
    } catch (error) {
      logger.warn('orphan.unfinished_unknown', { error: toPrxError(error).message });
      return true;
    }
  }

  /** Kills it when it should not live on. */
  function judge(orphan: Orphan): boolean {
    const { record, status, cancelledMs } = orphan;
    const nowMs = clock.nowMs();
    const running = status?.running.map(({ session, effect }) => keyOf(session, effect)) ?? [];
    const cancels = running.map((key) => cancelledMs.get(key) ?? nowMs);
    const why = decideOrphan({
      isKnown: status !== undefined,
      runningCount: running.length,
      idleForMs: orphan.idleMs === undefined ? 0 : nowMs - orphan.idleMs,
      overdueMs: nowMs - orphan.deadlineMs,
      cancelledForMs: nowMs - Math.max(...cancels, ...(running.length === 0 ? [nowMs] : [])),
      silentForMs: nowMs - orphan.answeredMs,
      isWanted: orphan.isWanted,
      foundForMs: nowMs - orphan.foundMs,
      limitMs: deps.limitMs(record.kind),
    });
    if (why === undefined || !registry.kill(record)) return false;
    logger.warn('orphan.killed', { kind: record.kind, pid: record.pid, why });
    return true;
  }

  function mayRun({ record, status }: Orphan, session: SessionId, effect: EffectId): boolean {
    if (!isItsKind(record, session, effect)) return false;
    // Until it has heard the end of its pipe it may hear of more.
    if (status === undefined || !status.orphaned) return true;
    return status.running.some((each) => each.session === session && each.effect === effect);
  }

  return {
    mayWrite: (session, effect) =>
      registry.orphans().some((record) => {
        const orphan = watched.get(record.pid);
        if (orphan === undefined) return isItsKind(record, session, effect);
        return mayRun(orphan, session, effect);
      }),
    cancel(session, effect) {
      for (const orphan of watched.values()) {
        if (!mayRun(orphan, session, effect)) continue;
        orphan.cancelledMs.set(keyOf(session, effect), clock.nowMs());
        background(
          sendCancels(orphan).catch(() => undefined),
          'orphan.cancel',
          logger,
        );
      }
    },
    watch() {
      const nowMs = clock.nowMs();
      for (const record of registry.orphans()) {
        if (watched.has(record.pid) || stopped.signal.aborted) continue;
        const times = { foundMs: nowMs, answeredMs: nowMs, deadlineMs: nowMs, idleMs: undefined };
        const known = { connection: undefined, status: undefined, isWanted: true };
        const orphan: Orphan = { record, cancelledMs: new Map(), ...times, ...known };
        watched.set(record.pid, orphan);
        background(follow(orphan), 'orphan.follow', logger);
      }
    },
    review: () =>
      [...watched.values()]
        .filter(judge)
        .map(({ record }) => ({ kind: record.kind, pid: record.pid })),
    stop() {
      stopped.abort();
      for (const orphan of watched.values()) orphan.connection?.close();
    },
  };
}

/** Model calls run in gateways, tool calls in the host of their session or in that of an MCP
 *  server, which may be everybody's. */
function isItsKind(record: ProcessRecord, session: SessionId, effect: EffectId): boolean {
  if (parseEffectId(effect).call === undefined) return record.kind === 'gateway';
  if (record.kind === 'mcp' && record.session === undefined) return true;
  return (record.kind === 'sandbox' || record.kind === 'mcp') && record.session === session;
}

function keyOf(session: SessionId, effect: EffectId): string {
  return `${session}/${effect}`;
}
