/** The programs of the simulated machine. The worker is the real one. Gateway and sandbox host
 *  speak the real protocol and keep its promises: a record in the spool before it is reported, one
 *  terminal record, orphan mode at the end of their pipe, a door for a later supervisor. */
import type { z } from 'zod';
import { PrxError } from '../../base/errors.ts';
import { silentLogger } from '../../base/logger.ts';
import { createConnection } from '../../protocol/connection.ts';
import type { ToolOutcome } from '../../protocol/content.ts';
import {
  type AttemptOutcome,
  gatewayNotifications,
  gatewayReports,
  gatewayRequests,
  modelSpoolRecordSchema,
} from '../../protocol/gateway-methods.ts';
import type { SessionId } from '../../protocol/ids.ts';
import { type OrphanFace, openOrphanDoor, type RunningSpan } from '../../protocol/orphan-door.ts';
import {
  sandboxNotifications,
  sandboxReports,
  sandboxRequests,
} from '../../protocol/sandbox-methods.ts';
import { serveWorker } from '../../worker/session.ts';
import type { Disk } from './disk.ts';
import type { Fact } from './facts.ts';
import type { SimulatedProcess } from './machine.ts';
import { toAnswer, toDurationMs } from './script.ts';

export interface ProgramDeps {
  readonly disk: Disk;
  readonly record: (fact: Fact) => void;
  /** Chance that a provider request fails. */
  readonly providerFaults: () => number;
}

export function runProgram(own: SimulatedProcess, deps: ProgramDeps): void {
  if (own.room === 'worker') runWorker(own, deps);
  else if (own.room === 'gateway') runGateway(own, deps);
  else runHost(own, deps);
}

function runWorker(own: SimulatedProcess, { record }: ProgramDeps): void {
  const { reader, writer } = own.transport;
  const connection = serveWorker({
    transport: {
      writer,
      reader: {
        onError: reader.onError,
        onClose: reader.onClose,
        onPartialMessage: reader.onPartialMessage,
        dispose: () => reader.dispose(),
        listen: (deliver) =>
          reader.listen((message) => {
            const { method, params } = message as { method?: string; params?: Binding };
            if (method === 'worker/initialize' && params !== undefined) {
              const { sessionId: session, generation } = params;
              record({ kind: 'process.bound', pid: own.pid, session, generation });
            }
            deliver(message);
          }),
      },
    },
    clock: own.clock,
    pid: own.pid,
    confinement: ['simulated'],
    readRssBytes: () => 1,
  });
  void connection.closed.then(({ kind }) =>
    own.die({ code: kind === 'protocol' ? 76 : 0, signal: undefined }),
  );
}

interface Binding {
  readonly sessionId: string;
  readonly generation: number;
}

type GenerateRequest = z.infer<(typeof gatewayRequests)['model/generate']['params']>;
type RunRequest = z.infer<(typeof sandboxRequests)['tool/run']['params']>;

const RETRIES_MAX = 4;
const TOKEN_MS_MAX = 40;

