/** From config.toml, environment and flags to one frozen Config with units in its names.
 *  Precedence: flag > environment > file > built-in default. A mistake names file, key, value,
 *  rule and the nearest known key; nothing is guessed and nothing unknown is allowed. */
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parse, TomlError } from 'smol-toml';
import { PrxError, systemCode } from '../base/errors.ts';
import { homeOf } from '../base/home.ts';
import { findNearest } from '../base/nearest.ts';
import { isCustomToolName } from '../protocol/custom-names.ts';
import type { ProviderSettings } from '../protocol/gateway-methods.ts';
import { toMcpPrefix } from '../protocol/mcp-names.ts';
import { hasOwnRoot } from '../protocol/sandbox-levels.ts';
import { isToolName, toolTable } from '../protocol/tools.ts';
import { childOf, toConfigError } from './config-problems.ts';
import { configSchema, type RawConfig } from './config-schema.ts';
import type { WebhookSettings } from './effects/approval-webhook.ts';
import { toDigest } from './effects/policy/digest.ts';
import { toRules } from './effects/policy/rules.ts';
import type { Policy } from './effects/policy.ts';
import { findMcpProblem, isMcpEntry, toMcpGroups } from './mcp/servers.ts';

export interface AgentConfig {
  readonly name: string;
  readonly model: string | undefined;
  readonly instructions: string;
  readonly maxTurns: number;
  readonly maxToolCallsPerTurn: number;
  readonly sessionTimeoutMs: number;
  /** Events held for one live reader of a session. */
  readonly streamBufferSize: number;
  readonly restart: 'permanent' | 'transient' | 'temporary';
  readonly maxRestartAttempts: number;
  readonly restartWindowMs: number;
  /** 0: a turn without progress is never ended for that. */
  readonly progressTimeoutMs: number;
  readonly idleHibernateMs: number;
  readonly parallelToolCalls: boolean;
  readonly compactionThresholdTokens: number;
  readonly compactionStrategy: 'summarize' | 'truncate';
  /** Names of the built-in tools the agent may ask for. */
  readonly tools: readonly string[];
  /** The list as written, with what it says of MCP; absent: every tool there is. */
  readonly listedTools?: readonly string[] | undefined;
}

export interface Config {
  readonly file: string | undefined;
  readonly stateDir: string;
  readonly socketPath: string;
  readonly agents: ReadonlyMap<string, AgentConfig>;
  readonly raw: RawConfig;
  readonly policy: Policy;
  /** Undefined: nobody is told of approvals. */
  readonly webhook: WebhookSettings | undefined;
  readonly provider: ProviderSettings;
  /** Why this provider: shown in the ready line and by doctor. */
  readonly providerSource: string;
  /** Model asked for by configuration; undefined: the provider's first. */
  readonly model: string | undefined;
}

export interface ConfigValue {
  readonly key: string;
  readonly value: unknown;
  readonly source: 'default' | 'file' | 'environment' | 'flag';
}

export interface ConfigFlags {
  readonly config?: string | undefined;
  readonly stateDir?: string | undefined;
  readonly listen?: string | undefined;
}

export type Environment = Readonly<Record<string, string | undefined>>;

export interface LoadedConfig {
  readonly config: Config;
  readonly values: readonly ConfigValue[];
}

export const DEFAULT_AGENT = 'default';

const DEFAULT_INSTRUCTIONS =
  'You are a careful agent working in a workspace on a server. Use the tools to look before you ' +
  'act, check what you did, and say plainly what you found and what you could not do.';

/** Reads and compiles the configuration. Throws CONFIG_INVALID. */
export function loadConfig(flags: ConfigFlags, env: Environment): LoadedConfig {
  const file = findConfigFile(flags, env);
  const written = file === undefined ? {} : readToml(file);
  const overlaid = overlay(written, flags, env);
  const parsed = configSchema.safeParse(overlaid.tree);
  if (!parsed.success) throw toConfigError(parsed.error, { file, ...overlaid });
  const raw = parsed.data;
  checkTools(file, raw);
  checkNetwork(file, raw);
  checkSecrets(file, raw);
  checkEnvAllowlist(file, raw);
  checkServers(file, raw);
  const stateDir = resolve(raw.store.path ?? defaultStateDir(env));
  const { settings, source } = compileProvider(raw, env);
  const config: Config = Object.freeze({
    file,
    stateDir,
    socketPath: raw.api.socket ?? join(stateDir, 'api.sock'),
    agents: compileAgents(raw),
    raw,
    policy: compilePolicy(raw),
    webhook: compileWebhook(file, raw, env),
    provider: settings,
    providerSource: source,
    model: env['PRX_MODEL'] || raw.agent.model,
  });
  return { config, values: listValues(raw, written, overlaid.sources) };
}

