/** What each room is told, as plain data: standing, specs of children, views, metrics. */
import { describe, expect, test } from '@jest/globals';
import { realRandom } from '../../base/random.ts';
import { createSessionId } from '../../protocol/ids.ts';
import type { StatusView } from '../../protocol/resources.ts';
import { sandboxLevels } from '../../protocol/sandbox-levels.ts';
import type { SessionRecord } from '../../store/contract.ts';
import { type Config, loadConfig } from '../../supervisor/config.ts';
import { findPrograms, toGatewaySpec, toHostSpec, toWorkerSpec } from '../../supervisor/launch.ts';
import { toMetrics } from '../../supervisor/metrics.ts';
import {
  agentOf,
  createToolSpecs,
  type Probe,
  toBudget,
  toManifest,
  toRestartPolicy,
  toSandboxView,
  toStanding,
  toStartLevel,
} from '../../supervisor/settings.ts';
import { toApprovalViews, toSessionView } from '../../supervisor/views.ts';

const { config } = loadConfig({}, { HOME: '/nonexistent' });

function withSandbox(own: object): Config {
  const { security } = config.raw;
  const sandbox = { ...security.sandbox, ...own };
  return { ...config, raw: { ...config.raw, security: { ...security, sandbox } } };
}

const record: SessionRecord = {
  id: createSessionId(realRandom),
  name: undefined,
  agent: 'default',
  model: undefined,
  workspace: '/w',
  private_workspace: false,
  labels: {},
  limits: {},
  approve: 'ask',
  state: 'running',
  state_reason: 'open for work',
  created_at: 'c',
  updated_at: 'u',
  last_seq: 3,
  epoch: 1,
  turn: 0,
  open_turn: undefined,
  last_outcome: undefined,
  last_reason: undefined,
  queued: [],
  approvals: [],
  approved_tools: [],
  usage: { input_tokens: 1, output_tokens: 2 },
  cost_usd: 0.5,
  generation: 0,
  restarts: 0,
};

describe('[promise:deny-by-default] the standing of the sandbox never fails open', () => {
  const probes: readonly Probe[] = [
    { level: 'bubblewrap' },
    { level: 'none' },
    { level: 'none', reason: 'r', mend: 'm' },
    { level: '' },
    { level: 'something-new' },
    { level: 'unshare', reason: 'r', mend: 'm' },
    { level: 'landlock', reason: 'r', mend: 'm' },
    { level: 'limits-only', reason: 'r', mend: 'm' },
  ];
  const backends = ['auto', ...sandboxLevels] as const;
  const minimums = [undefined, ...sandboxLevels] as const;
  const cells = probes.flatMap((probe) =>
    backends.flatMap((backend) => minimums.map((minimum) => ({ probe, backend, minimum }))),
  );

  test.each(cells)('%j', ({ probe, backend, minimum }) => {
    const own = minimum === undefined ? {} : { minimum_level: minimum };
    const { level, refusal } = toStanding(withSandbox({ backend, ...own }), probe);
    const strength = (name: string): number => [...sandboxLevels].reverse().indexOf(name as 'none');
    const floor = minimum ?? (backend === 'auto' ? 'bubblewrap' : backend);
    const isMeant = backend === 'auto' || backend === probe.level;
    const isStrong =
      isMeant && strength(probe.level) > 0 && strength(probe.level) >= strength(floor);
    const isWaived = backend === 'none' && strength(floor) === 0;
    expect(level).toBe(isStrong && backend !== 'none' ? probe.level : 'none');
    expect(refusal === undefined).toBe(isWaived || (isStrong && backend !== 'none'));
    // What is started all the same must not run unconfined.
    const started = refusal === undefined ? level : 'bubblewrap';
    expect(toStartLevel(withSandbox({ backend, ...own }), probe)).toBe(started);
  });

  test('a level without a network of its own is refused with an allow-list', () => {
    const own = { minimum_level: 'none', network: 'allowlist' };
    const levels = sandboxLevels.map((level) => toStanding(withSandbox(own), { level }));
    expect(levels.map(({ level }) => level)).toEqual([
      ...['bubblewrap', 'unshare', 'none', 'none', 'none'],
    ]);
    expect(levels[2]?.refusal).toMatch(/level landlock cannot keep to .*"allowlist"/);
  });

  test('[config:security.sandbox.minimum_level] the refusal of a weaker level says how to accept it', () => {
    const weaker = { level: 'unshare', reason: 'why', mend: 'do this' };
    const view = toSandboxView(config, weaker, { installation: '/i', env: {} });
    expect(view).toEqual({ level: 'none', offered: 'unshare', reason: 'why', mend: 'do this' });
    const { refusal } = toStanding(config, weaker);
    expect(refusal).toMatch(/no more than level unshare \(why\).*Mend: do this\..*"unshare"/);
    const accepting = withSandbox({ minimum_level: 'unshare' });
    expect(toSandboxView(accepting, weaker, { installation: '/i', env: {} })).toEqual({
      ...{ level: 'unshare', reason: 'why', mend: 'do this' },
      policy: expect.stringMatching(/^[0-9a-f]{16}$/),
    });
  });

  test('the refusal says why and how to mend it', () => {
    const { refusal } = toStanding(config, { level: 'none', reason: 'why', mend: 'do this' });
    expect(refusal).toMatch(/no sandbox \(why\)\. Mend: do this\..*backend = "none"/);
  });
});

