/** config.toml as written: every key with its default, range and meaning. The meaning here is the
 *  short form of the comment in the shipped config.toml; both are checked to name the same keys.
 *  Unknown keys are refused everywhere. */
import { z } from 'zod';
import { parseHostPattern } from '../base/hostnames.ts';
import { MCP_SERVER_NAME } from '../protocol/mcp-names.ts';
import { networkModes } from '../protocol/network.ts';
import { sandboxLevels } from '../protocol/sandbox-levels.ts';
import { scopeSchema } from '../protocol/tokens.ts';
import { findPatternProblem } from './effects/policy/pattern.ts';

const positiveInt = z.number().int().min(1);
const seconds = z.number().min(0).max(10_000_000);
const positiveSeconds = z.number().positive().max(10_000_000);
/** Each is a process of about 60 MB, and its tools are in every request. */
const MCP_SERVERS_MAX = 32;
const verdict = z.enum(['allow', 'deny', 'supervised']);

/** The keys of [agent] that an [agents.<name>] table may set as well. */
const agentKeys = {
  model: z.string().min(1).optional(),
  instructions: z.string().max(200_000).optional(),
  max_turns: positiveInt.max(100_000).optional(),
  max_tool_calls_per_turn: positiveInt.max(128).optional(),
  session_timeout_secs: seconds.optional(),
  stream_buffer_size: positiveInt.max(100_000).optional(),
  restart: z.enum(['permanent', 'transient', 'temporary']).optional(),
  tools: z.array(z.string()).optional(),
};

const limits = z.strictObject({
  max_concurrent_sessions: positiveInt.max(10_000).default(8),
  max_memory_mb: positiveInt.min(64).default(512),
  max_queued_inputs: positiveInt.max(100_000).default(100),
});

/** The keys of [agent.worker] that [agents.<name>.worker] may set as well; the others are of
 *  processes that no agent has yet. */
const workerKeys = {
  max_restart_attempts: z.number().int().min(0).max(1000),
  restart_window_secs: positiveSeconds,
  progress_timeout_secs: seconds,
  idle_hibernate_secs: seconds,
};

const worker = z.strictObject({
  heartbeat_interval_secs: positiveSeconds.default(10),
  max_restart_attempts: workerKeys.max_restart_attempts.default(3),
  restart_window_secs: workerKeys.restart_window_secs.default(60),
  progress_timeout_secs: workerKeys.progress_timeout_secs.default(1800),
  idle_hibernate_secs: workerKeys.idle_hibernate_secs.default(300),
  warm_pool: z.number().int().min(0).max(64).default(2),
});

const loopKeys = {
  parallel_tool_calls: z.boolean(),
  compaction_threshold_tokens: positiveInt.min(1000),
  compaction_strategy: z.enum(['summarize', 'truncate']),
};

const loop = z.strictObject({
  parallel_tool_calls: loopKeys.parallel_tool_calls.default(true),
  compaction_threshold_tokens: loopKeys.compaction_threshold_tokens.default(80_000),
  compaction_strategy: loopKeys.compaction_strategy.default('summarize'),
});

const agentOverride = z.strictObject({
  ...agentKeys,
  worker: z.strictObject(workerKeys).partial().optional(),
  loop: z.strictObject(loopKeys).partial().optional(),
});

const agent = z.strictObject({
  ...agentKeys,
  max_turns: positiveInt.max(100_000).default(50),
  max_tool_calls_per_turn: positiveInt.max(128).default(10),
  session_timeout_secs: seconds.default(3600),
  stream_buffer_size: positiveInt.max(100_000).default(64),
  restart: z.enum(['permanent', 'transient', 'temporary']).default('transient'),
  limits: limits.prefault({}),
  worker: worker.prefault({}),
  loop: loop.prefault({}),
});

const price = z.strictObject({
  input: z.number().min(0),
  output: z.number().min(0),
  cached_input: z.number().min(0).optional(),
});

const secretName = z.string().regex(/^[A-Za-z_][A-Za-z0-9_.-]{0,63}$/, 'a name in the vault');

