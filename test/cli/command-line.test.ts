import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { PrxError } from '../../base/errors.ts';
import { commandNames, commandTable } from '../../cli/commands/index.ts';
import { type FilePlaces, locate, quoteArgument, toSelf } from '../../cli/locate.ts';
import { findProgram } from '../../cli/own-programs.ts';
import { findCommandIndex, readVersion } from '../../cli/program.ts';
import { reportError } from '../../cli/report.ts';
import { createStyle } from '../../cli/text/style.ts';
import { runCli } from './run-cli.ts';

let folder = '';

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'prx-line-'));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const run = (...argv: string[]) => runCli({ stateDir: folder }, argv);

describe('help', () => {
  test('--help lists every command by group, with examples, on stdout', async () => {
    const { exit, out, err } = await run('--help');
    expect([exit, err]).toEqual([0, '']);
    for (const name of commandNames) expect(out).toMatch(new RegExp(`^ .*\\b${name}\\b`, 'm'));
    expect(out).toContain('Examples:');
  });

  test('--version', async () => {
    expect(await run('--version')).toEqual({ exit: 0, out: `${readVersion()}\n`, err: '' });
  });

  test('without a command the help is a mistake: stderr, exit 2', async () => {
    const { exit, out, err } = await run();
    expect([exit, out]).toEqual([2, '']);
    expect(err).toContain('Usage:');
  });

  test.each(commandNames)('%s --help explains it, loads and runs nothing', async (name) => {
    const { exit, out, err } = await run(name, '--help');
    expect([exit, err]).toEqual([0, '']);
    const known = commandTable.find((entry) => [entry.name, ...entry.aliases].includes(name));
    expect(out).toContain(`prx-supervisor ${known?.name}`);
    expect(out).toContain('--state-dir');
  });

  test('help COMMAND is COMMAND --help', async () => {
    expect((await run('help', 'ps')).out).toBe((await run('ps', '--help')).out);
  });
});

describe('mistakes exit 2 and name what is near', () => {
  test.each([
    [['pss'], "there is no command 'pss'. Did you mean 'ps'?"],
    [['atach', 'x'], "Did you mean 'attach'?"],
    [['ps', '--wach'], "unknown option or argument 'wach'. Did you mean '--watch'?"],
    [['ps', 'extra'], "unknown option or argument 'extra'"],
    [['ps', '--', 'extra'], "unknown option or argument 'extra'"],
    [['run', '-x', 'y'], "argument 'x'. Words that begin with - go behind --."],
    [['run', '--workspace', '--', 'x'], '--workspace needs a value before --'],
    [['run', ''], 'the prompt is empty; say what to do'],
    [['send', 'x', ' '], 'the prompt is empty'],
    [['new', '--prompt', ''], 'the prompt is empty'],
    [['wait', 'x', '--timeout', '-1'], '--timeout -1 is negative'],
    [['logs', 'x', '-n', '-1'], '--lines -1 is negative'],
    [['events', '--type', 'turn.complete'], "did you mean 'turn.completed'?"],
    [['events', 'x', '--type', 'z'], "there is no event type 'z'; there are: session.created"],
    [['events', '--since', '5'], 'events @last --since 5'],
    [['--jsn'], "Did you mean '--json'?"],
    [['attach'], 'error: <id> is missing.'],
    [['rename', 'x'], 'error: <name> is missing.'],
    [['approve'], 'error: <id> and <call> are missing.'],
    [['rm'], 'error: <ids..> is missing.'],
    [['journal'], 'error: <action> is missing (it takes verify, repair or export).'],
    [['wait', 'x', '--for', 'ever'], '--for is "ever"; it takes idle, completed or approval.'],
    [['wait', 'x', '--timeout', 'soon'], '--timeout takes a number'],
    [['logs', 'x', '-n', 'all'], 'error: -n takes a number'],
    [['inspect', ''], 'error: <id> is empty; give it a value'],
    [['rename', 'x', ''], 'error: <name> is empty'],
    [['rm', 'x', ''], 'error: <ids> is empty'],
    [['token', 'revoke', ''], 'error: <name> is empty'],
    [['new', '--workspace', ''], '--workspace is empty; give it a value, or leave it out'],
    [['new', '--label', ''], '--label is empty'],
    [['start', '--config='], '--config is empty'],
    [['ps', '--state-dir', ''], '--state-dir is empty'],
    [['chaos', '--seed', ''], '--seed is empty'],
    [['chaos', '--seed', 'x'.repeat(65)], '--seed is longer than 64 characters'],
    [['logs', 'x', '-n'], 'error: -n needs a value.'],
    [['new', '--name', 'a', '--name', 'b'], '--name was given more than once'],
    [['new', '--name'], 'error: --name needs a value.'],
    [['config', 'edit'], 'error: <action> is "edit"; it takes check or show.'],
  ])('%j', async (argv, message) => {
    const { exit, out, err } = await run(...argv);
    expect([exit, out, err]).toEqual([2, '', expect.stringContaining(message)]);
  });

  test('--json tells errors as JSON, on stderr', async () => {
    const { exit, out, err } = await run('pss', '--json');
    expect([exit, out]).toEqual([2, '']);
    expect(JSON.parse(err)).toMatchObject({ error: { code: 'INVALID_REQUEST', exit: 2 } });
  });
});

