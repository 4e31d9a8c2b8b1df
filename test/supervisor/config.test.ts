/** From config.toml, environment and flags to one Config: defaults, precedence, sources, and what
 *  a mistake says. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { PrxError } from '../../base/errors.ts';
import { type ConfigFlags, findAgent, loadConfig } from '../../supervisor/config.ts';

let dir = '';
let file = '';
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'prx-config-'));
  file = join(dir, 'config.toml');
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const noHome = { HOME: '/nonexistent' };

function load(toml: string, env: Record<string, string> = {}, flags: ConfigFlags = {}) {
  writeFileSync(file, toml);
  return loadConfig({ config: file, ...flags }, { ...noHome, ...env });
}

function problemOf(toml: string): { code: string; message: string } {
  try {
    load(toml);
  } catch (error) {
    if (error instanceof PrxError) return error;
    throw error;
  }
  throw new Error('the config was accepted');
}

/** SURFACE section 4, as written. */
const surface = `
[agent]
max_turns = 50
max_tool_calls_per_turn = 10
session_timeout_secs = 3600
stream_buffer_size = 64
restart = "transient"
[agent.limits]
max_concurrent_sessions = 8
max_memory_mb = 512
max_queued_inputs = 100
[agent.worker]
heartbeat_interval_secs = 10
max_restart_attempts = 3
restart_window_secs = 60
progress_timeout_secs = 1800
idle_hibernate_secs = 300
warm_pool = 2
[agent.loop]
parallel_tool_calls = true
compaction_threshold_tokens = 80000
compaction_strategy = "summarize"
[provider]
api = "chat"
api_key_env = "OPENAI_API_KEY"
[security.approval]
timeout_secs = 300
on_timeout = "deny"
[security.sandbox]
backend = "auto"
network = "none"
timeout_secs = 60
max_output_bytes = 1048576
[budget]
max_cost_usd = 0
max_tokens = 0
`;

describe('defaults', () => {
  test('are those of SURFACE section 4', () => {
    const written = load(surface).config.raw;
    const { config } = load('');
    expect(config.raw).toEqual(written);
    expect(config.raw.security.tool_policy).toEqual({ groups: {}, tools: {} });
    expect(config.raw.security.sandbox.minimum_level).toBeUndefined();
    expect([...config.agents.keys()]).toEqual(['default']);
  });

  test('no file at all works; a file that was asked for must be there', () => {
    const { config } = loadConfig({}, noHome);
    expect(config.file).toBeUndefined();
    expect(config.stateDir).toBe('/nonexistent/.local/state/prx-supervisor');
    const missing = join(dir, 'missing.toml');
    expect(() => loadConfig({ config: missing }, noHome)).toThrow(
      `could not read the config file ${missing}: ENOENT`,
    );
    expect(() => loadConfig({}, { ...noHome, PRX_CONFIG: missing })).toThrow('ENOENT');
  });

  test('XDG directories are honoured', () => {
    const env = { ...noHome, XDG_STATE_HOME: '/x/state', XDG_CONFIG_HOME: dir };
    expect(loadConfig({}, env).config.stateDir).toBe('/x/state/prx-supervisor');
  });
});

