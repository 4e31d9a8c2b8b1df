/** A child process of ours with a JSON-RPC connection on its stdio: start, readiness, one exit
 *  with one cause. Dead means the process exited and its pipes had a moment to drain; it never
 *  means "the pipes closed" (a grandchild may hold them). The first cause of death wins. */
import { assert } from '../../base/assert.ts';
import type { Clock } from '../../base/clock.ts';
import { PrxError, toPrxError } from '../../base/errors.ts';
import type { LogFields, Logger } from '../../base/logger.ts';
import type {
  ProcessIdentity,
  ProcessPort,
  ProcessSpec,
  RunningProcess,
} from '../../base/process.ts';
import {
  type Connection,
  createConnection,
  type NotificationHandlers,
  type RequestHandlers,
  type Side,
} from '../../protocol/connection.ts';
import { createStreamTransport } from '../../protocol/transport.ts';
import type { Enclosure } from './cgroup.ts';

export type ChildKind = 'worker' | 'gateway' | 'sandbox' | 'mcp';

export type ExitCause =
  | 'completed'
  | 'stopped'
  | 'crashed'
  | 'memory'
  | 'timeout'
  | 'unresponsive'
  | 'protocol';

export interface ChildExit {
  readonly cause: ExitCause;
  readonly code: number | undefined;
  readonly signal: NodeJS.Signals | undefined;
  /** The last lines it wrote to stderr, at most STDERR_TAIL_CHARS. */
  readonly stderrTail: string;
  readonly uptimeMs: number;
}

/** How to start and stop one child: plain data. */
export interface ChildSpec {
  readonly kind: ChildKind;
  readonly process: ProcessSpec;
  /** Silence this long after the start is a failed start, ms. */
  readonly readyTimeoutMs: number;
  /** After EOF on its stdin: this long until SIGTERM, ms; then again until SIGKILL. */
  readonly stopGraceMs: number;
}

export interface Child<Remote extends Side> {
  readonly kind: ChildKind;
  readonly pid: number;
  readonly identity: ProcessIdentity;
  readonly connection: Connection<Remote>;
  /** Never rejects. */
  readonly exited: Promise<ChildExit>;
  isAlive(): boolean;
  /** Names the cause and kills at once. */
  kill(cause: ExitCause): void;
  /** EOF, SIGTERM, SIGKILL, each after the grace. Idempotent. */
  stop(): Promise<ChildExit>;
}

export interface ChildDeps {
  readonly clock: Clock;
  readonly processes: ProcessPort;
  readonly logger: Logger;
}

export interface StartChild<Local extends Side, Remote extends Side> extends ChildDeps {
  readonly spec: ChildSpec;
  readonly local: Local;
  readonly remote: Remote;
  readonly requests: RequestHandlers<Local['requests']>;
  readonly notifications: NotificationHandlers<Local['notifications']>;
  /** Who hears of its stderr, asked for each line; absent: `logger`. */
  readonly stderrLogger?: () => Logger;
  /** Settled by the child's own ready notification. */
  readonly ready: Promise<unknown>;
  readonly holdReading?: () => Promise<void> | undefined;
  /** Aborted: it is no longer wanted, and killed if it is not ready yet. */
  readonly signal?: AbortSignal;
  /** Called with the identity at once: the durable registry. The child is not used before this
   *  resolves; it starts meanwhile. A rejection fails the start. */
  readonly onStarted?: (identity: ProcessIdentity) => Promise<void>;
  /** A control group for it, with all that it starts; removed at its exit. Not used before it is in
   *  there. */
  readonly enclose?: (pid: number) => Promise<Enclosure | undefined> | undefined;
  /** Called at its exit, also when it never was ready. */
  readonly onExited?: (identity: ProcessIdentity) => void;
}

const STDERR_TAIL_CHARS = 8192;
const STDERR_LINE_CHARS = 2000;
/** From the end of its output to its exit. */
const EXIT_MS = 1000;
/** After the exit, its pipe may still hold the last frames: it is read while there are any. The
 *  end of the pipe is not waited for, because a grandchild may hold it open. */
const DRAIN_MS = 100;
const DRAIN_ROUNDS_MAX = 50;

/** Starts a child and waits until it is ready. Throws SPAWN_FAILED, or WORKER_START_TIMEOUT when
 *  it was silent or died first (it is killed then); the message carries its last stderr line.
 *  Throws CANCELLED when the signal aborts first: nobody waits for a start that hangs. */