test.each([
  [{ file: '/etc/my prx.toml' }, "prx config check --config '/etc/my prx.toml'"],
  [{}, 'prx config check'],
])('a bad configuration of %j is checked with the file it was read from', (data, line) => {
  const said: string[] = [];
  const say = (text: string) => void said.push(text);
  const context = { json: false, self: 'prx', door: undefined, errorStyle: createStyle(false) };
  reportError({ ...context, say }, new PrxError('CONFIG_INVALID', 'bad', { data }));
  expect(said.at(-1)).toBe(`check it with: ${line}`);
});

test('where in a request a value was is not told to who typed a command', () => {
  const said: string[] = [];
  const say = (line: string) => void said.push(line);
  const context = { json: false, self: 'prx', door: undefined, errorStyle: createStyle(false) };
  const error = new PrxError('INVALID_REQUEST', 'path.call_id: an effect id');
  expect(reportError({ ...context, say }, error)).toBe(2);
  expect(said).toEqual(['error: call_id: an effect id']);
});

/** Commands that need no supervisor. */
const standAlone = [
  ...['start', 'config', 'doctor', 'service', 'completion'],
  ...['journal', 'restore', 'chaos', 'sandbox', 'secret'],
];

test.each(commandNames.filter((name) => !standAlone.includes(name)))(
  '%s without a supervisor: exit 3 and the command that starts one',
  async (name) => {
    const words: Record<string, string[]> = {
      send: ['x', 'text'],
      rename: ['x', 'n'],
      approve: ['x', '1.1.1'],
      deny: ['x', '1.1.1'],
      policy: ['explain', 'shell'],
      run: ['prompt'],
      token: ['ls'],
    };
    const needsId = commandTable.some(({ name: own, usage }) => own === name && usage !== '');
    const argv = [name, ...(words[name] ?? (needsId ? ['x'] : []))];
    const { exit, out, err } = await run(...argv, '--state-dir', `${folder}/none`);
    expect([exit, out]).toEqual([3, '']);
    expect(err).toContain(`prx-supervisor --state-dir ${folder}/none start --detach`);
  },
);

test.each([
  [['ps', '--state-dir', '/none'], 3, 'no supervisor answers'],
  [['new', '--state-dir', '/none'], 2, 'the current folder was removed or moved'],
])('in a folder that was removed, %j exits %d', (argv, exit, message) => {
  const main = join(import.meta.dirname, '../../cli/main.ts');
  const gone = join(folder, 'gone');
  const script = 'mkdir "$1" && cd "$1" && rmdir "$1" && shift && exec "$@"';
  const run = spawnSync('sh', ['-c', script, 'sh', gone, process.execPath, main, ...argv], {
    encoding: 'utf8',
  });
  expect([run.status, run.stderr]).toEqual([exit, expect.stringContaining(message)]);
});

test.each([
  [[], -1],
  [['ps'], 0],
  [['--json', 'ps'], 1],
  [['--state-dir', 'ps', 'logs'], 2],
  [['--url=x', 'ps'], 1],
  [['--help'], -1],
])('the command in %j', (argv, index) => {
  expect(findCommandIndex(argv)).toBe(index);
});