describe('a mistake names file, key, value, rule and the nearest key', () => {
  test.each([
    ['[agnet]', /agnet: unknown key; did you mean 'agent'\? \(known here: .*agents/],
    ['[agent]\nmax_turn = 1', /agent\.max_turn: unknown key; did you mean 'max_turns'\?/],
    ['[agent.limits]\nmax_memory = 1', /agent\.limits\.max_memory: unknown.*'max_memory_mb'/],
    ['[agents.x]\nmodle = "m"', /agents\.x\.modle: unknown key; did you mean 'model'\?/],
    ['[agents.x.limits]\nmax_memory_mb = 64', /agents\.x\.limits: unknown key/],
    ['[agents.x.worker]\nwarm_pool = 1', /agents\.x\.worker\.warm_pool: unknown key/],
    [
      '[provider.prices.m]\ninput = 1\noutput = 1\ncached = 1',
      /prices\.m\.cached: unknown.*cached_input/,
    ],
    ['[[api.tokens]]\nnme = "x"', /api\.tokens\[1\]\.nme: unknown key; did you mean 'name'\?/],
    [
      '[[security.rules]]\naction = "allow"\n[[security.rules]]\ntool = "shell"',
      /security\.rules\[2\]\.action is missing: .*"allow"\|"deny"\|"ask"$/,
    ],
    ['[provider.prices.m]\ninput = 1', /prices\.m\.output is missing: .*expected number$/],
    ['[security]\nsandbx = 1', /security\.sandbx: unknown key; did you mean 'sandbox'\?/],
    ['[agent]\nmax_turns = 0', /agent\.max_turns = 0: .*>=1/],
    ['[agent]\nrestart = "always"', /agent\.restart = "always": .*permanent/],
    ['[log]\nlevel = "loud"', /log\.level = "loud": .*debug/],
    ['[provider]\nbase_url = "nope"', /provider\.base_url = "nope": .*URL/],
    ['[api]\nlisten = "8080"', /api\.listen = "8080": HOST:PORT/],
    ['agent = 3', /agent = 3: .*object/],
    ['[security.sandbox]\nread_only_paths = ["x"]', /read_only_paths\[1\] = "x"/],
    ['[agent]\ntools = ["shel"]', /agent\.tools: 'shel' is unknown. Did you mean 'shell'\?/],
    ['[agents.x]\ntools = ["rm"]', /agents\.x\.tools: 'rm' is unknown/],
    ['[security.tool_policy.tools]\nshel = "deny"', /tools\.shel: 'shel' is unknown. Did you mean/],
    ['[security.tool_policy.groups]\nfile = "deny"', /groups\.file: .*Did you mean 'files'\?/],
  ])('%j', (toml, message) => {
    const problem = problemOf(toml);
    expect(problem.code).toBe('CONFIG_INVALID');
    expect(problem.message).toContain(file);
    expect(problem.message).toMatch(message);
  });

  test('what came from outside of the file is called by its own name', () => {
    writeFileSync(file, '[log]\nlevel = "info"');
    const load = () => loadConfig({ config: file }, { ...noHome, PRX_LOG: 'loud' });
    expect(load).toThrow(
      /^the environment or a flag is not valid:\n {2}log\.level = "loud" \(from PRX_LOG\): /,
    );
  });

  test('broken TOML: line and column', () => {
    expect(problemOf('[agent]\nmax_turns = = 3').message).toMatch(
      new RegExp(`^${file}:2:\\d+ is not valid TOML`),
    );
  });

  test('every mistake of a file is told at once', () => {
    const { message } = problemOf('[agent]\nmax_turns = 0\n[log]\nlevel = "loud"');
    expect(message.split('\n')).toHaveLength(3);
  });

  test('[config:security.sandbox.network] [config:security.approval.on_timeout] what is not offered is refused', () => {
    expect(problemOf('[security.sandbox]\nnetwork = "some"').message).toMatch(/network = "some"/);
    expect(problemOf('[security.approval]\non_timeout = "allow"').message).toMatch(/on_timeout/);
  });
});

describe('[config:security.sandbox.allowed_domains] the network of tools', () => {
  const written = (keys: string) => `[security.sandbox]\n${keys}`;

  test.each(['*', '*.com', 'https://example.org', 'example.org/path', 'a b'])(
    '%s is no domain',
    (text) => {
      const { message } = problemOf(written(`allowed_domains = ["${text}"]`));
      expect(message).toMatch(/allowed_domains\[1\].*a host \(example\.org\), a wildcard/);
    },
  );

  test('an allow-list without a sandbox is refused: nothing would enforce it', () => {
    const { message } = problemOf(written('backend = "none"\nnetwork = "allowlist"'));
    expect(message).toMatch(/network = "allowlist" needs a sandbox.*backend = "auto"/);
  });

  test('what is written is what tools get', () => {
    const keys = 'network = "allowlist"\nallowed_domains = ["*.example.org", "10.0.0.5:80"]';
    const { sandbox } = load(written(keys)).config.raw.security;
    expect(sandbox).toMatchObject({
      network: 'allowlist',
      allowed_domains: ['*.example.org', '10.0.0.5:80'],
      allowed_methods: [],
    });
  });
});

describe('secrets', () => {
  const inject = (keys: string) => `[secrets.inject.KEY]\ndomain = "example.org"\n${keys}`;

  test('[config:secrets.inject.<name>.header] [config:secrets.inject.<name>.format] as a bearer token by default', () => {
    expect(load(inject('')).config.raw.secrets.inject).toEqual({
      KEY: { domain: 'example.org', header: 'Authorization', format: 'Bearer {value}' },
    });
  });

  test.each([
    ['header = "Host"', /KEY\.header = "Host": a header that carries a value/],
    ['header = "Content-Length"', /frames the request/],
    ['header = "X Y"', /the name of a header/],
    ['format = "Bearer"', /KEY\.format = "Bearer": one line with \{value\} in it/],
    ['format = "a\\n{value}"', /one line with/],
  ])('%s is refused', (keys, message) => {
    expect(problemOf(inject(keys)).message).toMatch(message);
  });

  test.each([
    [''],
    ['[provider]\napi_key_env = "MINE"\n'],
    ['[security.approval]\nwebhook_secret_env = "MINE"\n'],
    ['[secrets]\nkey_env = "MINE"\n'],
    ['[telemetry]\nheaders_env = "MINE"\n'],
  ])('no tool is given a variable with a key of ours: %j', (toml) => {
    const name = toml === '' ? 'OPENAI_API_KEY' : 'MINE';
    const list = `[security.sandbox]\nenv_allowlist = ["LANG", "${name}"]\n`;
    expect(problemOf(toml + list).message).toMatch(`env_allowlist has ${name}, a secret of`);
    const mine = load('[security.sandbox]\nenv_allowlist = ["MINE"]\n').config;
    expect(mine.raw.security.sandbox.env_allowlist).toEqual(['MINE']);
  });

  test.each(['/', '//', '/dev', '/proc/'])('%s stays what the sandbox makes of it', (path) => {
    for (const key of ['read_only_paths', 'writable_paths']) {
      const { message } = problemOf(`[security.sandbox]\n${key} = ["${path}"]\n`);
      expect(message).toMatch(`security.sandbox.${key}[1] = "${path}": a folder below /`);
    }
  });

  test.each([
    ['ftp://example.org', /provider\.base_url = "ftp:\/\/example\.org": .*begins with http/],
    ['http://u:geheim@example.org', /base_url = "http:\/\/\(set\)@.*without a user and a password/],
  ])('a provider at %s is nowhere', (url, problem) => {
    const { message } = problemOf(`[provider]\nbase_url = "${url}"\n`);
    expect(message).toMatch(problem);
    expect(message).not.toMatch('geheim');
  });

  test('the key of the vault comes from one place', () => {
    const { message } = problemOf('[secrets]\nkey_file = "/k"\nkey_env = "K"');
    expect(message).toMatch(/has key_file and key_env; the key of the vault comes from one place/);
  });

  test('[config:provider.api_key_secret] a key in the vault is a key', () => {
    const { config } = load('[provider]\napi_key_secret = "OPENAI"');
    expect(config.provider.kind).toBe('openai');
    expect(config.providerSource).toBe('provider.api_key_secret is set');
  });
});

describe('precedence: flag > environment > file > default', () => {
  const sourceOf = (loaded: ReturnType<typeof load>, key: string) =>
    loaded.values.find((each) => each.key === key);

  test('[config:store.path] of the state directory', () => {
    const toml = '[store]\npath = "/from/file"';
    const env = { PRX_STATE_DIR: '/from/env' };
    expect(load('').config.stateDir).toBe('/nonexistent/.local/state/prx-supervisor');
    expect(load(toml).config.stateDir).toBe('/from/file');
    expect(load(toml, env).config.stateDir).toBe('/from/env');
    expect(load(toml, env, { stateDir: '/from/flag' }).config.stateDir).toBe('/from/flag');
    expect(load(toml).config.socketPath).toBe('/from/file/api.sock');
  });

  test('of the model, and with an empty variable', () => {
    const toml = '[agent]\nmodel = "file-model"';
    expect(load(toml).config.model).toBe('file-model');
    expect(load(toml, { PRX_MODEL: 'env-model' }).config.model).toBe('env-model');
    expect(load(toml, { PRX_MODEL: '' }).config.model).toBe('file-model');
  });

  test('each value tells its source', () => {
    const toml = '[agent]\nmax_turns = 50\n[log]\nlevel = "warn"';
    const loaded = load(toml, { PRX_LOG: 'debug' }, { listen: '127.0.0.1:0' });
    expect(sourceOf(loaded, 'agent.max_turns')).toMatchObject({ value: 50, source: 'file' });
    expect(sourceOf(loaded, 'agent.restart')).toMatchObject({ source: 'default' });
    expect(sourceOf(loaded, 'log.level')).toMatchObject({ value: 'debug', source: 'environment' });
    expect(sourceOf(loaded, 'api.listen')).toMatchObject({ source: 'flag' });
  });

  test('a variable does not mend a table that is no table', () => {
    expect(problemOf('agent = 3').message).toContain('agent = 3');
  });
});

describe('the provider', () => {
  test.each([
    ['no key, no URL', '', {}, 'offline', 'no key and no base URL'],
    ['a key', '', { OPENAI_API_KEY: 'k' }, 'openai', 'OPENAI_API_KEY is set'],
    ['a URL', '', { OPENAI_BASE_URL: 'http://x/v1' }, 'openai', 'a base URL is set'],
    ['an empty key', '', { OPENAI_API_KEY: '' }, 'offline', 'no key and no base URL'],
    [
      'said so',
      '[provider]\nkind = "offline"',
      { OPENAI_API_KEY: 'k' },
      'offline',
      'provider.kind',
    ],
    ['another key', '[provider]\napi_key_env = "K"', { K: 'k' }, 'openai', 'K is set'],
  ])('%s', (_, toml, env, kind, source) => {
    const { config } = load(toml, env as Record<string, string>);
    expect(config.provider.kind).toBe(kind);
    expect(config.providerSource).toBe(source);
  });

  test('no key is ever a value of the config', () => {
    const { config, values } = load('', { OPENAI_API_KEY: 'sk-secret' });
    expect(JSON.stringify([config, values])).not.toContain('sk-secret');
  });
});

describe('agents', () => {
  test('[config:agents] an own table goes before [agent], key by key', () => {
    const toml = `
      [agent]
      max_turns = 7
      model = "m"
      [agents.reviewer]
      model = "big"
      tools = ["read_file"]
      session_timeout_secs = 5
    `;
    const { config } = load(toml);
    expect(findAgent(config, 'reviewer')).toMatchObject({
      name: 'reviewer',
      model: 'big',
      maxTurns: 7,
      tools: ['read_file'],
      sessionTimeoutMs: 5000,
      restart: 'transient',
    });
    expect(findAgent(config, undefined)).toMatchObject({ name: 'default', model: 'm' });
  });

  test('[config:agents] so do its own loop and worker', () => {
    const toml = `
      [agent.worker]
      idle_hibernate_secs = 9
      [agent.loop]
      compaction_strategy = "truncate"
      [agents.small.worker]
      max_restart_attempts = 1
      restart_window_secs = 2
      progress_timeout_secs = 4
      [agents.small.loop]
      compaction_threshold_tokens = 2000
      parallel_tool_calls = false
    `;
    const { config } = load(toml);
    expect(findAgent(config, 'small')).toMatchObject({
      maxRestartAttempts: 1,
      restartWindowMs: 2000,
      progressTimeoutMs: 4000,
      idleHibernateMs: 9000,
      parallelToolCalls: false,
      compactionThresholdTokens: 2000,
      compactionStrategy: 'truncate',
    });
    expect(findAgent(config, undefined)).toMatchObject({
      maxRestartAttempts: 3,
      compactionThresholdTokens: 80_000,
      parallelToolCalls: true,
    });
  });

  test('an unknown one is refused with the nearest and the known', () => {
    const { config } = load('[agents.reviewer]');
    expect(() => findAgent(config, 'reviewr')).toThrow(
      "there is no agent 'reviewr'. Did you mean 'reviewer'? Known: default, reviewer.",
    );
  });
});
