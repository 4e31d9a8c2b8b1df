/** Each key of config.toml reaches what it is for: read from what the children are started and
 *  told with, not from the config. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import type { ProviderSettings } from '../../protocol/gateway-methods.ts';
import type { CreateSession } from '../../protocol/resources.ts';
import type { SandboxPolicy } from '../../protocol/sandbox-methods.ts';
import { createHouse, demolish, type House, type HouseSpec } from './house.ts';
import { overStore } from './over-store.ts';
import {
  answers,
  call,
  callTool,
  dataOf,
  runsEverything,
  type ScriptedModel,
  say,
} from './script.ts';

afterEach(demolish);

interface Ran {
  readonly house: House;
  readonly gateway: ScriptedModel;
  readonly policy: SandboxPolicy | undefined;
  readonly provider: ProviderSettings | undefined;
  readonly host: ReturnType<typeof runsEverything>;
  readonly outcome: unknown;
  readonly events: Awaited<ReturnType<House['events']>>;
}

/** One turn that asks for the given calls, and everything the children heard. */
async function run(
  toml: string,
  {
    calls = [call('a', 'ls')],
    create = {},
    ...spec
  }: HouseSpec & {
    calls?: ReturnType<typeof call>[];
    create?: CreateSession;
  } = {},
): Promise<Ran> {
  let policy: SandboxPolicy | undefined;
  let provider: ProviderSettings | undefined;
  const gateway = {
    ...answers({ '1.1': say('', calls) }),
    onInitialize(given: ProviderSettings) {
      provider = given;
    },
  };
  const host = {
    ...runsEverything(),
    initialize(given: SandboxPolicy) {
      policy = given;
      return { level: given.backend, uid: 1, workspaceAccess: 'write' as const };
    },
  };
  const house = await createHouse({ toml, ...spec, script: { gateway, host } });
  const id = await house.create({ approve: 'all', ...create });
  await house.send(id, 'hello');
  const done = await house.turnDone(id);
  const { outcome } = done.data as { outcome: unknown };
  return { house, gateway, policy, provider, host, outcome, events: await house.events(id) };
}

