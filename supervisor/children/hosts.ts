/** One sandbox host per session that uses tools: started at the first call, asked to go when the
 *  session hibernates or closes. A host that dies under a call is HOST_LOST: the asker looks into
 *  the call's spool. */
import type { z } from 'zod';
import { type ErrorCode, PrxError, toPrxError } from '../../base/errors.ts';
import { createFlowLimit } from '../../base/flow-limit.ts';
import type { ToolOutcome } from '../../protocol/content.ts';
import type { EventData } from '../../protocol/events.ts';
import type { Fingerprints } from '../../protocol/fingerprints.ts';
import type { EffectId, SessionId } from '../../protocol/ids.ts';
import { toPolicyDigest } from '../../protocol/policy-digest.ts';
import type { ProcessEnd, ProcessEndReason, ProcessStart } from '../../protocol/processes.ts';
import {
  type SandboxPolicy,
  type SandboxReport,
  sandboxAsks,
  sandboxNotifications,
  sandboxReports,
  sandboxRequests,
} from '../../protocol/sandbox-methods.ts';
import type { HostPort, LiveRun, ToolRun } from '../effects/ports.ts';
import type { Cgroups } from './cgroup.ts';
import { type Child, type ChildDeps, type ChildSpec, childLost, startChild } from './child.ts';
import { startHeartbeat } from './lifecycle-heartbeat.ts';
import type { Registry } from './registry.ts';

const remote = { requests: sandboxRequests, notifications: sandboxNotifications };
const local = { requests: sandboxAsks, notifications: sandboxReports };
export type SecretUse = z.infer<(typeof sandboxAsks)['secret/read']['params']>;
export type SecretAnswer = z.infer<(typeof sandboxAsks)['secret/read']['result']>;
type HostChild = Child<typeof remote>;

export interface Host extends HostPort {
  child(): HostChild | undefined;
  /** What is wrong with the arguments of a custom tool; starts the host. */
  check(tool: string, value: unknown): Promise<string | undefined>;
  /** What the sandbox said of itself; undefined before the first start. */
  report(): SandboxReport | undefined;
  /** EOF: it finishes what runs, alone, and exits. What runs is lost to us: only when we stop. */
  release(): void;
  /** Releases it as soon as no call and no background process runs; a call that comes first keeps
   *  it. */
  retire(): void;
  /** Ends all background processes and retires it; resolves when each end is in the journal.
   *  Never rejects. */
  endProcesses(reason: ProcessEndReason): Promise<void>;
  /** True: what runs in it began under another policy than the present one. */
  isOutdated(): boolean;
  /** Resolves when the next of its calls ends; at once when there is none. */
  nextEnd(): Promise<void>;
}

/** The journal's side of background processes: see sessions/processes.ts. */
export interface ProcessBook {
  register(start: ProcessStart): Promise<void>;
  settle(call: EffectId, end?: ProcessEnd): Promise<void>;
  count(): number;
  settled(): Promise<void>;
}

export interface HostDeps extends ChildDeps {
  readonly session: SessionId;
  readonly spec: ChildSpec;
  readonly registry: Registry;
  readonly policy: () => SandboxPolicy;
  readonly artifactDir: string;
  /** Its share of the processor, where we may give shares. */
  readonly cgroups?: Cgroups | undefined;
  readonly onNetwork: (request: EventData<'network.request'>) => Promise<unknown>;
  readonly book: ProcessBook;
  /** It died: whoever is left of it is to be looked for. */
  readonly onLoss?: () => void;
  readonly readSecret: (use: SecretUse) => Promise<SecretAnswer>;
  /** What is not to be shown; the same object while nothing changed. */
  readonly fingerprints: () => Fingerprints;
  /** Absent: it is not asked whether it lives. */
  readonly heartbeatMs?: () => number;
}

const INITIALIZE_TIMEOUT_MS = 20_000;
const OUTPUTS_MAX = 256;
/** A thread, its file, its schema: the host answers first. */
const CHECK_MS = 20_000;
/** To kill all processes of all that run in the background, and to write that down. */
const END_TIMEOUT_MS = 5000;
/** For the host, its file host, searches that run side by side, and what is parked. */
const OWN_BYTES = 2 ** 30;
/** Added to the call's own time limit: the host answers first, this is the backstop. */
const CALL_MARGIN_MS = 30_000;

/** Failures of a start that another start may not meet. */
const PASSING: readonly ErrorCode[] = [
  'SANDBOX_UNAVAILABLE',
  'SPAWN_FAILED',
  'WORKER_START_TIMEOUT',
  'PEER_CLOSED',
];

