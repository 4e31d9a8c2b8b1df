/** config.toml as written: every key with its default, range and meaning. The meaning here is the
 *  short form of the comment in the shipped config.toml; both are checked to name the same keys.
 *  Unknown keys are refused everywhere. */
import { z } from 'zod';

const positiveInt = z.number().int().min(1);
const seconds = z.number().min(0).max(10_000_000);
const positiveSeconds = z.number().positive().max(10_000_000);
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

const worker = z.strictObject({
  heartbeat_interval_secs: positiveSeconds.default(10),
  max_restart_attempts: z.number().int().min(0).max(1000).default(3),
  restart_window_secs: positiveSeconds.default(60),
  progress_timeout_secs: seconds.default(1800),
  idle_hibernate_secs: seconds.default(300),
  warm_pool: z.number().int().min(0).max(64).default(2),
});

const loop = z.strictObject({
  parallel_tool_calls: z.boolean().default(true),
  compaction_threshold_tokens: positiveInt.min(1000).default(80_000),
  compaction_strategy: z.enum(['summarize', 'truncate']).default('summarize'),
});

const agentOverride = z.strictObject(agentKeys);

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

const provider = z.strictObject({
  kind: z.enum(['openai', 'offline']).optional(),
  base_url: z.url().optional(),
  api: z.enum(['chat', 'responses']).default('chat'),
  api_key_env: z.string().min(1).default('OPENAI_API_KEY'),
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

const approval = z.strictObject({
  timeout_secs: positiveSeconds.default(300),
  on_timeout: z.enum(['deny']).default('deny'),
});

const sandbox = z.strictObject({
  backend: z.enum(['auto', 'bubblewrap', 'none']).default('auto'),
  minimum_level: z.enum(['bubblewrap', 'none']).optional(),
  network: z.enum(['none']).default('none'),
  read_only_paths: z.array(z.string().startsWith('/')).max(256).default([]),
  writable_paths: z.array(z.string().startsWith('/')).max(256).default([]),
  timeout_secs: positiveSeconds.default(60),
  memory_limit_mb: z
    .number()
    .int()
    .refine((mb) => mb === 0 || mb >= 2048, '0 (no limit) or at least 2048')
    .default(2048),
  max_pids: positiveInt.max(100_000).default(512),
  max_output_bytes: positiveInt.min(1024).default(1_048_576),
  max_disk_mb: positiveInt.default(256),
  env_allowlist: z
    .array(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/))
    .default(['LANG', 'TERM', 'TZ']),
  workspace_roots: z.array(z.string().startsWith('/')).max(256).default([]),
});

const budget = z.strictObject({
  max_cost_usd: z.number().min(0).default(0),
  max_tokens: z.number().int().min(0).default(0),
});

const token = z.strictObject({
  name: z.string().min(1).max(64),
  sha256: z.string().regex(/^[0-9a-f]{64}$/, 'the SHA-256 of the token, 64 hex digits'),
  scopes: z.array(z.enum(['read', 'operate', 'admin'])).min(1),
});

const api = z.strictObject({
  socket: z.string().startsWith('/').optional(),
  listen: z
    .string()
    .regex(/^(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}$/, 'HOST:PORT')
    .optional(),
  tokens: z.array(token).max(256).default([]),
  allow_insecure: z.boolean().default(false),
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
      approval: approval.prefault({}),
      sandbox: sandbox.prefault({}),
    })
    .prefault({}),
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
    })
    .prefault({}),
});

export type RawConfig = z.infer<typeof configSchema>;
