/** One MCP host: started when a session first asks for its server, started again after a death,
 *  with back-off and at most so many times, and then the server costs its tools and nothing else.
 *  A host that dies under a call is HOST_LOST: the asker looks into the call's spool. */
import { PrxError, toPrxError } from '../../base/errors.ts';
import type { ToolOutcome } from '../../protocol/content.ts';
import type { Fingerprints } from '../../protocol/fingerprints.ts';
import type { EffectId, SessionId } from '../../protocol/ids.ts';
import {
  type McpListing,
  type McpSecrets,
  mcpAsks,
  mcpListingSchema,
  mcpNotifications,
  mcpReports,
  mcpRequests,
} from '../../protocol/mcp-methods.ts';
import { redactText } from '../../protocol/redactor.ts';
import type { ToolRun } from '../effects/ports.ts';
import type { McpServerConfig } from '../mcp/servers.ts';
import type { Cgroups } from './cgroup.ts';
import { type Child, type ChildDeps, type ChildSpec, childLost, startChild } from './child.ts';
import { startHeartbeat } from './lifecycle-heartbeat.ts';
import type { Registry } from './registry.ts';
import { backoffMs } from './restart.ts';

const remote = { requests: mcpRequests, notifications: mcpNotifications };
const local = { requests: mcpAsks, notifications: mcpReports };
type McpChild = Child<typeof remote>;

export interface McpHost {
  child(): McpChild | undefined;
  /** A call runs in it, or will when it is there. */
  isBusy(): boolean;
  /** Why it cannot be used now; undefined: it can, or was not asked for yet. */
  failure(): string | undefined;
  /** Has it ready. Throws MCP_UNAVAILABLE, or what kept its process from starting. */
  ensure(): Promise<void>;
  /** What is wrong with a call's arguments, as a sentence. Throws like `ensure`. */
  check(tool: string, value: unknown): Promise<string | undefined>;
  /** Runs one call. Rejects with HOST_LOST when the host died under it. */
  run(session: SessionId, run: ToolRun): Promise<ToolOutcome>;
  cancel(session: SessionId, effect: EffectId): void;
  /** EOF: it finishes what runs, alone, and exits. */
  release(): void;
  /** Releases it as soon as no call runs; a call that comes first keeps it. */
  retire(): void;
}

export interface McpHostDeps extends ChildDeps {
  readonly server: McpServerConfig;
  /** Whose it is alone; undefined: everybody's. */
  readonly session: SessionId | undefined;
  readonly spec: ChildSpec;
  readonly registry: Registry;
  readonly random: { next(): number };
  readonly artifactsDir: string;
  /** What is not to be shown of what it answers. */
  readonly fingerprints: () => Fingerprints;
  /** What the headers of this server name; for one whose session has ended, what is everybody's. */
  readonly readSecrets: (
    server: Pick<McpServerConfig, 'name' | 'reach'>,
    session: SessionId | undefined,
  ) => Promise<McpSecrets>;
  readonly cgroups?: Cgroups | undefined;
  readonly heartbeatMs?: () => number;
  readonly onListing: (listing: McpListing & { readonly level?: string }) => void;
  /** It was started, or is gone though nobody wanted that. */
  readonly onState: (state: 'started' | 'failed', reason: string) => void;
}

/** Behind the server's own limits for its start and its first list. */
const INITIALIZE_TIMEOUT_MS = 60_000;
/** To look at arguments: milliseconds, unless the schema was made to be slow. */
const CHECK_TIMEOUT_MS = 3000;
/** Added to the call's own time limit: the host answers first, this is the backstop. */
const CALL_MARGIN_MS = 10_000;
/** One that lived this long has shown that it works. */
const HEALTHY_MS = 60_000;
const STARTS_MAX = 10;
const STARTS_WINDOW_MS = 600_000;
/** A pause that an asker waits for; a longer one is an answer. */
const WAIT_MS_MAX = 1000;

interface Call {
  cancelled: boolean;
}