/** No client of ours takes a user and a password from a URL; what stands there is only shown. */
const httpUrl = z
  .url({ protocol: /^https?$/, error: 'a URL that begins with http:// or https://' })
  .refine(
    (url) => !/^[^/]*\/\/[^/?#]*@/.test(url),
    'a URL without a user and a password; a secret has a key of its own',
  );

const provider = z.strictObject({
  kind: z.enum(['openai', 'offline']).optional(),
  base_url: httpUrl.optional(),
  api: z.enum(['chat', 'responses']).default('chat'),
  api_key_env: z.string().min(1).default('OPENAI_API_KEY'),
  api_key_secret: secretName.optional(),
  connect_timeout_secs: positiveSeconds.default(120),
  first_token_timeout_secs: positiveSeconds.default(120),
  idle_timeout_secs: positiveSeconds.default(120),
  total_timeout_secs: positiveSeconds.default(1800),
  max_retries: z.number().int().min(0).max(20).default(4),
  retry_base_ms: positiveInt.default(500),
  retry_max_ms: positiveInt.default(30_000),
  fallbacks: z.array(z.string().min(1)).max(8).default([]),
  prices: z.record(z.string(), price).default({}),
});

const toolPolicy = z.strictObject({
  default: verdict.optional(),
  groups: z.record(z.string(), verdict).default({}),
  tools: z.record(z.string(), verdict).default({}),
});

const patterns = z.union([z.string(), z.array(z.string()).min(1).max(256)]).optional();

/** One of [[security.rules]]: what it looks at, and what then happens. */
const rule = z
  .strictObject({
    tool: patterns,
    path: patterns,
    command: patterns,
    domain: patterns,
    action: z.enum(['allow', 'deny', 'ask']),
    reason: z.string().max(1000).optional(),
  })
  .superRefine((written, context) => {
    const kinds = ['path', 'command', 'domain'] as const;
    const given = kinds.filter((kind) => written[kind] !== undefined);
    if (given.length > 1) {
      const message = `give one of path, command, domain: no part of a call is both ${given.join(' and ')}; write two rules`;
      context.addIssue({ code: 'custom', message });
    }
    if (given.length === 0 && written.tool === undefined) {
      const message = 'give tool, path, command or domain; tool = "*" is every call';
      context.addIssue({ code: 'custom', message });
    }
    for (const kind of ['tool', ...kinds] as const) {
      for (const pattern of [written[kind] ?? []].flat()) {
        const message = findPatternProblem(kind, pattern);
        if (message !== undefined) context.addIssue({ code: 'custom', path: [kind], message });
      }
    }
  });

const approval = z.strictObject({
  timeout_secs: positiveSeconds.default(300),
  on_timeout: z.enum(['deny']).default('deny'),
  max_denials: z.number().int().min(0).max(1000).default(3),
  webhook_url: httpUrl.optional(),
  webhook_secret_env: z.string().min(1).default('PRX_WEBHOOK_SECRET'),
  link_url: httpUrl.optional(),
});

const domainPattern = z
  .string()
  .refine(
    (text) => parseHostPattern(text) !== undefined,
    'a host (example.org), a wildcard (*.example.org), an address; each may have :PORT',
  );

const memoryLimitMb = z
  .number()
  .int()
  .refine((mb) => mb === 0 || mb >= 64, '0 (no limit) or at least 64');

/** Mounted over what a sandbox has of its own, they would leave a call without /dev/null. */
const shownPath = z
  .string()
  .startsWith('/')
  .refine((path) => !/^\/+((dev|proc)\/*)?$/.test(path), 'a folder below /, not /, /dev or /proc');

const sandbox = z.strictObject({
  backend: z.enum(['auto', ...sandboxLevels]).default('auto'),
  minimum_level: z.enum(sandboxLevels).optional(),
  network: z.enum(networkModes).default('none'),
  allowed_domains: z.array(domainPattern).max(1000).default([]),
  allowed_methods: z.array(z.string().regex(/^[A-Z]{1,20}$/, 'as in HTTP: GET')).default([]),
  read_only_paths: z.array(shownPath).max(256).default([]),
  writable_paths: z.array(shownPath).max(256).default([]),
  timeout_secs: positiveSeconds.default(60),
  memory_limit_mb: memoryLimitMb.default(512),
  max_cpu_secs: z.number().min(0).default(0),
  max_pids: positiveInt.max(100_000).default(256),
  max_background_processes: z.number().int().min(0).max(64).default(4),
  background_timeout_secs: positiveSeconds.default(3600),
  max_output_bytes: positiveInt.min(1024).default(1_048_576),
  max_disk_mb: positiveInt.default(256),
  max_files: positiveInt.default(40_000),
  env_allowlist: z
    .array(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/))
    .default(['LANG', 'TERM', 'TZ']),
  workspace_roots: z.array(z.string().startsWith('/')).max(256).default([]),
});

const headerName = z
  .string()
  .regex(/^[A-Za-z0-9-]{1,64}$/, 'the name of a header')
  .refine(
    (name) => !/^(host|connection|content-length|transfer-encoding|proxy-.*|expect)$/i.test(name),
    'a header that carries a value, not one that frames the request',
  );

const headerFormat = z
  .string()
  .max(1000)
  .regex(/^[\x20-\x7e]*\{value\}[\x20-\x7e]*$/, 'one line with {value} in it')
  .default('Bearer {value}');

const injection = z.strictObject({
  domain: domainPattern,
  header: headerName.default('Authorization'),
  format: headerFormat,
});

const secrets = z.strictObject({
  key_file: z.string().startsWith('/').optional(),
  key_credential: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$/)
    .optional(),
  key_env: z.string().min(1).optional(),
  shell: z.array(secretName).max(100).default([]),
  inject: z.record(secretName, injection).default({}),
});

/** Those of the protocol are the protocol's to set. */
const mcpHeaderName = headerName.refine(
  (name) => !/^(accept|content-type|last-event-id|mcp-.*)$/i.test(name),
  'a header that MCP does not set itself',
);

const mcpServer = z
  .strictObject({
    command: z.union([z.string().min(1), z.array(z.string().min(1)).min(1).max(256)]).optional(),
    args: z.array(z.string()).max(256).default([]),
    url: httpUrl.optional(),
    headers: z
      .record(mcpHeaderName, z.strictObject({ secret: secretName, format: headerFormat }))
      .default({}),
    env: z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/), z.string()).default({}),
    policy: verdict.optional(),
    shared: z.boolean().default(true),
    network: z.enum(['none', 'full']).default('none'),
    read_only_paths: z.array(shownPath).max(256).default([]),
    writable_paths: z.array(shownPath).max(256).default([]),
    effects: z.record(z.string(), z.enum(['read', 'idempotent', 'write'])).default({}),
    memory_limit_mb: memoryLimitMb.optional(),
  })
  .refine((server) => (server.command === undefined) !== (server.url === undefined), {
    error: 'needs either command or url',
  })
  .refine((server) => !/\s/.test(typeof server.command === 'string' ? server.command : ''), {
    error: 'command is one program; write its arguments as args, or all of it as a list',
  })
  .refine((server) => server.url !== undefined || Object.keys(server.headers).length === 0, {
    error: 'headers are for a url; what a command is given is its env',
  });

const mcp = z.strictObject({
  allowed_commands: z.array(z.string().min(1)).max(256).default([]),
  allowed_urls: z
    .array(z.url({ protocol: /^https?$/ }))
    .max(256)
    .default([]),
  servers: z
    .record(z.string().max(24).regex(MCP_SERVER_NAME), mcpServer)
    .refine((servers) => Object.keys(servers).length <= MCP_SERVERS_MAX, {
      error: `at most ${MCP_SERVERS_MAX} servers`,
    })
    .default({}),
});

const customTools = z.strictObject({
  paths: z.array(z.string().min(1).max(4096)).max(64).default([]),
  memory_limit_mb: z.number().int().min(16).max(65_536).default(128),
});

const budget = z.strictObject({
  max_cost_usd: z.number().min(0).default(0),
  max_tokens: z.number().int().min(0).default(0),
});

const token = z.strictObject({
  name: z.string().min(1).max(64),
  sha256: z.string().regex(/^[0-9a-f]{64}$/, 'the SHA-256 of the token, 64 hex digits'),
  scopes: z.array(scopeSchema).min(1),
});

const api = z.strictObject({
  socket: z.string().startsWith('/').optional(),
  listen: z
    .string()
    .regex(/^(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}$/, 'HOST:PORT')
    .optional(),
  tokens: z.array(token).max(256).default([]),
  allow_insecure: z.boolean().default(false),
  requests_per_sec: z.number().int().min(0).max(1_000_000).default(200),
});

export const configSchema = z.strictObject({
  agent: agent.prefault({}),
  agents: z
    .record(z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/), agentOverride)
    .default({}),
  provider: provider.prefault({}),
  security: z
    .strictObject({
      tool_policy: toolPolicy.prefault({}),
      rules: z.array(rule).max(1000).default([]),
      approval: approval.prefault({}),
      sandbox: sandbox.prefault({}),
    })
    .prefault({}),
  secrets: secrets.prefault({}),
  mcp: mcp.prefault({}),
  custom_tools: customTools.prefault({}),
  budget: budget.prefault({}),
  store: z
    .strictObject({
      path: z.string().startsWith('/').optional(),
      retention_days: z.number().min(0).max(36_500).default(0),
      retention_events: z
        .number()
        .int()
        .max(1_000_000_000)
        .refine((count) => count === 0 || count >= 1000, '0 (all) or at least 1000')
        .default(0),
    })
    .prefault({}),
  api: api.prefault({}),
  log: z
    .strictObject({
      level: z.enum(['error', 'warn', 'info', 'debug', 'silent']).default('info'),
      format: z.enum(['json', 'text']).default('json'),
    })
    .prefault({}),
  telemetry: z
    .strictObject({
      otlp_endpoint: httpUrl.optional(),
      headers_env: z.string().min(1).default('OTEL_EXPORTER_OTLP_HEADERS'),
    })
    .prefault({}),
});

export type RawConfig = z.infer<typeof configSchema>;
