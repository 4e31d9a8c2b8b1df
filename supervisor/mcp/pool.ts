/** All MCP servers of a supervisor: one host each for everybody, or one a session where the server
 *  keeps state; what each offered last; and which of it a session may use. A server that cannot be
 *  used costs its tools, says why in `status`, and holds no session up for long. */

import type { Clock } from '../../base/clock.ts';
import { PrxError, toPrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { ToolOutcome } from '../../protocol/content.ts';
import type { EffectId, SessionId } from '../../protocol/ids.ts';
import type { McpListing } from '../../protocol/mcp-methods.ts';
import { findMcpServer, toMcpToolName } from '../../protocol/mcp-names.ts';
import type { StatusView } from '../../protocol/resources.ts';
import type { SandboxLevel } from '../../protocol/sandbox-levels.ts';
import type { ToolSpec } from '../../protocol/tools.ts';
import type { AgentManifest } from '../../protocol/worker-methods.ts';
import { createMcpHost, type McpHost, type McpHostDeps } from '../children/mcp-host.ts';
import type { AgentConfig, Config, Environment } from '../config.ts';
import { isOffered, type McpToolFacts } from '../effects/mcp-policy.ts';
import type { McpGate, ToolRun } from '../effects/ports.ts';
import { findKeySource } from '../secrets/vault-key.ts';
import { agentOf } from '../settings.ts';
import { findServersOf, isMcpToolListed, type McpServerConfig, toMcpServer } from './servers.ts';

/** One session's view of the pool. */
export interface McpSession extends McpGate {
  /** Resolves when the servers of this agent have said what they offer, or have had their time;
   *  undefined: there is nothing to wait for. */
  ready(agent: AgentConfig, signal: AbortSignal): Promise<void> | undefined;
  prepare(tool: string): Promise<void>;
  run(run: ToolRun): Promise<ToolOutcome>;
  cancel(effect: EffectId): void;
  /** Lets the session's own servers go. */
  retire(): void;
}

export interface McpPool extends Pick<McpGate, 'find' | 'names'> {
  session(id: SessionId): McpSession;
  /** The manifest with the tools of servers that its agent may use. */
  extend(manifest: AgentManifest): AgentManifest;
  /** Empty where no server is configured. */
  status(): Pick<StatusView, 'mcp'>;
  /** Of one session's own servers, or all there are. */
  processes(session: SessionId | undefined): readonly number[];
  /** The configuration changed: hosts that were started under another one are let go. */
  reload(): void;
  release(): void;
}

export interface McpPoolDeps
  extends Omit<McpHostDeps, 'server' | 'session' | 'onListing' | 'onState'> {
  readonly clock: Clock;
  readonly config: () => Config;
  readonly env: Environment;
  /** The level of sandboxes on this machine. */
  readonly level: () => string;
  /** The newest turn of a session. */
  readonly turnOf: (session: SessionId) => number;
  /** At which servers are started. */
  readonly startLevel: () => SandboxLevel;
  readonly onChanged: (change: {
    readonly server: string;
    readonly state: 'started' | 'failed';
    readonly tools: number;
    readonly reason: string;
  }) => void;
}

interface Entry {
  readonly server: string;
  readonly session: SessionId | undefined;
  /** The configuration it was made for. */
  readonly digest: string;
  readonly host: McpHost;
}

interface Known extends McpListing {
  readonly digest: string;
  readonly level?: string;
}

/** Hosts at once, shared ones and sessions' own ones. */
const HOSTS_MAX = 64;
/** How long the start of a worker waits for servers that it knows nothing of yet. */
const READY_MS = 10_000;

export function createMcpPool(deps: McpPoolDeps): McpPool {
  const { clock, logger } = deps;
  const entries = new Map<string, Entry>();
  /** Let go while a call ran; still to be told of a cancel. */
  const leaving = new Set<McpHost>();
  /** What each server offered last. */
  const known = new Map<string, Known>();
  /** Of which configuration the last start failed, or the last life ended. */
  const failed = new Map<string, string>();

  const toSessionLogger = (session: SessionId): Logger =>
    logger.child(() => ({ session, turn: deps.turnOf(session) }));
  const names = (): readonly string[] => Object.keys(deps.config().raw.mcp.servers);
  const serverOf = createLookup(deps);
  const digestOf = (name: string): string => serverOf(name).digest;

  function findKnown(name: string): Known | undefined {
    const listing = known.get(name);
    return listing?.digest === digestOf(name) ? listing : undefined;
  }

  function find(tool: string): McpToolFacts | undefined {
    const name = findMcpServer(tool);
    if (name === undefined || !names().includes(name)) return undefined;
    const { policy, isUnconfined, effects, reach } = serverOf(name).server;
    const own = Object.keys(effects).find((each) => toMcpToolName(name, each) === tool);
    const effect = own === undefined ? 'write' : (effects[own] ?? 'write');
    const isRemote = reach.kind === 'url';
    return { server: name, policy, isUnconfined, effect, isRemote, digest: digestOf(name) };
  }

  function specs(agent: AgentConfig): readonly ToolSpec[] {
    return findServersOf(agent.listedTools, names())
      .flatMap((name) => findKnown(name)?.tools ?? [])
      .map(({ spec }) => spec)
      .filter(({ name }) => isMcpToolListed(agent.listedTools, name))
      .filter(({ name }) => {
        const facts = find(name);
        if (facts === undefined) return false;
        return isOffered(deps.config().policy, { tool: name, level: deps.level(), facts });
      });
  }

  function entryOf(name: string, session: SessionId): Entry {
    if (!names().includes(name)) {
      throw new PrxError('MCP_UNAVAILABLE', `there is no MCP server ${name} any more`);
    }
    const { server, digest } = serverOf(name);
    const owner = server.shared ? undefined : session;
    const key = toKey(name, owner);
    const present = entries.get(key);
    if (present?.digest === digest) return present;
    if (present !== undefined) letGo(key, present);
    const live = [...entries.values()].filter(({ host }) => host.child() !== undefined);
    if (live.length >= HOSTS_MAX) {
      const message = `${HOSTS_MAX} MCP servers run already; close a session, or share the server`;
      throw new PrxError('MCP_UNAVAILABLE', message, { data: { server: name } });
    }
    const own = owner === undefined ? logger : toSessionLogger(owner);
    const host = createMcpHost({
      ...deps,
      logger: own,
      server,
      session: owner,
      onListing(listing) {
        const level = listing.level ?? known.get(name)?.level;
        known.set(name, { ...listing, digest, ...(level === undefined ? {} : { level }) });
        const { tools, problems } = listing;
        own.info('mcp.tools', { server: name, tools: tools.length, problems });
      },
      onState(state, reason) {
        if (state === 'failed') failed.set(name, digest);
        else failed.delete(name);
        const tools = known.get(name)?.tools.length ?? 0;
        deps.onChanged({ server: name, state, tools, reason });
      },
    });
    const entry: Entry = { server: name, session: owner, digest, host };
    entries.set(key, entry);
    return entry;
  }

  function letGo(key: string, { host }: Entry): void {
    entries.delete(key);
    for (const each of leaving) if (!each.isBusy()) leaving.delete(each);
    host.retire();
    // Also one that is only starting for a call: nothing may run behind a cancel.
    if (host.isBusy()) leaving.add(host);
  }

  function entryFor(tool: string, session: SessionId): Entry {
    return entryOf(findMcpServer(tool) ?? '', session);
  }

  /** Its failure is in `status`; here it only means that there are no tools. */
  async function learn(name: string, session: SessionId): Promise<void> {
    if (findKnown(name) !== undefined) return;
    try {
      await entryOf(name, session).host.ensure();
    } catch (error) {
      toSessionLogger(session).warn('mcp.unavailable', {
        server: name,
        error: toPrxError(error).message,
      });
    }
  }

  /** Started again and again without success, it is not waited for each time. */
  function awaitServers(
    unknown: readonly string[],
    session: SessionId,
    signal: AbortSignal,
  ): Promise<void> | undefined {
    const learning = unknown.map((name) => ({ name, learned: learn(name, session) }));
    const wanted = learning.filter(({ name }) => failed.get(name) !== digestOf(name));
    if (wanted.length === 0) return undefined;
    const waited = new AbortController();
    const over = AbortSignal.any([waited.signal, signal]);
    const all = Promise.all(wanted.map(({ learned }) => learned));
    return Promise.race([all.then(() => undefined), clock.sleep(READY_MS, over)]).finally(() =>
      waited.abort(),
    );
  }

  const namesOf = (agent: AgentConfig): readonly string[] => specs(agent).map(({ name }) => name);

  return {
    find,
    names: namesOf,
    session: (id) => ({
      find,
      names: namesOf,
      async check(tool, value) {
        try {
          return await entryFor(tool, id).host.check(tool, value);
        } catch (error) {
          return `${toPrxError(error).message}; nothing ran`;
        }
      },
      ready(agent, signal) {
        const wanted = findServersOf(agent.listedTools, names());
        const unknown = wanted.filter((name) => findKnown(name) === undefined);
        return unknown.length === 0 ? undefined : awaitServers(unknown, id, signal);
      },
      prepare: async (tool) => entryFor(tool, id).host.ensure(),
      run: async (run) => entryFor(run.tool, id).host.run(id, run),
      cancel(effect) {
        for (const { host } of entries.values()) host.cancel(id, effect);
        for (const host of leaving) host.cancel(id, effect);
      },
      retire() {
        for (const [key, entry] of entries) {
          if (entry.session === id) letGo(key, entry);
        }
      },
    }),
    extend(manifest) {
      const agent = agentOf(deps.config(), manifest.agent);
      return { ...manifest, tools: [...manifest.tools, ...specs(agent)] };
    },
    status: () => toStatus(names(), [...entries.values()], findKnown),
    processes: (session) =>
      [...entries.values()]
        .filter((entry) => session === undefined || entry.session === session)
        .flatMap(({ host }) => host.child()?.pid ?? []),
    reload() {
      for (const [key, entry] of entries) {
        if (names().includes(entry.server) && digestOf(entry.server) === entry.digest) continue;
        letGo(key, entry);
      }
    },
    release() {
      for (const { host } of entries.values()) host.release();
    },
  };
}

interface Compiled {
  readonly server: McpServerConfig;
  readonly digest: string;
}

/** Compiled once for each configuration and level: asked for every tool of every call. */
function createLookup({
  config,
  env,
  startLevel,
}: Pick<McpPoolDeps, 'config' | 'env' | 'startLevel'>): (name: string) => Compiled {
  const compiled = new Map<string, Compiled>();
  let source: Config | undefined;
  let level: SandboxLevel | undefined;
  return (name) => {
    if (source !== config() || level !== startLevel()) compiled.clear();
    source = config();
    level = startLevel();
    const known = compiled.get(name);
    if (known !== undefined) return known;
    const server = toMcpServer({ ...source, keyFile: findKeyFile(source, env) }, name, level);
    const made = { server, digest: JSON.stringify(server) };
    compiled.set(name, made);
    return made;
  };
}

function findKeyFile({ raw }: Config, env: Environment): string | undefined {
  const source = findKeySource(raw.secrets, env);
  return source.kind === 'file' ? source.path : undefined;
}

function toKey(server: string, session: SessionId | undefined): string {
  return session === undefined ? server : `${server}/${session}`;
}

function toStatus(
  names: readonly string[],
  entries: readonly Entry[],
  findKnown: (name: string) => Known | undefined,
): Pick<StatusView, 'mcp'> {
  if (names.length === 0) return {};
  const mcp = names.map((server): NonNullable<StatusView['mcp']>[number] => {
    const hosts = entries.filter((entry) => entry.server === server).map(({ host }) => host);
    const processes = hosts.filter((host) => host.child() !== undefined).length;
    const failures = [...new Set(hosts.flatMap((host) => host.failure() ?? []))];
    const listing = findKnown(server);
    const level = listing?.level;
    return {
      server,
      state: failures.length > 0 ? 'failed' : processes > 0 ? 'running' : 'idle',
      processes,
      tools: listing?.tools.length ?? 0,
      ...(level === undefined ? {} : { level }),
      problems: [...failures, ...(listing?.problems ?? [])],
    };
  });
  return { mcp };
}