describe('limits of a session go before those of its agent', () => {
  test('in the manifest, the budget and the restart policy', () => {
    const limits = { max_turns: 3, max_tool_calls_per_turn: 2, max_cost_usd: 9, max_tokens: 8 };
    const manifest = toManifest(config, createToolSpecs(), { ...record, limits }, 'm');
    expect(manifest).toMatchObject({ model: 'm', maxTurns: 3, maxToolCallsPerTurn: 2 });
    expect(toBudget(config, limits)).toEqual({ maxCostUsd: 9, maxTokens: 8 });
    expect(toBudget(config, {})).toEqual({ maxCostUsd: 0, maxTokens: 0 });
    expect(toRestartPolicy(agentOf(config, 'gone'))).toEqual({
      type: 'transient',
      intensity: 3,
      periodMs: 60_000,
    });
  });
});

describe('[promise:no-secret-leaves] how children are started', () => {
  const programs = findPrograms('/app/dist/supervisor.js', '/bin/node');
  const env = { OPENAI_API_KEY: 'sk-secret', HTTPS_PROXY: 'p', PATH: '/bin', HOME: '/h', X: 'y' };

  test('a worker: nothing in its environment, no permission but to read its own program', () => {
    const { process, ...spec } = toWorkerSpec(programs, 512 * 2 ** 20, undefined);
    expect(spec).toMatchObject({ kind: 'worker', stopGraceMs: 200 });
    expect(process).toMatchObject({ command: '/bin/node', env: {}, cwd: '/', ownSession: true });
    expect(process.args).toContain('--permission');
    expect(process.args).toContain('--max-old-space-size=384');
    const granted = process.args.filter((each) => each.startsWith('--allow'));
    expect(granted).toEqual(['--allow-fs-read=/app/dist/worker.js']);
    expect(process.args.indexOf('--permission')).toBeLessThan(
      process.args.indexOf('/app/dist/worker.js'),
    );
  });

  test('a worker behind a launcher: its words first, then the same command', () => {
    const launcher = { prefix: ['bwrap', '--unshare-net'], confinement: ['net', 'pid'] };
    const { command, args } = toWorkerSpec(programs, 512 * 2 ** 20, launcher).process;
    expect([command, ...args].slice(0, 3)).toEqual(['bwrap', '--unshare-net', '/bin/node']);
    expect(args.at(-1)).toBe('--confinement=net,pid');
  });

  test('the heap of a worker stays below its limit, and is never too small to start', () => {
    const heap = (mb: number): number => {
      const { args } = toWorkerSpec(programs, mb * 2 ** 20, undefined).process;
      const flag = args.find((each) => each.startsWith('--max-old-space-size='));
      return Number(flag?.split('=')[1]);
    };
    expect([64, 512, 4096].map(heap)).toEqual([48, 384, 3072]);
    expect(heap(16)).toBe(32);
  });

  test('the gateway: its key and what a connection needs, nothing else', () => {
    const { process } = toGatewaySpec(programs, 'OPENAI_API_KEY', env);
    expect(process.env).toEqual({
      OPENAI_API_KEY: 'sk-secret',
      HTTPS_PROXY: 'p',
      NODE_USE_ENV_PROXY: '1',
    });
    expect(toGatewaySpec(programs, 'OTHER', { OTHER: '' }).process.env).toEqual({});
  });

  test('a sandbox host: the path, no key', () => {
    expect(toHostSpec(programs, env).process.env).toEqual({ PATH: '/bin' });
    expect(toHostSpec(programs, {}).process.env).toEqual({ PATH: '/usr/bin:/bin' });
  });

  test('programs lie beside the supervisor: bundles, or the source tree', () => {
    expect(programs).toMatchObject({
      isSource: false,
      worker: '/app/dist/worker.js',
      root: '/app',
    });
    const source = findPrograms('/app/supervisor/main.ts', '/bin/node');
    expect(source).toMatchObject({ isSource: true, gateway: '/app/gateway/main.ts', root: '/app' });
  });
});

