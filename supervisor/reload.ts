/** What a reload reaches: each key of the configuration stands in exactly one of two lists, so
 *  that a new one is a decision. `applied`: it counts for what begins from now on (the next turn,
 *  effect, connection, process; an open session's worker and sandbox host are replaced before they
 *  are used again). `restart`: the next supervisor reads it. */
import type { ConfigValue } from './config.ts';

export const reloadTable = {
  applied: [
    'agent.model',
    'agent.instructions',
    'agent.max_turns',
    'agent.max_tool_calls_per_turn',
    'agent.session_timeout_secs',
    'agent.stream_buffer_size',
    'agent.restart',
    'agent.tools',
    'agent.limits.max_concurrent_sessions',
    'agent.limits.max_memory_mb',
    'agent.limits.max_queued_inputs',
    'agent.worker.heartbeat_interval_secs',
    'agent.worker.max_restart_attempts',
    'agent.worker.restart_window_secs',
    'agent.worker.progress_timeout_secs',
    'agent.worker.idle_hibernate_secs',
    'agent.worker.warm_pool',
    'agent.loop.parallel_tool_calls',
    'agent.loop.compaction_threshold_tokens',
    'agent.loop.compaction_strategy',
    'agents',
    'provider.kind',
    'provider.base_url',
    'provider.api',
    'provider.connect_timeout_secs',
    'provider.first_token_timeout_secs',
    'provider.idle_timeout_secs',
    'provider.total_timeout_secs',
    'provider.max_retries',
    'provider.retry_base_ms',
    'provider.retry_max_ms',
    'provider.fallbacks',
    'provider.prices.<name>.input',
    'provider.prices.<name>.output',
    'provider.prices.<name>.cached_input',
    'security.tool_policy.default',
    'security.tool_policy.groups.<name>',
    'security.tool_policy.tools.<name>',
    'security.approval.timeout_secs',
    'security.approval.on_timeout',
    'security.approval.max_denials',
    'security.approval.webhook_url',
    'security.approval.webhook_secret_env',
    'security.approval.link_url',
    'security.rules[].tool',
    'security.rules[].path',
    'security.rules[].command',
    'security.rules[].domain',
    'security.rules[].action',
    'security.rules[].reason',
    'security.sandbox.backend',
    'security.sandbox.minimum_level',
    'security.sandbox.network',
    'security.sandbox.allowed_domains',
    'security.sandbox.allowed_methods',
    'security.sandbox.read_only_paths',
    'security.sandbox.writable_paths',
    'security.sandbox.timeout_secs',
    'security.sandbox.memory_limit_mb',
    'security.sandbox.max_cpu_secs',
    'security.sandbox.max_files',
    'security.sandbox.max_pids',
    'security.sandbox.max_background_processes',
    'security.sandbox.background_timeout_secs',
    'security.sandbox.max_output_bytes',
    'security.sandbox.max_disk_mb',
    'security.sandbox.env_allowlist',
    'security.sandbox.workspace_roots',
    'secrets.shell',
    'secrets.inject.<name>.domain',
    'secrets.inject.<name>.header',
    'secrets.inject.<name>.format',
    'secrets.key_file',
    'secrets.key_credential',
    'secrets.key_env',
    'mcp.allowed_commands',
    'mcp.allowed_urls',
    'mcp.servers.<name>.command',
    'mcp.servers.<name>.args',
    'mcp.servers.<name>.url',
    'mcp.servers.<name>.headers.<name>.secret',
    'mcp.servers.<name>.headers.<name>.format',
    'mcp.servers.<name>.env.<name>',
    'mcp.servers.<name>.policy',
    'mcp.servers.<name>.shared',
    'mcp.servers.<name>.network',
    'mcp.servers.<name>.read_only_paths',
    'mcp.servers.<name>.writable_paths',
    'mcp.servers.<name>.effects.<name>',
    'mcp.servers.<name>.memory_limit_mb',
    'custom_tools.paths',
    'custom_tools.memory_limit_mb',
    'budget.max_cost_usd',
    'budget.max_tokens',
    'store.retention_days',
    'store.retention_events',
    'api.tokens[].name',
    'api.tokens[].sha256',
    'api.tokens[].scopes',
    'api.requests_per_sec',
  ],
  restart: [
    // The gateway got its environment when it was started.
    'provider.api_key_env',
    'provider.api_key_secret',
    'store.path',
    'api.socket',
    'api.listen',
    'api.allow_insecure',
    'log.level',
    'log.format',
    'telemetry.otlp_endpoint',
    'telemetry.headers_env',
  ],
} as const;

/** Asked for while it runs, it runs once more behind that: of two reloads the configuration that
 *  was read last stays in force. */
export function inOrder<T>(work: () => Promise<T>): () => Promise<T> {
  let last: Promise<unknown> = Promise.resolve();
  return () => {
    const done = last.then(work);
    last = done.catch(() => undefined); // Heard of by who asked for it.
    return done;
  };
}

export interface ConfigChanges {
  /** By this reload: keys, and files of custom tools. */
  readonly changed: readonly string[];
  /** Changed since the start, and not in force: by this reload or an earlier one. */
  readonly needs_restart: readonly string[];
}

type Values = readonly ConfigValue[];

export function compareValues(values: {
  readonly started: Values;
  readonly before: Values;
  readonly next: Values;
}): ConfigChanges {
  const { started, before, next } = values;
  return {
    changed: findChanged(before, next),
    needs_restart: findChanged(started, next).filter((key) =>
      reloadTable.restart.some((each) => each === key),
    ),
  };
}

/** Keys whose value differs, also where it is written no longer. */
function findChanged(before: Values, next: Values): readonly string[] {
  const [earlier, later] = [toTexts(before), toTexts(next)];
  const keys = new Set([...earlier.keys(), ...later.keys()]);
  return [...keys].filter((key) => earlier.get(key) !== later.get(key));
}

function toTexts(values: Values): ReadonlyMap<string, string | undefined> {
  return new Map(values.map(({ key, value }) => [key, JSON.stringify(value)]));
}