interface Call {
  readonly live: LiveRun;
  readonly ended: PromiseWithResolvers<void>;
  /** Cancelled, perhaps before the host was there to be told. */
  cancelled: boolean;
}

interface Started {
  readonly child: HostChild;
  readonly report: SandboxReport;
  /** Tells it what is not to be shown, where that has changed since it was told. */
  tellFingerprints(): void;
}

export function createHost(deps: HostDeps): Host {
  const calls = new Map<EffectId, Call>();
  const flow = createFlowLimit(OUTPUTS_MAX);
  let live: Started | undefined;
  let starting: Promise<Started> | undefined;
  let report: SandboxReport | undefined;
  let retiring = false;
  let policyDigest: string | undefined;

  async function launch(): Promise<Started> {
    let markReady: () => void = () => undefined;
    const ready = new Promise<void>((resolve) => {
      markReady = resolve;
    });
    const own = openOwn(deps.book, () => child);
    let told: Fingerprints | undefined;
    function tellFingerprints(): void {
      const fingerprints = deps.fingerprints();
      if (told === fingerprints) return;
      told = fingerprints;
      void child.connection.notify('sandbox/fingerprints', fingerprints);
    }
    const child: HostChild = await startChild({
      ...deps,
      local,
      remote,
      requests: {
        async 'secret/read'(use) {
          const answer = await deps.readSecret(use);
          // Set anew under a call: the host knows the value by sight before it has it.
          tellFingerprints();
          return answer;
        },
        'process/register': own.register,
      },
      notifications: {
        'process/exited': ({ call_id: call, ...end }) => {
          own.forget(call);
          flow.track(deps.book.settle(call, end).then(releaseRetired));
        },
        'sandbox/ready': () => markReady(),
        'tool/output': (output) => {
          const call = calls.get(output.effect);
          if (call !== undefined) flow.track(call.live.onOutput(output));
        },
        'network/request': (request) => {
          const { call_id: id } = request;
          const call = id === undefined ? undefined : calls.get(id);
          flow.track(call === undefined ? deps.onNetwork(request) : call.live.onRequest(request));
        },
      },
      ready,
      holdReading: () => flow.hold(),
      // Before it starts anything: what it starts is in there, and ends with it.
      enclose: (pid) => {
        const memoryBytes = toBackstop(deps.policy());
        const limit = memoryBytes === undefined ? {} : { memoryBytes };
        return deps.cgroups?.enclose({ kind: 'host', pid, ...limit });
      },
      onStarted: (identity) =>
        deps.registry.add({ kind: 'sandbox', session: deps.session, identity }),
      onExited: (identity) => deps.registry.remove(identity),
    });
    void child.exited.then(({ signal }) => {
      own.settleAll();
      const isLost = live?.child === child;
      if (isLost) live = undefined;
      // Also one that was killed as it started.
      if (isLost || signal !== undefined) deps.onLoss?.();
    });
    try {
      const { session: sessionId, artifactDir } = deps;
      const policy = deps.policy();
      told = deps.fingerprints();
      const params = { sessionId, policy, artifactDir, fingerprints: told };
      const options = { timeoutMs: INITIALIZE_TIMEOUT_MS };
      const said = await child.connection.request('sandbox/initialize', params, options);
      beat(child);
      policyDigest = toPolicyDigest(policy);
      return { child, report: said, tellFingerprints };
    } catch (error) {
      void child.stop();
      throw error;
    }
  }

  function beat(child: HostChild): void {
    const { clock, logger, heartbeatMs: intervalMs } = deps;
    if (intervalMs === undefined) return;
    const ping = (timeoutMs: number) => child.connection.request('sandbox/ping', {}, { timeoutMs });
    // A host that was released finishes what runs, alone: it is not ours to kill any more.
    const isHeld = (): boolean => live?.child !== child || flow.hold() !== undefined;
    startHeartbeat({ clock, logger, kind: 'sandbox', intervalMs, ping, isHeld }, child);
  }

  async function ensure(): Promise<Started> {
    if (live?.child.isAlive()) return live;
    starting ??= launch().then(
      (started) => {
        live = started;
        report = started.report;
        starting = undefined;
        return started;
      },
      (error: unknown) => {
        starting = undefined;
        throw error;
      },
    );
    return starting;
  }

  /** One that died as it started, or whose cell did, says nothing about the next one, and nothing
   *  ran in it. */
  async function ensureTwice(): Promise<Started> {
    try {
      return await ensure();
    } catch (error) {
      const { code, message } = toPrxError(error);
      if (!PASSING.includes(code)) throw error;
      deps.logger.warn('host.start_again', { code, message });
      return ensure();
    }
  }

  return {
    child: () => live?.child,
    report: () => report,
    policyDigest: () => policyDigest,
    async prepare() {
      await ensureTwice();
    },
    async check(tool, value) {
      const { connection } = (await ensureTwice()).child;
      const params = { tool, arguments: value };
      return (await connection.request('tool/check', params, { timeoutMs: CHECK_MS })).problem;
    },
    async run(run, live) {
      retiring = false;
      const call: Call = { live, cancelled: false, ended: Promise.withResolvers() };
      calls.set(run.effect, call);
      try {
        return await request(run, call);
      } finally {
        calls.delete(run.effect);
        releaseRetired();
        call.ended.resolve();
      }
    },
    cancel(effect) {
      const call = calls.get(effect);
      if (call !== undefined) call.cancelled = true;
      void live?.child.connection.notify('tool/cancel', { effect });
    },
    release,
    retire() {
      retiring = true;
      releaseRetired();
    },
    isOutdated: () => live !== undefined && toPolicyDigest(deps.policy()) !== policyDigest,
    async nextEnd() {
      if (calls.size > 0) await Promise.race([...calls.values()].map(({ ended }) => ended.promise));
    },
    async endProcesses(reason) {
      if (deps.book.count() === 0) return;
      const child = live?.child;
      const options = { timeoutMs: END_TIMEOUT_MS };
      await child?.connection.request('process/end_all', { reason }, options).catch(() => {
        // Silent, or dead: the cell ends with it.
        child.kill('unresponsive');
        return child.exited;
      });
      retiring = true;
      releaseRetired();
      await deps.book.settled();
    },
  };

  function releaseRetired(): void {
    if (retiring && calls.size === 0 && deps.book.count() === 0) release();
  }

  async function request(run: ToolRun, call: Call): Promise<ToolOutcome> {
    // A failure before the request is sent means that nothing ran.
    const started = await ensureTwice();
    const { child } = started;
    if (call.cancelled) return NOT_RUN;
    started.tellFingerprints();
    try {
      const timeoutMs = askedTimeoutMs(run.arguments, deps.policy().timeoutMs) + CALL_MARGIN_MS;
      return await child.connection.request('tool/run', run, { timeoutMs });
    } catch (error) {
      const known = toPrxError(error);
      if (known.code === 'DEADLINE_EXCEEDED') child.kill('unresponsive');
      const isLost = known.code === 'PEER_CLOSED' || known.code === 'DEADLINE_EXCEEDED';
      throw isLost ? childLost('sandbox', known) : known;
    }
  }

  function letGo(child: HostChild): void {
    child.connection.close();
    // One that does not go is ended as if we had died.
    deps.registry.disown(child.identity);
  }

  function release(): void {
    if (live !== undefined) letGo(live.child);
    live = undefined;
    void starting?.then(
      (started) => {
        letGo(started.child);
        if (live === started) live = undefined;
      },
      () => undefined,
    );
  }
}