/** The agent of this name, or the default one. Throws INVALID_REQUEST with the known names. */
export function findAgent(config: Config, name: string | undefined): AgentConfig {
  const agent = config.agents.get(name ?? DEFAULT_AGENT);
  if (agent !== undefined) return agent;
  const known = [...config.agents.keys()];
  const nearest = findNearest(name ?? '', known);
  const hint = nearest === undefined ? '' : ` Did you mean '${nearest}'?`;
  const message = `there is no agent '${name}'.${hint} Known: ${known.join(', ')}.`;
  throw new PrxError('INVALID_REQUEST', message, { data: { agent: name, known } });
}

function findConfigFile(flags: ConfigFlags, env: Environment): string | undefined {
  const asked = flags.config ?? env['PRX_CONFIG'];
  if (asked !== undefined && asked !== '') return resolve(asked);
  const base = env['XDG_CONFIG_HOME'] || join(homeOf(env), '.config');
  const fallback = join(base, 'prx-supervisor', 'config.toml');
  return existsSync(fallback) ? fallback : undefined;
}

function defaultStateDir(env: Environment): string {
  const base = env['XDG_STATE_HOME'] || join(homeOf(env), '.local', 'state');
  return join(base, 'prx-supervisor');
}

function readToml(file: string): Record<string, unknown> {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const reason = systemCode(error) ?? 'unknown error';
    const message = `could not read the config file ${file}: ${reason}; check the path given by --config or PRX_CONFIG`;
    throw new PrxError('CONFIG_INVALID', message, { data: { file }, cause: error });
  }
  try {
    return parse(text) as Record<string, unknown>;
  } catch (error) {
    const where = error instanceof TomlError ? `:${error.line}:${error.column}` : '';
    const reason = error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error);
    const message = `${file}${where} is not valid TOML: ${reason}`;
    throw new PrxError('CONFIG_INVALID', message, { data: { file }, cause: error });
  }
}

interface Overlaid {
  readonly tree: Record<string, unknown>;
  readonly sources: ReadonlyMap<string, 'environment' | 'flag'>;
}

function overlay(written: Record<string, unknown>, flags: ConfigFlags, env: Environment): Overlaid {
  const tree = structuredClone(written);
  const sources = new Map<string, 'environment' | 'flag'>();
  const set = (path: string, value: string | undefined, source: 'environment' | 'flag'): void => {
    if (value === undefined || value === '') return;
    const [table = '', key = ''] = path.split('.');
    const existing = tree[table];
    const isTable = typeof existing === 'object' && existing !== null && !Array.isArray(existing);
    tree[table] = { ...(isTable ? existing : {}), [key]: value };
    sources.set(path, source);
  };
  set('store.path', env['PRX_STATE_DIR'] && resolve(env['PRX_STATE_DIR']), 'environment');
  set('agent.model', env['PRX_MODEL'], 'environment');
  set('log.level', env['PRX_LOG'], 'environment');
  set('store.path', flags.stateDir && resolve(flags.stateDir), 'flag');
  set('api.listen', flags.listen, 'flag');
  return { tree, sources };
}

function compileProvider(
  raw: RawConfig,
  env: Environment,
): { settings: ProviderSettings; source: string } {
  const { provider } = raw;
  const baseUrl = provider.base_url ?? (env['OPENAI_BASE_URL'] || undefined);
  const { api_key_secret: secret } = provider;
  const hasKey = Boolean(env[provider.api_key_env]) || secret !== undefined;
  const found = hasKey || baseUrl !== undefined;
  const kind = provider.kind ?? (found ? 'openai' : 'offline');
  const keyName = secret === undefined ? provider.api_key_env : 'provider.api_key_secret';
  const why = hasKey ? `${keyName} is set` : 'a base URL is set';
  const source =
    provider.kind !== undefined ? 'provider.kind' : found ? why : 'no key and no base URL';
  return {
    source,
    settings: {
      kind,
      ...(baseUrl === undefined ? {} : { baseUrl }),
      api: provider.api,
      apiKeyEnv: provider.api_key_env,
      connectTimeoutMs: provider.connect_timeout_secs * 1000,
      firstTokenTimeoutMs: provider.first_token_timeout_secs * 1000,
      idleTimeoutMs: provider.idle_timeout_secs * 1000,
      totalTimeoutMs: provider.total_timeout_secs * 1000,
      maxRetries: provider.max_retries,
      retryBaseMs: provider.retry_base_ms,
      retryMaxMs: provider.retry_max_ms,
      fallbacks: provider.fallbacks,
      prices: provider.prices as ProviderSettings['prices'],
    },
  };
}