export async function startChild<Local extends Side, Remote extends Side>(
  options: StartChild<Local, Remote>,
): Promise<Child<Remote>> {
  const { spec, clock } = options;
  const running = await options.processes.start(spec.process);
  const child = adoptProcess(options, running);
  const registered = options.onStarted?.(child.identity);
  const deadline = new AbortController();
  const { signal = deadline.signal } = options;
  const over = AbortSignal.any([deadline.signal, signal]);
  const outcome = await Promise.race([
    Promise.all([options.ready, registered]).then(() => 'ready' as const),
    child.exited.then((exit) => exit),
    clock.sleep(spec.readyTimeoutMs, over).then(() => (signal.aborted ? 'unwanted' : 'silent')),
  ]).catch(async (error: unknown) => {
    child.kill('stopped');
    await child.exited;
    throw error;
  });
  deadline.abort();
  if (outcome === 'ready') {
    // With what it started while it was on its way in: a launcher is followed by what it launches.
    await (await child.enclosing)?.admit(options.processes.listDescendants(child.pid));
    return child;
  }
  child.kill(outcome === 'unwanted' ? 'stopped' : 'timeout');
  const exit = await child.exited;
  if (outcome === 'unwanted') {
    throw new PrxError('CANCELLED', `the ${spec.kind} that was started is not wanted any more`);
  }
  const what =
    outcome === 'silent'
      ? `was not ready within ${spec.readyTimeoutMs} ms`
      : `exited before it was ready (code ${exit.code}, signal ${exit.signal})`;
  const tail = exit.stderrTail.trim().split('\n').slice(-4).join(' | ');
  throw new PrxError(
    'WORKER_START_TIMEOUT',
    `the ${spec.kind} ${what}; stderr: ${tail || '(none)'}`,
    {
      data: { kind: spec.kind, command: spec.process.command },
    },
  );
}

interface EnclosedChild<Remote extends Side> extends Child<Remote> {
  readonly enclosing: Promise<Enclosure | undefined> | undefined;
}

function adoptProcess<Local extends Side, Remote extends Side>(
  options: StartChild<Local, Remote>,
  running: RunningProcess,
): EnclosedChild<Remote> {
  const { spec, clock, logger } = options;
  const startedMs = clock.nowMs();
  const { pid } = running;
  const identity = options.processes.findIdentity(pid) ?? { pid, startTicks: 0, bootId: '' };
  const enclosing = options.enclose?.(pid);
  const hold = options.holdReading;
  const connection = createConnection({
    transport: createStreamTransport(
      running.stdout,
      running.stdin,
      hold === undefined ? {} : { holdReading: hold },
    ),
    clock,
    peer: `the ${spec.kind} ${running.pid}`,
    local: options.local,
    remote: options.remote,
    requests: options.requests,
    notifications: options.notifications,
  });
  const tail = tailStderr(running, (line) => {
    const to = options.stderrLogger?.() ?? logger;
    forwardLine(to, { child: spec.kind, child_pid: running.pid }, line);
  });
  let cause: ExitCause | undefined;
  let alive = true;
  let stopping: Promise<ChildExit> | undefined;

  function die(reason: ExitCause): void {
    cause ??= reason;
    if (alive) killTree();
  }

  function killTree(): void {
    running.kill('SIGKILL');
    if (spec.process.ownSession) running.killGroup('SIGKILL');
  }

  void connection.closed.then(async (reason) => {
    if (reason.kind === 'closed') return;
    const isCut = reason.kind === 'protocol' && reason.error.data['truncated'] === true;
    if (reason.kind === 'eof' || isCut) {
      // A frame cut off by its death is no fault of the protocol. Its last frame is followed by
      // its exit; one that lives on with a closed pipe is broken.
      const waited = new AbortController();
      await Promise.race([running.exited, clock.sleep(EXIT_MS, waited.signal)]);
      waited.abort();
      if (!alive) return;
    }
    const error = reason.kind === 'protocol' ? reason.error : 'it closed its pipe and went on';
    logger.warn('child.protocol', { child: spec.kind, pid: running.pid, error });
    die('protocol');
  });

  const exited = running.exited.then(async ({ code, signal }): Promise<ChildExit> => {
    alive = false;
    endGroup(running, spec);
    await drain();
    connection.close();
    running.stdout.destroy();
    running.stderr.destroy();
    const stderrTail = tail();
    cause ??= classify(code, signal, stderrTail);
    const enclosure = await enclosing;
    // A kill by the kernel is a crash to whoever does not ask the group. A host's counts its tools.
    const isAsked = spec.kind === 'worker' && cause === 'crashed';
    if (isAsked && enclosure?.wasOutOfMemory() === true) cause = 'memory';
    enclosure?.remove();
    options.onExited?.(identity);
    return { cause, code, signal, stderrTail, uptimeMs: clock.nowMs() - startedMs };
  });

  async function drain(): Promise<void> {
    for (let round = 0; round < DRAIN_ROUNDS_MAX && connection.isOpen(); round += 1) {
      const waited = new AbortController();
      await Promise.race([connection.closed, clock.sleep(DRAIN_MS, waited.signal)]);
      waited.abort();
      if (running.stdout.readableLength === 0) return;
    }
  }

  async function climbDown(): Promise<ChildExit> {
    cause ??= 'stopped';
    running.stdin.end();
    for (const end of [() => running.kill('SIGTERM'), killTree]) {
      const waited = new AbortController();
      await Promise.race([exited, clock.sleep(spec.stopGraceMs, waited.signal)]);
      waited.abort();
      if (!alive) break;
      end();
    }
    return exited;
  }

  return {
    kind: spec.kind,
    pid: running.pid,
    identity,
    enclosing,
    connection,
    exited,
    isAlive: () => alive,
    kill: die,
    stop() {
      stopping ??= climbDown();
      return stopping;
    },
  };
}