describe('views', () => {
  test('a session that is not open here: hibernated, its own model or the shown one', () => {
    const view = toSessionView(record, undefined, 'shown');
    expect(view).toMatchObject({
      id: record.id,
      model: 'shown',
      residency: 'hibernated',
      activity: 'idle',
      queued_inputs: 0,
      usage: record.usage,
    });
    for (const absent of ['name', 'worker_pid', 'backoff', 'last_outcome', 'workspace_notice']) {
      expect(view).not.toHaveProperty(absent);
    }
    expect(toSessionView({ ...record, model: 'own' }, undefined, 'shown').model).toBe('own');
  });

  test('what the open turn has used so far counts; who waits is waiting', () => {
    const open = {
      ...{ turn: 1, input_id: 'in' as never, started_at: '', steered: [], interrupted: false },
      ...{ steps: 1, usage: { input_tokens: 10, output_tokens: 20 }, cost_usd: 1, unfinished: [] },
    };
    const view = toSessionView({ ...record, open_turn: open }, undefined, 'm');
    expect(view).toMatchObject({
      activity: 'turn',
      usage: { input_tokens: 11, output_tokens: 22 },
      cost_usd: 1.5,
    });
    const approval = { call_id: '1.1.1' as never, tool: 'shell', arguments: {}, digest: 'd' };
    const approvals = [{ ...approval, requested_at: 'r', expires_at: 'e' }];
    const waiting = { ...record, open_turn: open, approvals };
    expect(toSessionView(waiting, undefined, 'm').activity).toBe('waiting');
    expect(toApprovalViews(waiting)).toEqual([{ session: record.id, ...approvals[0] }]);
  });
});

describe('metrics', () => {
  const status = {
    status: 'ok',
    capacity: { max_concurrent_sessions: 8, resident: 2, queued: 1, warm: 3 },
    sessions: { running: 2, failed: 1 },
  } as unknown as StatusView;

  const parse = (text: string) => {
    const values = new Map<string, number>();
    for (const line of text.split('\n')) {
      if (line === '' || line.startsWith('#')) continue;
      const match = /^([a-z_]+(?:\{[a-z]+="[a-z]+"\})?) ([0-9.]+)$/.exec(line);
      expect({ line, valid: match !== null }).toEqual({ line, valid: true });
      values.set(match?.[1] ?? '', Number(match?.[2]));
    }
    return values;
  };

  const removed = { input_tokens: 10, output_tokens: 20, cost_usd: 30 };

  test('are Prometheus text: each with help and type, each value a number', () => {
    const text = toMetrics(status, { sessions: [record, { ...record, restarts: 2 }], removed });
    const values = parse(text);
    expect(Object.fromEntries(values)).toMatchObject({
      prx_up: 1,
      'prx_sessions{state="running"}': 2,
      'prx_sessions{state="failed"}': 1,
      prx_workers_resident: 2,
      prx_workers_warm: 3,
      prx_sessions_queued: 1,
      'prx_sessions{state="awaiting"}': 0,
      prx_inputs_queued: 0,
      'prx_tokens_total{type="input"}': 12,
      'prx_tokens_total{type="output"}': 24,
      prx_cost_usd_total: 31,
    });
    const names = new Set([...values.keys()].map((key) => key.replace(/\{.*/, '')));
    for (const name of names) {
      expect(text).toMatch(new RegExp(`# HELP ${name} .+\\n# TYPE ${name} (gauge|counter)\\n`));
    }
    expect(text.endsWith('\n')).toBe(true);
  });

  test('say when the supervisor does not accept work; no session is ever a label', () => {
    const text = toMetrics({ ...status, status: 'degraded' }, { sessions: [record], removed });
    expect(parse(text).get('prx_up')).toBe(0);
    expect(text).not.toContain(record.id);
  });
});