export function compilePolicy({ security }: RawConfig): Policy {
  const { rules, tool_policy: tools } = security;
  const { network, allowed_domains: domains, allowed_methods: methods } = security.sandbox;
  // What was approved without a network is not approved with one.
  const reach = network === 'none' ? [] : [network, domains, methods];
  const version = toDigest(JSON.stringify([rules, tools, ...reach]));
  return { rules: toRules(rules), tools, version };
}

function compileWebhook(
  file: string | undefined,
  { security: { approval }, api }: RawConfig,
  env: Environment,
): WebhookSettings | undefined {
  const { webhook_url: url, webhook_secret_env: name, link_url: asked } = approval;
  if (url === undefined) return undefined;
  const linkUrl = asked ?? (api.listen === undefined ? undefined : `http://${api.listen}`);
  const secret = env[name];
  const missing =
    linkUrl === undefined
      ? 'security.approval.link_url or api.listen, where its links lead'
      : `a secret in the environment variable ${name}, which signs what is sent`;
  if (linkUrl === undefined || !secret) {
    const message = `${file ?? 'config'}: security.approval.webhook_url needs ${missing}`;
    throw new PrxError('CONFIG_INVALID', message, { data: { file } });
  }
  return { url, secret, linkUrl: linkUrl.replace(/\/+$/, '') };
}

/** What each agent is, from the whole file. */
export function compileAgents(raw: RawConfig): ReadonlyMap<string, AgentConfig> {
  const agents = new Map<string, AgentConfig>();
  const written: RawConfig['agents'] = { [DEFAULT_AGENT]: {}, ...raw.agents };
  for (const [name, { worker: ownWorker, loop: ownLoop, ...own }] of Object.entries(written)) {
    const agent = override(raw.agent, own);
    const worker = override(agent.worker, ownWorker);
    const loop = override(agent.loop, ownLoop);
    agents.set(name, {
      name,
      model: agent.model,
      instructions: agent.instructions ?? DEFAULT_INSTRUCTIONS,
      maxTurns: agent.max_turns,
      maxToolCallsPerTurn: agent.max_tool_calls_per_turn,
      sessionTimeoutMs: agent.session_timeout_secs * 1000,
      streamBufferSize: agent.stream_buffer_size,
      restart: agent.restart,
      maxRestartAttempts: worker.max_restart_attempts,
      restartWindowMs: worker.restart_window_secs * 1000,
      progressTimeoutMs: worker.progress_timeout_secs * 1000,
      idleHibernateMs: worker.idle_hibernate_secs * 1000,
      parallelToolCalls: loop.parallel_tool_calls,
      compactionThresholdTokens: loop.compaction_threshold_tokens,
      compactionStrategy: loop.compaction_strategy,
      tools: (agent.tools ?? Object.keys(toolTable)).filter(isToolName),
      listedTools: agent.tools,
    });
  }
  return agents;
}

type Override<T> = { readonly [K in keyof T]?: T[K] | undefined };

function override<T extends object>(base: T, own: Override<T> | undefined): T {
  return { ...base, ...own } as T; // what a file says is never undefined
}

