import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Check, toOverall } from '../../cli/doctor/check.ts';
import { judgeCgroups, judgeLimits } from '../../cli/doctor/limit-checks.ts';
import {
  checkNode,
  checkSocket,
  checkStateDir,
  judgeDisk,
} from '../../cli/doctor/machine-checks.ts';
import {
  checkBudget,
  checkProvider,
  checkServers,
  checkToolFiles,
  judgeSandbox,
} from '../../cli/doctor/service-checks.ts';
import { runCli } from './run-cli.ts';

let folder = '';

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'prx-doctor-'));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const of = (check: Check) => [check.status, check.mend !== undefined];

function checkServer(state: 'running' | 'failed', problems: string[]): Check {
  const status = { mcp: [{ server: 's', state, processes: 1, tools: 2, problems }] };
  const [check] = checkServers(status);
  if (check === undefined) throw new Error('a server has a check');
  return check;
}

function checkToolFile(said: { readonly tool?: string; readonly problem?: string }): Check {
  const [check] = checkToolFiles({ custom_tools: [{ file: '/t/x.ts', ...said }] });
  if (check === undefined) throw new Error('a file has a check');
  return check;
}

describe('what bounds processes', () => {
  const limits = (files: string, processes: string) =>
    `Limit  Soft  Hard  Units\nMax processes  64  ${processes}  processes\nMax open files  64  ${files}  files\n`;

  test.each([
    ['1024', '512', ['ok', false]],
    ['1023', '512', ['warn', true]],
    ['unlimited', '511', ['warn', true]],
    ['unlimited', 'unlimited', ['ok', false]],
  ])('%s open files and %s processes', (files, processes, expected) => {
    expect(of(judgeLimits(limits(files, processes)))).toEqual(expected);
  });

  test('the mend names what is too small', () => {
    expect(judgeLimits(limits('100', '10')).mend).toMatch(/ulimit -n 1024 .*, ulimit -u 512/);
    expect(judgeLimits(limits('100', '600')).mend).not.toMatch('ulimit -u');
  });

  test.each([
    [['cgroup v2', 'scan'], '', /^cgroup v2 keeps the limits/],
    [['monitor', 'scan'], '0::/\n', /^the supervisor was given none: .*the unit of/],
    [undefined, '4:cpu,memory:/x\n0::/\n', /^the kernel has v1; the unit of/],
    [undefined, '0::/x\n', /^the kernel has v2; the unit of/],
    [undefined, '', /^there are none: memory is watched/],
  ])('cgroups: a supervisor says %j, the kernel %j', (enforcement, text, summary) => {
    const check = judgeCgroups(enforcement, text);
    expect([check.summary, ...of(check)]).toEqual([expect.stringMatching(summary), 'ok', false]);
  });
});