/** What may be used by all that a host has at once, each within its own limit: then the kernel may
 *  end a tool there. Undefined: a call has no limit, or calls of custom tools run side by side. */
function toBackstop(policy: SandboxPolicy): number | undefined {
  const { memoryLimitBytes: each, backgroundMax, custom } = policy;
  if (each === 0 || custom !== undefined) return undefined;
  return OWN_BYTES + each * (1 + backgroundMax);
}

/** The processes that one host started: its death is theirs. */
function openOwn(book: ProcessBook, child: () => HostChild) {
  const calls = new Set<EffectId>();
  return {
    async register(start: ProcessStart): Promise<Record<string, never>> {
      calls.add(start.call_id);
      await book.register(start);
      // It died meanwhile, and its end found no start to close.
      if (!child().isAlive()) void book.settle(start.call_id);
      return {};
    },
    forget: (call: EffectId) => void calls.delete(call),
    settleAll(): void {
      for (const call of calls) void book.settle(call);
    },
  };
}

const NOT_RUN: ToolOutcome = {
  status: 'cancelled',
  output: 'not run: the turn was interrupted before the sandbox was ready',
  duration_ms: 0,
  truncated: false,
};

/** The limit the host applies: what the call asks for, at most the policy's. */
function askedTimeoutMs(value: unknown, maxMs: number): number {
  const asked =
    typeof value === 'object' && value !== null && 'timeout_secs' in value
      ? Number(value.timeout_secs) * 1000
      : maxMs;
  if (Number.isNaN(asked))
    throw new PrxError('TOOL_ARGUMENTS_INVALID', 'timeout_secs is no number');
  return Math.min(asked, maxMs);
}