export function createMcpHost(deps: McpHostDeps): McpHost {
  const { clock, logger, server } = deps;
  const { name } = server;
  const calls = new Map<string, Call>();
  const starts: number[] = [];
  /** Those whose end was heard, or wanted. */
  const over = new WeakSet<McpChild>();
  let live: McpChild | undefined;
  let starting: Promise<McpChild> | undefined;
  let failure: string | undefined;
  /** Deaths and failed starts in a row, none of which lived long. */
  let failures = 0;
  let notBeforeMs = 0;
  let startedMs = 0;
  let retiring = false;

  /** What a server says outside of its answers is in events, in `status` and before models, too. */
  const clean = (text: string): string => redactText(text, deps.fingerprints());

  function cleanError({ code, message, data, cause }: PrxError): PrxError {
    return new PrxError(code, clean(message), { data, cause });
  }

  function takeListing({ level, ...said }: McpListing & { readonly level?: string }): void {
    const listing = mcpListingSchema.parse(JSON.parse(clean(JSON.stringify(said))));
    deps.onListing({ ...listing, ...(level === undefined ? {} : { level }) });
  }

  function fail(reason: string): void {
    failures += 1;
    notBeforeMs = clock.nowMs() + backoffMs(failures, deps.random.next());
    failure = reason;
    deps.onState('failed', reason);
  }

  /** The first word of its end counts: its own, that of its pipe, or its exit. */
  function lose(child: McpChild, reason: string): void {
    if (over.has(child)) return;
    over.add(child);
    if (live === child) live = undefined;
    if (clock.nowMs() - startedMs > HEALTHY_MS) failures = 0;
    fail(reason);
  }

  /** @throws MCP_UNAVAILABLE while it may not be started. */
  async function pause(): Promise<void> {
    const nowMs = clock.nowMs();
    while (starts[0] !== undefined && nowMs - starts[0] > STARTS_WINDOW_MS) starts.shift();
    if (starts.length >= STARTS_MAX) {
      const limits = `${STARTS_MAX} times within ${STARTS_WINDOW_MS / 60_000} minutes`;
      throw unavailable(name, `it was started ${limits}; the last time: ${failure ?? 'it ended'}`);
    }
    const waitMs = notBeforeMs - nowMs;
    if (waitMs > WAIT_MS_MAX) {
      const secs = Math.ceil(waitMs / 1000);
      throw unavailable(
        name,
        `${failure ?? 'it ended'}; it is started again in ${secs} s at the earliest`,
      );
    }
    if (waitMs > 0) await clock.sleep(waitMs);
  }

  async function launch(): Promise<McpChild> {
    await pause();
    startedMs = clock.nowMs();
    starts.push(startedMs);
    let own: McpChild | undefined;
    const ready = Promise.withResolvers<void>();
    const child = await startChild({
      ...deps,
      local,
      remote,
      requests: { 'mcp/secrets': () => deps.readSecrets(server, deps.session) },
      notifications: {
        'mcp/ready': () => ready.resolve(),
        'mcp/tools': takeListing,
        'mcp/ending': ({ reason }) => {
          if (own !== undefined) lose(own, clean(reason));
        },
      },
      ready: ready.promise,
      enclose: (pid) => deps.cgroups?.enclose({ kind: 'host', pid }),
      onStarted: (identity) => deps.registry.add({ kind: 'mcp', session: deps.session, identity }),
      onExited: (identity) => deps.registry.remove(identity),
    });
    void child.exited.then((exit) => {
      // One that dies before it is ready has an asker, who hears it.
      if (own !== undefined) lose(own, `its host died (${exit.cause})`);
    });
    await initialize(child);
    own = child;
    return child;
  }

  async function initialize(child: McpChild): Promise<void> {
    const { reach, timeoutMs, maxOutputBytes } = server;
    const { artifactsDir } = deps;
    const params = { server: name, reach, timeoutMs, maxOutputBytes, artifactsDir };
    try {
      const options = { timeoutMs: INITIALIZE_TIMEOUT_MS };
      const said = await child.connection.request('mcp/initialize', params, options);
      takeListing(said);
      failure = undefined;
      deps.onState('started', clean(said.problems.join('; ')));
    } catch (error) {
      void child.stop();
      throw error;
    }
    const { heartbeatMs: intervalMs } = deps;
    if (intervalMs === undefined) return;
    const ping = (timeoutMs: number) => child.connection.request('mcp/ping', {}, { timeoutMs });
    const isHeld = (): boolean => over.has(child);
    startHeartbeat({ clock, logger, kind: 'mcp', intervalMs, ping, isHeld }, child);
  }

  async function ensure(): Promise<McpChild> {
    if (live?.connection.isOpen() === true) return live;
    if (live !== undefined) lose(live, 'its host closed its pipe');
    starting ??= launch().then(
      (child) => {
        live = child;
        starting = undefined;
        return child;
      },
      (error: unknown) => {
        starting = undefined;
        const known = cleanError(toPrxError(error));
        // A pause is no further failure.
        if (known.data['paused'] !== true) fail(known.message);
        throw known;
      },
    );
    return starting;
  }

  function letGo(child: McpChild): void {
    over.add(child);
    child.connection.close();
    // One that does not go is ended as if we had died.
    deps.registry.disown(child.identity);
  }

  function release(): void {
    const child = live;
    live = undefined;
    if (child !== undefined) letGo(child);
    void starting?.then(
      (started) => {
        if (live === started) live = undefined;
        letGo(started);
      },
      () => undefined,
    );
  }

  /** One that is ending takes nothing new, so nothing was begun: the next one is asked. */
  async function useLive<T>(use: (child: McpChild) => Promise<T>): Promise<T> {
    const child = await ensure();
    try {
      return await use(child);
    } catch (error) {
      if (toPrxError(error).code !== 'SHUTTING_DOWN') throw error;
      lose(child, 'its host is ending');
      return use(await ensure());
    }
  }

  async function ask(child: McpChild, session: SessionId, run: ToolRun): Promise<ToolOutcome> {
    try {
      const timeoutMs = server.timeoutMs + CALL_MARGIN_MS;
      return await child.connection.request(
        'mcp/call',
        { ...run, session, fingerprints: deps.fingerprints() },
        { timeoutMs },
      );
    } catch (error) {
      const known = toPrxError(error);
      if (known.code === 'DEADLINE_EXCEEDED') child.kill('unresponsive');
      const isLost = known.code === 'PEER_CLOSED' || known.code === 'DEADLINE_EXCEEDED';
      throw isLost ? childLost('mcp', known) : known;
    }
  }

  return {
    child: () => live,
    isBusy: () => calls.size > 0,
    failure: () => failure,
    async ensure() {
      await ensure();
    },
    async check(tool, value) {
      const params = { tool, arguments: value };
      const options = { timeoutMs: CHECK_TIMEOUT_MS };
      return useLive(async (child) => {
        try {
          const { problem } = await child.connection.request('mcp/check', params, options);
          return problem === undefined ? undefined : clean(problem);
        } catch (error) {
          const known = toPrxError(error);
          if (known.code === 'SHUTTING_DOWN') throw known;
          // Nothing runs yet: one that was dying when it was asked may be followed by another.
          if (known.code === 'PEER_CLOSED') throw new PrxError('SHUTTING_DOWN', known.message);
          if (known.code === 'DEADLINE_EXCEEDED') child.kill('unresponsive');
          return `the arguments could not be checked: ${known.message}`;
        }
      });
    },
    async run(session, run) {
      retiring = false;
      const key = keyOf(session, run.effect);
      const call: Call = { cancelled: false };
      calls.set(key, call);
      try {
        // A failure before the request is sent means that nothing ran.
        return await useLive(async (child) =>
          call.cancelled ? NOT_RUN : ask(child, session, run),
        );
      } finally {
        calls.delete(key);
        if (retiring && calls.size === 0) release();
      }
    },
    cancel(session, effect) {
      const call = calls.get(keyOf(session, effect));
      if (call === undefined) return;
      call.cancelled = true;
      void live?.connection.notify('mcp/cancel', { session, effect });
    },
    release,
    retire() {
      retiring = true;
      if (calls.size === 0) release();
    },
  };
}

const NOT_RUN: ToolOutcome = {
  status: 'cancelled',
  output: 'not run: the turn was interrupted before the MCP server was ready',
  duration_ms: 0,
  truncated: false,
};

function unavailable(server: string, reason: string): PrxError {
  const message = `the MCP server ${server} cannot be used: ${reason}`;
  return new PrxError('MCP_UNAVAILABLE', message, { data: { server, paused: true } });
}

function keyOf(session: SessionId, effect: EffectId): string {
  return `${session}/${effect}`;
}
