/** One sandbox host per session that uses tools: started at the first call, asked to go when the
 *  session hibernates or closes. A host that dies under a call is HOST_LOST: the asker looks into
 *  the call's spool. */
import { PrxError, toPrxError } from '../../base/errors.ts';
import { createFlowLimit } from '../../base/flow-limit.ts';
import type { EffectId, SessionId } from '../../protocol/ids.ts';
import {
  type SandboxPolicy,
  type SandboxReport,
  sandboxNotifications,
  sandboxReports,
  sandboxRequests,
  type ToolOutput,
} from '../../protocol/sandbox-methods.ts';
import type { HostPort } from '../effects/ports.ts';
import { type Child, type ChildDeps, type ChildSpec, childLost, startChild } from './child.ts';
import type { Registry } from './registry.ts';

const remote = { requests: sandboxRequests, notifications: sandboxNotifications };
const local = { requests: {}, notifications: sandboxReports };
type HostChild = Child<typeof remote>;

export interface Host extends HostPort {
  child(): HostChild | undefined;
  /** What the sandbox said of itself; undefined before the first start. */
  report(): SandboxReport | undefined;
  /** EOF: it finishes what runs, alone, and exits. */
  release(): void;
}

export interface HostDeps extends ChildDeps {
  readonly session: SessionId;
  readonly spec: ChildSpec;
  readonly registry: Registry;
  readonly policy: () => SandboxPolicy;
  readonly artifactDir: string;
}

const INITIALIZE_TIMEOUT_MS = 20_000;
const OUTPUTS_MAX = 256;
/** Added to the call's own time limit: the host answers first, this is the backstop. */
const CALL_MARGIN_MS = 30_000;

interface Started {
  readonly child: HostChild;
  readonly report: SandboxReport;
}

export function createHost(deps: HostDeps): Host {
  const listeners = new Map<EffectId, (output: ToolOutput) => Promise<void>>();
  const flow = createFlowLimit(OUTPUTS_MAX);
  let live: Started | undefined;
  let starting: Promise<Started> | undefined;
  let report: SandboxReport | undefined;

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
          const listener = listeners.get(output.effect);
          if (listener !== undefined) flow.track(listener(output));
        },
      },
      ready,
      holdReading: () => flow.hold(),
      onStarted: (identity) =>
        deps.registry.add({ kind: 'sandbox', session: deps.session, identity }),
    });
    void child.exited.then(() => {
      if (live?.child === child) live = undefined;
      deps.registry.remove(child.identity);
    });
    try {
      const { session: sessionId, artifactDir } = deps;
      const params = { sessionId, policy: deps.policy(), artifactDir };
      const options = { timeoutMs: INITIALIZE_TIMEOUT_MS };
      return {
        child,
        report: await child.connection.request('sandbox/initialize', params, options),
      };
    } catch (error) {
      void child.stop();
      throw error;
    }
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
      // A failure before the request is sent means that nothing ran.
      const { child } = await ensure();
      listeners.set(run.effect, onOutput);
      try {
        const timeoutMs = askedTimeoutMs(run.arguments, deps.policy().timeoutMs) + CALL_MARGIN_MS;
        return await child.connection.request('tool/run', run, { timeoutMs });
      } catch (error) {
        const known = toPrxError(error);
        if (known.code === 'DEADLINE_EXCEEDED') child.kill('unresponsive');
        const isLost = known.code === 'PEER_CLOSED' || known.code === 'DEADLINE_EXCEEDED';
        throw isLost ? childLost('sandbox', known) : known;
      } finally {
        listeners.delete(run.effect);
      }
    },
    cancel(effect) {
      void live?.child.connection.notify('tool/cancel', { effect });
    },
    release() {
      live?.child.connection.close();
      live = undefined;
      void starting?.then(
        ({ child }) => child.connection.close(),
        () => undefined,
      );
    },
  };
}

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