function runGateway(own: SimulatedProcess, deps: ProgramDeps): void {
  const { disk, record } = deps;
  const running = new Map<string, Promise<AttemptOutcome>>();
  const spans = new Map<string, RunningSpan>();
  const cancelled = new Set<string>();
  let orphaned = false;

  async function generate(request: GenerateRequest): Promise<AttemptOutcome> {
    const { session, effect, attempt, spoolPath, messages } = request;
    const key = `${session}/${effect}`;
    cancelled.delete(key);
    const recalled = recall(spoolPath, attempt);
    if (recalled !== undefined) return recalled;
    record({ kind: 'requested', session, effect, attempt, pid: own.pid, messages });
    const outcome = await stream(request, () => cancelled.has(key));
    if (!own.isAlive()) return new Promise(() => undefined);
    if (spool(spoolPath, { kind: 'end', outcome }) > 0) {
      // While a supervisor listens its journal is what makes the end safe.
      if (orphaned) disk.syncSpool(spoolPath);
      record({ kind: 'attempt.ended', session, effect, attempt, outcome, isSafe: orphaned });
    }
    return outcome;
  }

  /** What the spool knows of this attempt; one that cannot have a spool is not begun. */
  function recall(path: string, attempt: number): AttemptOutcome | undefined {
    if (!disk.hasSpool(path)) return createSpool(disk, path) ? undefined : failed(attempt);
    const end = modelSpoolRecordSchema.safeParse(disk.readSpool(path, 0).records.at(-1)?.value);
    if (end.success && end.data.kind === 'end') return end.data.outcome;
    const message = 'it was begun by an earlier gateway';
    return { kind: 'failed', code: 'GATEWAY_LOST', message, retry_in_ms: 0 };
  }

  async function stream(
    request: GenerateRequest,
    isCancelled: () => boolean,
  ): Promise<AttemptOutcome> {
    const { session, effect, attempt, spoolPath, messages } = request;
    const { text, calls } = toAnswer(messages, effect);
    const failsAt = own.random.next() < deps.providerFaults() ? own.random.next() : 2;
    let said = '';
    for (const [index, word] of text.entries()) {
      await own.clock.sleep(own.random.next() * TOKEN_MS_MAX);
      if (isCancelled() || !own.isAlive()) return completed(said, [], 'cancelled');
      if (index / text.length >= failsAt) return failed(attempt);
      said += word;
      const offset = spool(spoolPath, { kind: 'delta', delta: 'text', text: word });
      const delta = { session, effect, attempt, kind: 'text' as const, text: word, offset };
      void connection.notify('model/delta', delta);
    }
    await own.clock.sleep(own.random.next() * TOKEN_MS_MAX);
    if (isCancelled()) return completed(said, [], 'cancelled');
    if (failsAt <= 1) return failed(attempt);
    return completed(said, calls, calls.length > 0 ? 'tool_calls' : 'stop');
  }

  function spool(path: string, value: unknown): number {
    try {
      return own.isAlive() ? disk.appendSpool(path, value) : 0;
    } catch {
      return 0; // The disk is full: a paid answer is told all the same.
    }
  }

  const connection = createConnection({
    transport: own.transport,
    clock: own.clock,
    peer: 'the supervisor',
    local: { requests: gatewayRequests, notifications: gatewayNotifications },
    remote: { requests: {}, notifications: gatewayReports },
    requests: {
      'gateway/initialize': async () => ({ keyPresent: true }),
      'gateway/models': async () => ({ models: ['simulated'] }),
      'gateway/ping': async () => ({ running: running.size }),
      'model/generate': (request) => {
        const key = `${request.session}/${request.effect}/${request.attempt}`;
        const joined = running.get(key);
        if (joined !== undefined) return joined;
        const outcome = generate(request).finally(() => {
          running.delete(key);
          spans.delete(key);
        });
        running.set(key, outcome);
        spans.set(key, toSpan(own, request, TOTAL_MS));
        return outcome;
      },
    },
    notifications: {
      'model/cancel': ({ session, effect }) => void cancelled.add(`${session}/${effect}`),
    },
  });
  void connection.notify('gateway/ready', { pid: own.pid });
  openDoor(own, {
    isOrphaned: () => orphaned,
    running: () => [...spans.values()],
    cancel: (session, effect) => void cancelled.add(`${session}/${effect}`),
  });
  void connection.closed.then(async () => {
    // Orphaned: what runs is finished alone.
    orphaned = true;
    while (running.size > 0) await Promise.allSettled([...running.values()]);
    own.die({ code: 0, signal: undefined });
  });
}

function completed(
  text: string,
  calls: ReturnType<typeof toAnswer>['calls'],
  finish: 'stop' | 'tool_calls' | 'cancelled',
): AttemptOutcome {
  return {
    kind: 'completed',
    message: { text, tool_calls: [...calls] },
    finish_reason: finish,
    usage: { input_tokens: 10, output_tokens: 5 },
    cost_usd: 0.25,
    latency_ms: 1,
    model: 'simulated',
  };
}

function failed(attempt: number): AttemptOutcome {
  const retry_in_ms = attempt > RETRIES_MAX ? null : 100 * attempt;
  const message = 'the simulated provider is out of order';
  return { kind: 'failed', code: 'PROVIDER_REFUSED', message, retry_in_ms };
}

