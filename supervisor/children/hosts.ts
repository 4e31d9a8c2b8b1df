/** One sandbox host per session that uses tools: started at the first call, asked to go when the
 *  session hibernates or closes. A host that dies under a call is HOST_LOST: the asker looks into
 *  the call's spool. */
import { PrxError, toPrxError } from '../../base/errors.ts';
import { createFlowLimit } from '../../base/flow-limit.ts';
import type { ToolOutcome } from '../../protocol/content.ts';
import type { EffectId, SessionId } from '../../protocol/ids.ts';
import {
  type SandboxPolicy,
  type SandboxReport,
  sandboxNotifications,
  sandboxReports,
  sandboxRequests,
  type ToolOutput,
} from '../../protocol/sandbox-methods.ts';
import type { HostPort, ToolRun } from '../effects/ports.ts';
import { type Child, type ChildDeps, type ChildSpec, childLost, startChild } from './child.ts';
import { startHeartbeat } from './lifecycle-heartbeat.ts';
import type { Registry } from './registry.ts';

const remote = { requests: sandboxRequests, notifications: sandboxNotifications };
const local = { requests: {}, notifications: sandboxReports };
type HostChild = Child<typeof remote>;

export interface Host extends HostPort {
  child(): HostChild | undefined;
  /** What the sandbox said of itself; undefined before the first start. */
  report(): SandboxReport | undefined;
  /** EOF: it finishes what runs, alone, and exits. What runs is lost to us: only when we stop. */
  release(): void;
  /** Releases it as soon as no call runs; a call that comes first keeps it. */
  retire(): void;
}

export interface HostDeps extends ChildDeps {
  readonly session: SessionId;
  readonly spec: ChildSpec;
  readonly registry: Registry;
  readonly policy: () => SandboxPolicy;
  readonly artifactDir: string;
  /** Absent: it is not asked whether it lives. */
  readonly heartbeatMs?: () => number;
}

const INITIALIZE_TIMEOUT_MS = 20_000;
const OUTPUTS_MAX = 256;
/** Added to the call's own time limit: the host answers first, this is the backstop. */
const CALL_MARGIN_MS = 30_000;

interface Call {
  readonly onOutput: (output: ToolOutput) => Promise<void>;
  /** Cancelled, perhaps before the host was there to be told. */
  cancelled: boolean;
}

interface Started {
  readonly child: HostChild;
  readonly report: SandboxReport;
}

export function createHost(deps: HostDeps): Host {
  const calls = new Map<EffectId, Call>();
  const flow = createFlowLimit(OUTPUTS_MAX);
  let live: Started | undefined;
  let starting: Promise<Started> | undefined;
  let report: SandboxReport | undefined;
  let retiring = false;

  async function launch(): Promise<Started> {
    let markReady: () => void = () => undefined;
    const ready = new Promise<void>((resolve) => {
      markReady = resolve;
    });
    const child = await startChild({
      ...deps,
      local,
      remote,
      requests: {},
      notifications: {
        'sandbox/ready': () => markReady(),
        'tool/output': (output) => {
          const call = calls.get(output.effect);
          if (call !== undefined) flow.track(call.onOutput(output));
        },
      },
      ready,
      holdReading: () => flow.hold(),
      onStarted: (identity) =>
        deps.registry.add({ kind: 'sandbox', session: deps.session, identity }),
      onExited: (identity) => deps.registry.remove(identity),
    });
    void child.exited.then(() => {
      if (live?.child === child) live = undefined;
    });
    try {
      const { session: sessionId, artifactDir } = deps;
      const params = { sessionId, policy: deps.policy(), artifactDir };
      const options = { timeoutMs: INITIALIZE_TIMEOUT_MS };
      const said = await child.connection.request('sandbox/initialize', params, options);
      beat(child);
      return { child, report: said };
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

  return {
    child: () => live?.child,
    report: () => report,
    async prepare() {
      await ensure();
    },
    async run(run, onOutput) {
      retiring = false;
      const call: Call = { onOutput, cancelled: false };
      calls.set(run.effect, call);
      try {
        return await request(run, call);
      } finally {
        calls.delete(run.effect);
        if (retiring && calls.size === 0) release();
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
      if (calls.size === 0) release();
    },
  };

  async function request(run: ToolRun, call: Call): Promise<ToolOutcome> {
    // A failure before the request is sent means that nothing ran.
    const { child } = await ensure();
    if (call.cancelled) return NOT_RUN;
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