function checkTools(file: string | undefined, raw: RawConfig): void {
  const servers = Object.keys(raw.mcp.servers);
  const named: [string, string][] = [];
  for (const name of Object.keys(raw.security.tool_policy.tools)) {
    named.push([`security.tool_policy.tools.${name}`, name]);
  }
  for (const name of raw.agent.tools ?? []) named.push(['agent.tools', name]);
  for (const [agent, own] of Object.entries(raw.agents)) {
    for (const name of own.tools ?? []) named.push([`agents.${agent}.tools`, name]);
  }
  for (const [index, { tool = [] }] of raw.security.rules.entries()) {
    const names = [tool].flat().filter((name) => !/[*?{]/.test(name));
    for (const name of names) named.push([`security.rules[${index + 1}].tool`, name]);
  }
  for (const [key, name] of named) {
    if (isToolName(name) || isMcpEntry(name, servers) || isCustomEntry(raw, name)) continue;
    throw unknownName(file, key, name, [...Object.keys(toolTable), ...servers.map(toMcpPrefix)]);
  }
  const builtIn = new Set<string>(Object.values(toolTable).map((tool) => tool.group));
  const groups = [...builtIn, ...toMcpGroups(servers), 'custom'];
  for (const name of Object.keys(raw.security.tool_policy.groups)) {
    if (!groups.some((group) => group === name)) {
      throw unknownName(file, `security.tool_policy.groups.${name}`, name, groups);
    }
  }
}

/** `custom` (all), or one by its name: what there is, the files say when they are read. */
function isCustomEntry(raw: RawConfig, name: string): boolean {
  const hasFiles = raw.custom_tools.paths.length > 0;
  return hasFiles && (name === 'custom' || isCustomToolName(name));
}

/** A list that nothing enforces would be a lie. */
function checkNetwork(file: string | undefined, raw: RawConfig): void {
  const { backend, network } = raw.security.sandbox;
  if (network !== 'allowlist' || backend === 'auto' || hasOwnRoot(backend)) return;
  const key = 'security.sandbox.network';
  const message = `${file ?? 'config'}: ${key} = "allowlist" needs a sandbox with a network of its own, and backend is "${backend}", which has none. Set backend = "auto", or another network.`;
  throw new PrxError('CONFIG_INVALID', message, { data: { file, key } });
}

/** Two places for one key would be a guess which one counts. */
function checkSecrets(file: string | undefined, raw: RawConfig): void {
  const keys = ['key_file', 'key_credential', 'key_env'] as const;
  const written = keys.filter((key) => raw.secrets[key] !== undefined);
  if (written.length <= 1) return;
  const message = `${file ?? 'config'}: [secrets] has ${written.join(' and ')}; the key of the vault comes from one place, leave one of them`;
  throw new PrxError('CONFIG_INVALID', message, { data: { file, key: 'secrets' } });
}

/** What opens the provider, the vault or our own door is for no tool. */
function checkEnvAllowlist(file: string | undefined, { provider, security, ...raw }: RawConfig) {
  const own = [provider.api_key_env, security.approval.webhook_secret_env, 'PRX_TOKEN'];
  const names = [...own, raw.secrets.key_env, raw.telemetry.headers_env];
  const found = security.sandbox.env_allowlist.find((name) => names.includes(name));
  if (found === undefined) return;
  const key = 'security.sandbox.env_allowlist';
  const message = `${file ?? 'config'}: ${key} has ${found}, a secret of the supervisor, which no tool gets; for one of theirs: prx-supervisor secret set NAME`;
  throw new PrxError('CONFIG_INVALID', message, { data: { file, key } });
}

function checkServers(file: string | undefined, raw: RawConfig): void {
  for (const name of Object.keys(raw.mcp.servers)) {
    const problem = findMcpProblem(raw, name);
    if (problem === undefined) continue;
    throw new PrxError('CONFIG_INVALID', `${file ?? 'config'}: ${problem}`, { data: { file } });
  }
}

function unknownName(
  file: string | undefined,
  key: string,
  name: string,
  known: readonly string[],
): PrxError {
  const nearest = findNearest(name, known);
  const hint = nearest === undefined ? '' : ` Did you mean '${nearest}'?`;
  const message = `${file ?? 'config'}: ${key}: '${name}' is unknown.${hint} Known: ${known.join(', ')}.`;
  return new PrxError('CONFIG_INVALID', message, { data: { file, key, nearest } });
}

function listValues(
  raw: RawConfig,
  written: unknown,
  sources: ReadonlyMap<string, 'environment' | 'flag'>,
): readonly ConfigValue[] {
  const values: ConfigValue[] = [];
  const visit = (node: unknown, path: readonly string[]): void => {
    const key = path.join('.');
    const isTable = typeof node === 'object' && node !== null && !Array.isArray(node);
    if (isTable && Object.keys(node).length > 0) {
      for (const [name, child] of Object.entries(node)) visit(child, [...path, name]);
      return;
    }
    const inFile = path.reduce<unknown>((at, name) => childOf(at, name), written) !== undefined;
    values.push({ key, value: node, source: sources.get(key) ?? (inFile ? 'file' : 'default') });
  };
  visit(raw, []);
  return values;
}