function runHost(own: SimulatedProcess, { disk, record }: ProgramDeps): void {
  let session: SessionId | undefined;
  const running = new Map<string, Promise<ToolOutcome>>();
  const spans = new Map<string, RunningSpan>();
  const cancelled = new Set<string>();
  let orphaned = false;

  async function perform(session: SessionId, run: RunRequest): Promise<ToolOutcome> {
    const { effect, tool, spoolPath } = run;
    const attempt = toAttempt(spoolPath);
    const durationMs = toDurationMs(run.arguments);
    cancelled.delete(effect);
    if (!createSpool(disk, spoolPath)) return toOutcome('error', 'nothing ran');
    await own.clock.sleep(own.random.next() * durationMs);
    if (!own.isAlive()) return new Promise(() => undefined);
    if (cancelled.has(effect)) return end(spoolPath, toOutcome('cancelled', ''));
    record({ kind: 'executed', session, effect, attempt, tool, pid: own.pid });
    const text = `ran ${effect}`;
    const offset = spool(spoolPath, { kind: 'output', stream: 'stdout', text });
    void connection.notify('tool/output', { effect, stream: 'stdout', text, offset });
    await own.clock.sleep(own.random.next() * durationMs);
    if (!own.isAlive()) return new Promise(() => undefined);
    return end(spoolPath, toOutcome(cancelled.has(effect) ? 'cancelled' : 'ok', text));
  }

  function end(path: string, outcome: ToolOutcome): ToolOutcome {
    if (spool(path, { kind: 'end', outcome }) > 0 && orphaned) disk.syncSpool(path);
    return outcome;
  }

  function spool(path: string, value: unknown): number {
    try {
      return own.isAlive() ? disk.appendSpool(path, value) : 0;
    } catch {
      return 0; // The disk is full: the call goes on, its end is told all the same.
    }
  }

  const connection = createConnection({
    transport: own.transport,
    clock: own.clock,
    peer: 'the supervisor',
    local: { requests: sandboxRequests, notifications: sandboxNotifications },
    remote: { requests: {}, notifications: sandboxReports },
    requests: {
      'sandbox/initialize': async ({ sessionId }) => {
        session = sessionId;
        own.session = sessionId;
        await own.clock.sleep(own.random.next() * TOKEN_MS_MAX);
        return { level: 'bubblewrap', uid: 1000, workspaceAccess: 'write' as const };
      },
      'sandbox/ping': async () => ({ running: running.size }),
      'tool/check': async () => ({}),
      'process/end_all': async () => ({}),
      'tool/run': (run) => {
        const joined = running.get(run.effect);
        if (joined !== undefined) return joined;
        if (session === undefined) throw new PrxError('STATE_INVALID', 'not initialized');
        const outcome = perform(session, run).finally(() => {
          running.delete(run.effect);
          spans.delete(run.effect);
        });
        running.set(run.effect, outcome);
        const attempt = toAttempt(run.spoolPath);
        spans.set(run.effect, toSpan(own, { session, effect: run.effect, attempt }, TOOL_MS));
        return outcome;
      },
    },
    notifications: {
      'sandbox/fingerprints': () => undefined,
      'tool/cancel': ({ effect }) => void cancelled.add(effect),
    },
  });
  void connection.notify('sandbox/ready', { pid: own.pid });
  openDoor(own, {
    isOrphaned: () => orphaned,
    session: () => session,
    running: () => [...spans.values()],
    cancel: (_session, effect) => void cancelled.add(effect),
  });
  void connection.closed.then(async () => {
    orphaned = true;
    while (running.size > 0) await Promise.allSettled([...running.values()]);
    own.die({ code: 0, signal: undefined });
  });
}

/** A spool is there before its effect begins. False: the disk is full. */
function createSpool(disk: Disk, path: string): boolean {
  try {
    disk.createSpool(path);
    return true;
  } catch {
    return false;
  }
}

/** How long anything may run in a simulated process, as it tells through its door. */
const TOTAL_MS = 1_800_000;
const TOOL_MS = 60_000;

const toAttempt = (spoolPath: string): number => Number(/-(\d+)\.log$/.exec(spoolPath)?.[1] ?? 1);

function toSpan(
  { clock }: SimulatedProcess,
  { session, effect, attempt }: Pick<RunningSpan, 'session' | 'effect' | 'attempt'>,
  limitMs: number,
): RunningSpan {
  const startedMs = clock.nowMs();
  return { session, effect, attempt, startedMs, deadlineMs: startedMs + limitMs };
}

/** The real door on a simulated socket. */
function openDoor(own: SimulatedProcess, face: OrphanFace): void {
  openOrphanDoor({
    runDir: '/simulated/state/run',
    kind: own.room === 'gateway' ? 'gateway' : 'sandbox',
    pid: own.pid,
    face,
    clock: own.clock,
    logger: silentLogger,
    async listen({ onConnection }) {
      own.door = onConnection;
      return { close: () => undefined };
    },
  });
}

function toOutcome(status: ToolOutcome['status'], output: string): ToolOutcome {
  return { status, output, duration_ms: 1, truncated: false, level: 'bubblewrap' };
}