/** What it started and did not take along: it may hold our pipes open, and has nobody to end it. */
function endGroup(running: RunningProcess, spec: ChildSpec): void {
  if (!spec.process.ownSession) return;
  try {
    running.killGroup('SIGKILL');
  } catch {
    // All that is left of it is another user's: the control group and the sweep are for that.
  }
}

/** The cause of a death nobody here asked for. V8 says it is out of memory on stderr and aborts. */
export function classify(
  code: number | undefined,
  signal: NodeJS.Signals | undefined,
  stderrTail: string,
): ExitCause {
  const aborted = signal === 'SIGABRT' || signal === 'SIGTRAP' || code === 134 || code === 133;
  if (aborted && /heap out of memory|invalid array length|Allocation failed/i.test(stderrTail)) {
    return 'memory';
  }
  return code === 0 ? 'completed' : 'crashed';
}

/** Hands stderr on, line by line and bounded, and keeps its tail. */
function tailStderr(running: RunningProcess, forward: (line: string) => void): () => string {
  let tail = '';
  running.stderr.setEncoding('utf8');
  running.stderr.on('data', (chunk: string) => {
    assert(typeof chunk === 'string', 'stderr is decoded before it is kept');
    tail = (tail + chunk).slice(-STDERR_TAIL_CHARS);
    for (const line of chunk.slice(-STDERR_TAIL_CHARS).split('\n')) {
      if (line.trim() !== '') forward(line.slice(0, STDERR_LINE_CHARS));
    }
  });
  return () => tail;
}

const LOG_LEVELS = ['error', 'warn', 'info', 'debug'] as const;

/** A log line of a process of ours is a line of our own log. Not a worker's: it writes none, and
 *  handles text that could look like one. */
function forwardLine(logger: Logger, by: LogFields & { child: ChildKind }, line: string): void {
  const said = by.child === 'worker' ? undefined : parseLogLine(line);
  const level = LOG_LEVELS.find((each) => each === said?.['level']);
  if (said === undefined || level === undefined) {
    logger.debug('child.stderr', { ...by, line });
    return;
  }
  const { level: _, time, pid, room, event, ...fields } = said;
  logger[level](String(event), { ...fields, ...by });
}

function parseLogLine(line: string): LogFields | undefined {
  if (!line.startsWith('{"level":')) return undefined;
  try {
    return JSON.parse(line) as LogFields;
  } catch {
    // Cut by a chunk, or only the look of one.
    return undefined;
  }
}

/** A failed start or a lost child as the error its asker gets. */
export function childLost(kind: ChildKind, error: unknown): PrxError {
  const codes = {
    worker: 'WORKER_LOST',
    gateway: 'GATEWAY_LOST',
    sandbox: 'HOST_LOST',
    mcp: 'HOST_LOST',
  } as const;
  const code = codes[kind];
  const known = toPrxError(error);
  return new PrxError(code, `the ${kind} is gone: ${known.message}`, { cause: error });
}
