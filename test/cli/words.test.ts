import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { FakeApi, SESSION } from './fake-api.ts';
import { runCli } from './run-cli.ts';

let api: FakeApi;

beforeEach(async () => {
  api = await new FakeApi().listen();
  api.addSession(SESSION);
});

afterEach(() => api.close());

const textOf = (): unknown =>
  api.requests.find((one) => one.method === 'POST' && one.path.endsWith('/input'))?.body;

describe('what stands behind -- is text', () => {
  test.each([
    ['[command:run]', ['run', '--detach', '--', '-x hi'], '-x hi'],
    ['[command:run]', ['run', 'a', '--detach', '--', '-b', '--json', '--'], 'a -b --json --'],
    ['[command:run]', ['run', '--detach', '--', 'true'], 'true'],
    ['[command:send]', ['send', SESSION, '--', '--wait'], '--wait'],
    ['[command:send]', ['send', '--', SESSION, '-n', '3'], '-n 3'],
  ])('%s %j', async (_command, argv, text) => {
    expect(await runCli(api, argv)).toMatchObject({ exit: 0 });
    expect(textOf()).toEqual({ text });
  });

  test('before it, an option is one', async () => {
    const { exit, err } = await runCli(api, ['run', '--detach', '-q', '--', '--bogus']);
    expect([exit, err, textOf()]).toEqual([0, '', { text: '--bogus' }]);
  });
});

describe('a lone -', () => {
  test.each([
    ['[command:send]', ['send', SESSION, '-'], 'from the pipe'],
    ['[command:run]', ['run', '--detach', '-'], 'from the pipe'],
    ['[command:run]', ['run', '--detach', 'count', '1', '-', '3'], 'count 1 - 3'],
    ['[command:send]', ['send', SESSION, 'a', '-', '--', '-b'], 'a - -b'],
  ])('%s %j is standard input where it is alone, else a word', async (_command, argv, text) => {
    expect(await runCli(api, argv, { stdin: 'from the pipe' })).toMatchObject({ exit: 0 });
    expect(textOf()).toEqual({ text });
  });

  test('it may be the value of an option', async () => {
    const { exit, err } = await runCli(api, ['send', SESSION, 'x', '--on-busy', '-']);
    expect([exit, err]).toEqual([2, expect.stringContaining('--on-busy is "-"')]);
  });
});
