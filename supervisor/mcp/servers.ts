/** The configured MCP servers: what is checked of them beyond their shape, and what a host is told.
 *  Pure. A list of allowed commands or URLs that is not empty refuses every other one. */
import type { McpReach } from '../../protocol/mcp-methods.ts';
import { findMcpServer, isMcpToolName } from '../../protocol/mcp-names.ts';
import { isBelow } from '../../protocol/mcp-urls.ts';
import { noNetwork } from '../../protocol/network.ts';
import { isConfining, type SandboxLevel } from '../../protocol/sandbox-levels.ts';
import type { RawConfig } from '../config-schema.ts';

export interface McpServerConfig {
  readonly name: string;
  readonly reach: McpReach;
  readonly shared: boolean;
  readonly policy: 'allow' | 'deny' | 'supervised' | undefined;
  /** Nothing of ours confines what it does: a URL, the whole network, or no sandbox. */
  readonly isUnconfined: boolean;
  /** By the server's own name of the tool; absent: write. */
  readonly effects: Readonly<Record<string, 'read' | 'idempotent' | 'write'>>;
  readonly timeoutMs: number;
  readonly maxOutputBytes: number;
}

/** What of the compiled configuration counts here. */
interface Source {
  readonly file: string | undefined;
  readonly stateDir: string;
  readonly raw: RawConfig;
  /** Of the vault; undefined: its key is in no file. */
  readonly keyFile: string | undefined;
}

type RawServer = RawConfig['mcp']['servers'][string];

/** Why a server may not be used; undefined: it may. */
export function findMcpProblem(raw: RawConfig, name: string): string | undefined {
  const server = raw.mcp.servers[name];
  if (server === undefined) return `there is no MCP server '${name}' in the configuration`;
  const { allowed_commands: commands, allowed_urls: urls } = raw.mcp;
  if (server.url !== undefined) {
    if (urls.length === 0 || urls.some((allowed) => isBelow(server.url ?? '', allowed))) return;
    return `mcp.servers.${name}.url: ${server.url} is not below one of mcp.allowed_urls`;
  }
  const [program = ''] = toCommand(server);
  if (commands.length === 0 || commands.includes(program)) return;
  return `mcp.servers.${name}.command: '${program}' is not one of mcp.allowed_commands`;
}

function toCommand({ command, args }: RawServer): string[] {
  return [...(typeof command === 'string' ? [command] : (command ?? [])), ...args];
}

/** @throws RangeError for a name that is not configured. */
export function toMcpServer(config: Source, name: string, level: SandboxLevel): McpServerConfig {
  const server = config.raw.mcp.servers[name];
  if (server === undefined) throw new RangeError(`MCP server ${name} was looked up before`);
  const { sandbox } = config.raw.security;
  const reach = toReach(config, server, level);
  const isOpen = server.network === 'full' || !isConfining(level);
  return {
    name,
    reach,
    shared: server.shared,
    policy: server.policy,
    isUnconfined: reach.kind === 'url' || isOpen,
    effects: server.effects,
    timeoutMs: sandbox.timeout_secs * 1000,
    maxOutputBytes: sandbox.max_output_bytes,
  };
}

function toReach(config: Source, server: RawServer, level: SandboxLevel): McpReach {
  if (server.url !== undefined) {
    const headers = Object.entries(server.headers).map(([header, one]) => ({ header, ...one }));
    return { kind: 'url', url: server.url, within: config.raw.mcp.allowed_urls, headers };
  }
  const { sandbox } = config.raw.security;
  const configFile = config.file === undefined ? [] : [config.file];
  const keyFile = config.keyFile === undefined ? [] : [config.keyFile];
  return {
    kind: 'stdio',
    command: toCommand(server),
    policy: {
      backend: level,
      workspace: '',
      readOnlyPaths: [...server.read_only_paths],
      writablePaths: [...server.writable_paths],
      // A home is not shown unless a path of it is written down here, by who owns the machine.
      hiddenPaths: [config.stateDir, ...configFile, ...keyFile],
      protectedPaths: [],
      envAllowlist: Object.keys(server.env),
      env: server.env,
      timeoutMs: sandbox.timeout_secs * 1000,
      memoryLimitBytes: (server.memory_limit_mb ?? sandbox.memory_limit_mb) * 2 ** 20,
      // Of a call, and a server outlives its calls.
      cpuMs: 0,
      diskBytes: 0,
      filesMax: 0,
      maxPids: sandbox.max_pids,
      backgroundMax: 0,
      backgroundTimeoutMs: 0,
      maxOutputBytes: sandbox.max_output_bytes,
      tmpBytes: sandbox.max_disk_mb * 2 ** 20,
      network: { ...noNetwork, mode: server.network },
    },
  };
}

/** What an entry of `tools` may say of MCP: `mcp` (all), `mcp__SERVER` (all of one), one tool. */
export function isMcpEntry(entry: string, servers: readonly string[]): boolean {
  if (entry === 'mcp') return true;
  const server = findMcpServer(entry) ?? findMcpServer(`${entry}__`);
  return isMcpToolName(entry) && server !== undefined && servers.includes(server);
}

/** The servers that an agent with this list of tools may ask. */
export function findServersOf(
  tools: readonly string[] | undefined,
  servers: readonly string[],
): readonly string[] {
  return servers.filter(
    (name) =>
      tools === undefined ||
      tools.includes('mcp') ||
      tools.some((entry) => (findMcpServer(entry) ?? findMcpServer(`${entry}__`)) === name),
  );
}

/** May an agent with this list of tools ask for this one? */
export function isMcpToolListed(tools: readonly string[] | undefined, tool: string): boolean {
  if (tools === undefined || tools.includes('mcp') || tools.includes(tool)) return true;
  return tools.includes(`mcp__${findMcpServer(tool) ?? ''}`);
}

/** Names of policy groups that MCP adds: `mcp`, and one a server. */
export function toMcpGroups(servers: readonly string[]): readonly string[] {
  return ['mcp', ...servers.map((name) => `mcp.${name}`)];
}