describe('[agent]', () => {
  test('[config:agent.model] [config:agent.instructions] [config:agent.tools] go out', async () => {
    const toml = '[agent]\nmodel = "m"\ninstructions = "Be brief."\ntools = ["read_file"]';
    const { gateway, host, events } = await run(toml);
    const [request] = gateway.seen;
    expect(request?.model).toBe('m');
    expect(request?.messages[0]).toMatchObject({
      role: 'system',
      text: expect.stringContaining('Be brief.'),
    });
    expect(request?.tools.map(({ name }) => name)).toEqual(['read_file']);
    expect(host.runs).toEqual([]);
    expect(dataOf(events, 'tool.completed')).toMatchObject([{ status: 'error' }]);
  });

  test('[config:agents] a session of a named agent has its settings', async () => {
    const toml = '[agent]\nmodel = "m"\n[agents.reviewer]\nmodel = "big"';
    const { gateway } = await run(toml, { create: { agent: 'reviewer' } });
    expect(gateway.seen[0]?.model).toBe('big');
  });

  test('[config:agent.max_turns] ends the turn after so many steps', async () => {
    const { outcome, gateway } = await run('[agent]\nmax_turns = 1');
    expect(outcome).toBe('max_turns');
    expect(gateway.requests).toEqual(['1.1#1']);
  });

  test('[config:agent.max_tool_calls_per_turn] surplus calls are not run', async () => {
    const calls = [call('a', 'x'), call('b', 'y'), call('c', 'z')];
    const { host } = await run('[agent]\nmax_tool_calls_per_turn = 2', { calls });
    expect(host.runs).toEqual(['1.1.1', '1.1.2']);
  });

  test('[config:agent.limits.max_memory_mb] is the heap ceiling, at three quarters', async () => {
    const { house } = await run('[agent.limits]\nmax_memory_mb = 400');
    const [worker] = house.machine.of('worker');
    expect(worker?.spec.args).toContain('--max-old-space-size=300');
  });

  test('[event:context.compacted] [config:agent.loop.compaction_threshold_tokens] [config:agent.loop.compaction_strategy] decide when and how', async () => {
    const calls = [call('a', 'ls')];
    const long = say('x'.repeat(9000), calls);
    const toml = (threshold: number): string =>
      `[agent.loop]\ncompaction_threshold_tokens = ${threshold}\ncompaction_strategy = "truncate"`;
    const turn = async (threshold: number) => {
      const gateway = answers({ '1.1': long, '1.2': say('more', calls) });
      const house = await createHouse({ toml: toml(threshold), script: { gateway } });
      const id = await house.create();
      await house.send(id, 'hello');
      await house.turnDone(id);
      return dataOf(await house.events(id), 'context.compacted');
    };
    expect(await turn(2500)).toMatchObject([{ strategy: 'truncate' }]);
    expect(await turn(80_000)).toEqual([]);
  });

  test('[config:agent.stream_buffer_size] is the memory of one slow reader', async () => {
    const extraReads = async (size: number): Promise<number> => {
      let reads = 0;
      const house = await createHouse({
        toml: `[agent]\nstream_buffer_size = ${size}`,
        wrapStore: (store) =>
          overStore(store, {
            readEvents(session, options) {
              reads += 1;
              return store.readEvents(session, options);
            },
          }),
      });
      const id = await house.create();
      const end = new AbortController();
      const { signal } = end;
      const followed = await house.supervisor.followEvents(id, { since: 0, signal });
      const reader = followed[Symbol.asyncIterator]();
      for (let seq = 1; seq <= 3; seq += 1) await reader.next();
      const live = reader.next();
      await house.send(id, 'one');
      await live;
      // It reads pages too, which are shared: so before what is to be read, and not after.
      await house.turnDone(id);
      // Not read while these come in.
      for (let count = 0; count < 6; count += 1) {
        await house.supervisor.renameSession(id, `n${count}`);
      }
      const before = reads;
      const last = house.runtime.bus.publishedSeq(id);
      for (let seq = 0; seq !== last; seq = (await reader.next()).value?.seq ?? last);
      end.abort();
      return reads - before;
    };
    expect(await extraReads(64)).toBe(0);
    await demolish();
    expect(await extraReads(1)).toBeGreaterThan(0);
  });
});

describe('[provider]', () => {
  test('[config:provider.kind] [config:provider.base_url] [config:provider.api] [config:provider.connect_timeout_secs] [config:provider.first_token_timeout_secs] [config:provider.idle_timeout_secs] [config:provider.total_timeout_secs] [config:provider.max_retries] [config:provider.retry_base_ms] [config:provider.retry_max_ms] [config:provider.fallbacks] [config:provider.prices.<name>.input] [config:provider.prices.<name>.output] [config:provider.prices.<name>.cached_input] reach the gateway', async () => {
    const toml = `
      [provider]
      kind = "openai"
      base_url = "http://127.0.0.1:1/v1"
      api = "responses"
      api_key_env = "MY_KEY"
      connect_timeout_secs = 1
      first_token_timeout_secs = 2
      idle_timeout_secs = 3
      total_timeout_secs = 4
      max_retries = 5
      retry_base_ms = 6
      retry_max_ms = 7
      fallbacks = ["other"]
      prices.m = { input = 0.1, output = 0.2, cached_input = 0.05 }
    `;
    const { provider } = await run(toml);
    expect(provider).toEqual({
      kind: 'openai',
      baseUrl: 'http://127.0.0.1:1/v1',
      api: 'responses',
      apiKeyEnv: 'MY_KEY',
      connectTimeoutMs: 1000,
      firstTokenTimeoutMs: 2000,
      idleTimeoutMs: 3000,
      totalTimeoutMs: 4000,
      maxRetries: 5,
      retryBaseMs: 6,
      retryMaxMs: 7,
      fallbacks: ['other'],
      prices: { m: { input: 0.1, output: 0.2, cached_input: 0.05 } },
    });
  });

  test('[config:provider.api_key_env] [promise:no-secret-leaves] the key is in the gateway and nowhere else', async () => {
    const env = { MY_KEY: 'sk-secret', OPENAI_API_KEY: 'sk-other', PATH: '/bin' };
    const { house, events, policy } = await run('[provider]\napi_key_env = "MY_KEY"', { env });
    const { machine } = house;
    expect(machine.of('gateway')[0]?.spec.env).toEqual({ MY_KEY: 'sk-secret' });
    const others = machine.started.filter(({ room }) => room !== 'gateway');
    const elsewhere = JSON.stringify([others.map(({ spec }) => spec), events, policy]);
    expect(elsewhere).not.toMatch(/sk-(secret|other)/);
    expect(JSON.stringify(await house.supervisor.status(true))).not.toMatch(/sk-/);
  });
});