describe('where the supervisor is', () => {
  const home = { HOME: '/h' };
  const none = async (): Promise<FilePlaces> => ({ storePath: undefined, socket: undefined });
  const named = async (): Promise<FilePlaces> => ({ storePath: '/from/file', socket: undefined });
  const place = async (flags: object, env: object, read = none) => {
    const door = await locate(flags, { ...home, ...env }, read);
    return door.kind === 'url' ? door : door.socketPath;
  };

  test('flag, then environment, then file, then XDG', async () => {
    const config = { PRX_CONFIG: '/c.toml' };
    expect(await place({ stateDir: '/flag' }, { ...config, PRX_STATE_DIR: '/env' }, named)).toBe(
      '/flag/api.sock',
    );
    expect(await place({}, { ...config, PRX_STATE_DIR: '/env' }, named)).toBe('/env/api.sock');
    expect(await place({}, config, named)).toBe('/from/file/api.sock');
    expect(await place({}, { XDG_STATE_HOME: '/x' })).toBe('/x/prx-supervisor/api.sock');
    expect(await place({}, {})).toBe('/h/.local/state/prx-supervisor/api.sock');
  });

  test('PRX_URL with its token; a --state-dir flag beats it, --url beats all', async () => {
    const env = { PRX_URL: 'http://h:1', PRX_TOKEN: 't' };
    expect(await place({}, env)).toEqual({ kind: 'url', url: 'http://h:1', token: 't' });
    expect(await place({ stateDir: '/flag' }, env)).toBe('/flag/api.sock');
    expect(await place({ url: 'http://o:2', stateDir: '/flag' }, {})).toEqual({
      kind: 'url',
      url: 'http://o:2',
      token: undefined,
    });
  });

  test('a token as a file has it; one that no header can carry is refused (regression)', async () => {
    const env = { PRX_URL: 'http://h:1', PRX_TOKEN: 't\r\n' };
    expect(await place({}, env)).toMatchObject({ token: 't' });
    for (const PRX_TOKEN of ['a\nb', 'a\u0000', '\u65e5']) {
      await expect(place({}, { ...env, PRX_TOKEN })).rejects.toThrow('PRX_TOKEN has a line break');
    }
  });

  test('a real config file: its store and its socket; a broken one names nothing', async () => {
    const file = join(folder, 'c.toml');
    writeFileSync(file, '[store]\npath = "/s"\n[api]\nsocket = "/run/own.sock"\n');
    expect(await locate({ config: file }, home)).toMatchObject({
      stateDir: '/s',
      socketPath: '/run/own.sock',
    });
    writeFileSync(file, 'path = [');
    expect(await locate({ config: file }, home)).toMatchObject({
      socketPath: '/h/.local/state/prx-supervisor/api.sock',
    });
  });

  test('a command that is proposed finds the same supervisor, and is fit to paste (regression)', () => {
    const door = { kind: 'socket', stateDir: "/a b's", socketPath: '' } as const;
    expect(toSelf('prx', door, { stateDir: 'b' })).toBe("prx --state-dir '/a b'\\''s'");
    expect(toSelf('prx', door, {})).toBe('prx');
    const url = { kind: 'url', url: 'http://a:1', token: undefined } as const;
    expect(toSelf('prx', url, { url: url.url })).toBe('prx --url http://a:1');
    expect(toSelf('prx', url, {})).toBe('prx');
    expect(quoteArgument('/plain/path-1.2')).toBe('/plain/path-1.2');
  });
});

test('our programs: bundled beside us, or as source; a missing one is named', () => {
  expect(findProgram('supervisor')).toMatch(/supervisor/);
  expect(() => findProgram('sandbox', join(folder, 'nowhere'))).toThrow(/has no sandbox/);
});

describe('[command:completion] the words', () => {
  test.each([
    [['p'], 'ps'],
    [['ps', '--'], '--watch'],
    [['ps', '--state', ''], 'suspended'],
    [['config', ''], 'check'],
  ])('%j offers %s', async (words, word) => {
    const log = jest.spyOn(console, 'log').mockImplementation(() => undefined);
    await run('--get-yargs-completions', ...words);
    const offered = log.mock.calls.map(([line]) => String(line));
    log.mockRestore();
    expect(offered).toContain(word);
  });
});