describe('single checks: status, and a mend whenever it is not ok', () => {
  test.each<[string, () => Check, string, boolean]>([
    ['Node as pinned', () => checkNode('v26.0.0'), 'ok', false],
    ['Node too old', () => checkNode('v24.9.0'), 'fail', true],
    ['much disk', () => judgeDisk(1024 ** 3), 'ok', false],
    ['little disk', () => judgeDisk(1024 ** 3 - 1), 'warn', true],
    ['no disk', () => judgeDisk(100 * 1024 ** 2 - 1), 'fail', true],
    ['a sandbox', () => judgeSandbox({ level: 'bubblewrap' }), 'ok', false],
    ['none', () => judgeSandbox({ level: 'none', mend: 'install bubblewrap' }), 'warn', true],
    ['a level that was asked for', () => judgeSandbox({ level: 'unshare' }), 'ok', false],
    ['limits without isolation', () => judgeSandbox({ level: 'limits-only' }), 'warn', true],
    ['an MCP server', () => checkServer('running', []), 'ok', false],
    ['one that left something out', () => checkServer('running', ['x']), 'warn', true],
    ['one that does not start', () => checkServer('failed', ['why']), 'warn', true],
    ['a tool file', () => checkToolFile({ tool: 'custom__x' }), 'ok', false],
    ['one without a tool', () => checkToolFile({ problem: 'why' }), 'warn', true],
    ['running', () => checkSocket('/s', true, 'start'), 'ok', false],
    ['not running', () => checkSocket('/no/such.sock', false, 'start'), 'ok', false],
    ['a state dir to be made', () => checkStateDir(join(folder, 'a/b'), undefined), 'ok', false],
    ['a state dir of another', () => checkStateDir(folder, 4_000_000), 'fail', true],
  ])('%s', (_name, check, status, hasMend) => {
    expect(of(check())).toEqual([status, hasMend]);
  });

  test('a weaker sandbox: how to get the better one, or to accept this one', () => {
    const answer = { level: 'unshare', reason: 'no bwrap', mend: 'install it' };
    const accept = 'or accept it: security.sandbox.minimum_level = "unshare"';
    expect(judgeSandbox(answer)).toMatchObject({
      ...{ status: 'warn', summary: 'level unshare: no bwrap', mend: `install it; ${accept}` },
    });
    const refused = { ...answer, level: 'none', offered: 'unshare' };
    expect(judgeSandbox(refused)).toMatchObject({
      summary: 'level none, offered unshare: no bwrap',
      mend: `install it; ${accept}`,
    });
    expect(judgeSandbox({ ...answer, policy: '0123' })).toMatchObject({ mend: 'install it' });
  });

  test('a socket that nobody answers is stale; a state dir that others may read is named', () => {
    const socket = join(folder, 'api.sock');
    writeFileSync(socket, '');
    expect(of(checkSocket(socket, false, 'prx start'))).toEqual(['warn', true]);
    chmodSync(folder, 0o755);
    expect(checkStateDir(folder, undefined)).toMatchObject({
      status: 'warn',
      mend: `chmod 700 ${folder}`,
    });
  });

  test.each([
    ['a key', {}, { OPENAI_API_KEY: 'k' }, 'ok'],
    ['a key under another name', { 'provider.api_key_env': 'K' }, { K: 'k' }, 'ok'],
    ['no key, own server', { 'provider.base_url': 'http://h' }, {}, 'warn'],
    ['nothing at all: offline', {}, {}, 'warn'],
    ['openai asked for without a key', { 'provider.kind': 'openai' }, {}, 'fail'],
  ])('provider: %s', (_name, values, env, status) => {
    const found = new Map<string, unknown>(Object.entries(values));
    const check = checkProvider((key) => found.get(key), env);
    expect(check.status).toBe(status);
    expect(JSON.stringify(check)).not.toContain('"k"');
  });

  test.each([
    ['no limit in dollars', {}, []],
    ['no price', { 'agent.model': 'm' }, ['warn']],
    ['a price of another model', { 'agent.model': 'm', 'provider.prices.n.input': 1 }, ['warn']],
    ['no model named', { 'provider.prices.n.input': 1 }, ['warn']],
    ['its price', { 'agent.model': 'm', 'provider.prices.m.input': 0 }, ['ok']],
  ])('budget: %s', (_name, values, statuses) => {
    const max = statuses.length === 0 ? 0 : 5;
    const found = new Map<string, unknown>(Object.entries(values)).set('budget.max_cost_usd', max);
    expect(checkBudget((key) => found.get(key)).map(({ status }) => status)).toEqual(statuses);
  });

  test('the worst counts', () => {
    const check = (status: Check['status']): Check => ({
      id: 'x',
      category: 'machine',
      status,
      summary: '',
    });
    expect(toOverall([])).toBe('ok');
    expect(toOverall([check('ok'), check('warn')])).toBe('warn');
    expect(toOverall([check('fail'), check('warn')])).toBe('fail');
  });
});

describe('with our own programs', () => {
  const options = () => ({ env: { XDG_CONFIG_HOME: folder, PATH: '/usr/bin:/bin' } });

  test('[command:config] check: valid exits 0, a mistake exits 78 and is named', async () => {
    const good = await runCli({ stateDir: folder }, ['config', 'check'], options());
    expect([good.exit, good.out]).toEqual([0, expect.stringContaining('valid: ')]);
    const file = join(folder, 'bad.toml');
    writeFileSync(file, '[agent]\nmax_turn = 3\n');
    const argv = ['config', 'check', '--config', file];
    const bad = await runCli({ stateDir: folder }, argv, options());
    expect([bad.exit, bad.err]).toEqual([78, expect.stringContaining('max_turn')]);
  });

  test('[command:config] show: every value and its source', async () => {
    const { exit, out } = await runCli({ stateDir: folder }, ['config', 'show'], options());
    expect(exit).toBe(0);
    expect(out).toMatch(/^agent\.max_turns +50 +default$/m);
    expect(out).toMatch(/^store\.path +.* environment$/m);
  });

  test('[command:doctor] --json: schemaVersion, overallStatus, checks', async () => {
    const { out } = await runCli({ stateDir: folder }, ['doctor', '--json'], options());
    const report = JSON.parse(out);
    expect([report.schemaVersion, ['ok', 'warn', 'fail']]).toEqual([1, expect.anything()]);
    expect(Object.keys(report.checks)).toEqual(
      expect.arrayContaining([
        'node',
        'state_dir',
        'disk',
        'cgroups',
        'limits',
        'config',
        'provider',
        'sandbox',
      ]),
    );
  });

  test('[command:doctor] --fix without a supervisor: says who would mend it', async () => {
    const { out } = await runCli({ stateDir: folder }, ['doctor', '--fix', '--json'], options());
    const { leftovers } = JSON.parse(out).checks;
    expect(leftovers).toMatchObject({ status: 'warn', mend: expect.stringContaining('start') });
  });
});