describe('[security]', () => {
  test('[config:security.sandbox.read_only_paths] [config:security.sandbox.writable_paths] [config:security.sandbox.timeout_secs] [config:security.sandbox.memory_limit_mb] [config:security.sandbox.max_pids] [config:security.sandbox.max_output_bytes] [config:security.sandbox.max_disk_mb] [config:security.sandbox.max_cpu_secs] [config:security.sandbox.max_files] [config:security.sandbox.env_allowlist] [config:security.sandbox.max_background_processes] [config:security.sandbox.background_timeout_secs] reach the host', async () => {
    const toml = `
      [security.sandbox]
      read_only_paths = ["/opt/a"]
      writable_paths = ["/opt/b"]
      timeout_secs = 5
      memory_limit_mb = 64
      max_cpu_secs = 3
      max_pids = 7
      max_background_processes = 2
      background_timeout_secs = 90
      max_output_bytes = 8000
      max_disk_mb = 9
      max_files = 11
      env_allowlist = ["LANG", "UNSET"]
    `;
    const { policy, events, house } = await run(toml, { env: { LANG: 'C', SECRET: 's' } });
    expect(policy).toMatchObject({
      backend: 'bubblewrap',
      readOnlyPaths: ['/opt/a'],
      writablePaths: ['/opt/b'],
      timeoutMs: 5000,
      memoryLimitBytes: 64 * 2 ** 20,
      cpuMs: 3000,
      filesMax: 11,
      diskBytes: 9 * 2 ** 20,
      maxPids: 7,
      backgroundMax: 2,
      backgroundTimeoutMs: 90_000,
      maxOutputBytes: 8000,
      tmpBytes: 9 * 2 ** 20,
      envAllowlist: ['LANG', 'UNSET'],
      env: { LANG: 'C' },
    });
    expect(policy?.hiddenPaths).toContain(house.stateDir);
    expect(policy?.protectedPaths).toEqual([
      '/installation',
      join(house.stateDir, 'test-config.toml'),
    ]);
    expect(dataOf(events, 'tool.started')).toMatchObject([
      {
        limits: {
          ...{ timeout_secs: 5, memory_limit_mb: 64, max_cpu_secs: 3, max_pids: 7 },
          ...{ max_output_bytes: 8000, max_disk_mb: 9, max_files: 11 },
        },
      },
    ]);
  });

  test('[config:security.sandbox.backend] none: without isolation, when written', async () => {
    const probe = { level: 'none', reason: 'missing' };
    const none = await run('[security.sandbox]\nbackend = "none"', { probe });
    expect(none.policy?.backend).toBe('none');
    expect(none.host.runs).toEqual(['1.1.1']);
    expect(dataOf(none.events, 'tool.started')).toMatchObject([{ level: 'none' }]);
    await demolish();
    expect((await run('', { probe })).host.runs).toEqual([]);
  });

  test.each([
    ['none', [], 'deny', 'built-in default at sandbox level none, approve=never'],
    ['auto', ['1.1.1'], 'allow', 'built-in default'],
  ])(
    '[config:security.tool_policy.default] unset, backend %s: %j run unasked',
    async (backend, runs, decision, rule) => {
      const toml = `[security.sandbox]\nbackend = "${backend}"`;
      const { host, events } = await run(toml, { create: { approve: 'never' } });
      expect(host.runs).toEqual(runs);
      expect(dataOf(events, 'tool.decided')).toMatchObject([{ decision, rule }]);
    },
  );

  test('a call names the policy it runs under, which changes with it', async () => {
    const policies: unknown[] = [];
    for (const seconds of [5, 6]) {
      const { events } = await run(`[security.sandbox]\ntimeout_secs = ${seconds}`);
      const [started] = dataOf<{ policy: string }>(events, 'tool.started');
      policies.push(started?.policy);
      await demolish();
    }
    expect(policies).toEqual([expect.stringMatching(/^[0-9a-f]{16}$/), expect.anything()]);
    expect(policies[0]).not.toBe(policies[1]);
  });

  test('[config:security.sandbox.minimum_level] a level below it is refused by name', async () => {
    const toml = '[security.sandbox]\nbackend = "none"\nminimum_level = "bubblewrap"';
    const { host, events } = await run(toml);
    expect(host.runs).toEqual([]);
    expect(dataOf(events, 'tool.completed')).toMatchObject([
      { status: 'denied', output: expect.stringContaining('minimum_level is "bubblewrap"') },
    ]);
  });

  test('[config:security.sandbox.workspace_roots] a workspace lies in one of them', async () => {
    const roots = mkdtempSync(join(tmpdir(), 'prx-roots-'));
    const [inside, outside] = [join(roots, 'in'), join(roots, 'out')];
    for (const folder of [inside, outside]) mkdirSync(folder);
    const house = await createHouse({
      toml: `[security.sandbox]\nworkspace_roots = ["${inside}"]`,
    });
    await house.create({ workspace: inside });
    await expect(house.create({ workspace: outside })).rejects.toMatchObject({
      code: 'WORKSPACE_REFUSED',
      message: expect.stringContaining('security.sandbox.workspace_roots'),
    });
    rmSync(roots, { recursive: true });
  });

  test('[config:security.tool_policy.groups.<name>] [config:security.tool_policy.tools.<name>] decide the calls of a session', async () => {
    const toml = `
      [security.tool_policy]
      default = "deny"
      groups.files = "allow"
      tools.write_file = "deny"
    `;
    const calls = [
      call('a', 'ls'),
      callTool('b', 'read_file', { path: 'x' }),
      callTool('c', 'write_file', { path: 'x', content: '' }),
    ];
    const { host, events } = await run(toml, { calls });
    expect(host.runs).toEqual(['1.1.2']);
    const decided = dataOf<{ call_id: string; rule: string }>(events, 'tool.decided');
    expect(Object.fromEntries(decided.map(({ call_id, rule }) => [call_id, rule]))).toEqual({
      '1.1.1': 'security.tool_policy.default',
      '1.1.2': 'security.tool_policy.groups.files',
      '1.1.3': 'security.tool_policy.tools.write_file',
    });
  });
});

test('[config:api.socket] is where the supervisor says it listens', async () => {
  const { house } = await run('[api]\nsocket = "/tmp/prx-test.sock"');
  expect((await house.supervisor.status(false)).socket).toBe('/tmp/prx-test.sock');
});

test('a reload changes the next turn, says what changed, and keeps the last good one', async () => {
  const { house, gateway } = await run('[agent]\nmodel = "old"');
  const file = join(house.stateDir, 'test-config.toml');
  writeFileSync(file, '[agent]\nmodel = "new"\n[agent.limits]\nmax_concurrent_sessions = 3');
  const { changed, needs_restart } = await house.supervisor.reload();
  expect([...changed].sort()).toEqual(['agent.limits.max_concurrent_sessions', 'agent.model']);
  expect(needs_restart).toEqual([]);
  const id = await house.create();
  await house.send(id, 'hello');
  await house.turnDone(id);
  expect(gateway.seen.at(-1)?.model).toBe('new');
  expect((await house.supervisor.status(false)).capacity.max_concurrent_sessions).toBe(3);
  writeFileSync(file, '[agent]\nmax_turns = 0');
  await expect(house.supervisor.reload()).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  expect((await house.supervisor.status(false)).model).toBe('new');
});
