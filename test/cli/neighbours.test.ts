import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { FakeApi, SESSION } from './fake-api.ts';
import { runCli } from './run-cli.ts';
import { turnCompleted } from './session-events.ts';

let api: FakeApi;

beforeEach(async () => {
  api = await new FakeApi().listen();
});

afterEach(() => api.close());

const here = { cwd: '/base' };
const add = (id: string, extra: object): void =>
  api.addSession(`s_${id}00000000`, { workspace: '/base', state: 'running', ...extra });

describe('two sessions on one workspace say so', () => {
  test('[command:new] names the open ones, and no other', async () => {
    add('aaaaaaaa', { name: 'web' });
    add('bbbbbbbb', { state: 'stopped' });
    add('cccccccc', { workspace: '/other' });
    const { exit, err } = await runCli(api, ['new'], here);
    expect(exit).toBe(0);
    expect(err).toContain(
      'note: session aaaaaaaa (web) works in this folder, too, and may change its files\n',
    );
    expect(err).not.toContain('bbbbbbbb');
    const [asked, ...more] = api.requests.filter(({ method, path }) => {
      return `${method} ${path}` === 'GET /api/v1/sessions';
    });
    expect([asked?.query.get('workspace'), more]).toEqual(['/base', []]);
  });

  test('[command:new] names three at most, and counts the rest', async () => {
    for (const id of ['aaaaaaaa', 'bbbbbbbb', 'cccccccc', 'dddddddd', 'eeeeeeee']) add(id, {});
    const { err } = await runCli(api, ['new'], here);
    expect(err).toMatch(/note: 5 sessions: (\w{8}, ){2}\w{8} and 2 more work in this folder/);
  });

  test('[command:run] is quiet about idle ones: those of earlier runs', async () => {
    add('aaaaaaaa', { activity: 'idle' });
    add('bbbbbbbb', { activity: 'turn' });
    api.onInput = (id, inputId) => {
      api.emit(id, 'turn.started', { turn: 1, input_id: inputId, attempt: 1 });
      api.emit(id, ...turnCompleted('completed', 1, inputId));
    };
    const { exit, err } = await runCli(api, ['run', 'x'], here);
    expect([exit, err]).toEqual([0, expect.stringContaining('note: session bbbbbbbb works in')]);
    expect(err).not.toContain('aaaaaaaa');
  });

  test('-q asks for no list; where there is none, the session is made all the same', async () => {
    add('aaaaaaaa', {});
    expect((await runCli(api, ['new', '-q'], here)).err).toBe('');
    const listing = 'GET /api/v1/sessions';
    expect(api.requests.some(({ method, path }) => `${method} ${path}` === listing)).toBe(false);
    api.problems.set(listing, { status: 503, code: 'STORE_DEGRADED', detail: 'x' });
    expect((await runCli(api, ['new'], here)).exit).toBe(0);
  });

  test('[command:new] a name that another session has, closed or not, is named', async () => {
    add('aaaaaaaa', { name: 'web', state: 'stopped', workspace: '/other' });
    const { err } = await runCli(api, ['new', '--name', 'web'], here);
    expect(err).toContain('note: the name is also that of session aaaaaaaa (web); give an id');
  });

  test.each([
    ['STATE_INVALID', "cannot go from 'stopped' to 'suspended'", { from: 'stopped' }],
    ['SESSION_NOT_OPEN', 'it is stopped', {}],
  ])('%s of a closed session: how it is opened, once', async (code, detail, data) => {
    api.addSession(SESSION);
    const suspend = `POST /api/v1/sessions/${SESSION}/suspend`;
    api.problems.set(suspend, { status: 409, code, detail, data });
    const { err } = await runCli(api, ['suspend', SESSION]);
    expect(err).toContain('open it again with: prx-supervisor restart ID\n');
    const named = { status: 409, code, detail: `${detail}; 'prx restart x' opens it`, data: {} };
    api.problems.set(suspend, named);
    expect((await runCli(api, ['suspend', SESSION])).err.match(/restart/g)).toHaveLength(1);
  });

  test('a session that is not there: how all are listed, once', async () => {
    const { err } = await runCli(api, ['inspect', SESSION]);
    expect(err).toContain('list all sessions with: prx-supervisor ps -a\n');
    const detail = "no session has the id or name 'x'; `prx-supervisor ps -a` lists them all";
    const problem = { status: 404, code: 'SESSION_NOT_FOUND', detail };
    api.problems.set(`GET /api/v1/sessions/${SESSION}`, problem);
    const named = await runCli(api, ['inspect', SESSION]);
    expect(named.err).toBe(`error: ${detail} (SESSION_NOT_FOUND)\n`);
  });

  test('an ambiguous name lists its candidates', async () => {
    const candidates = [
      { id: 's_1', name: 'r', state: 'running' },
      { id: 's_2', name: 'r', state: 'stopped' },
    ];
    api.problems.set(`GET /api/v1/sessions/${SESSION}`, {
      status: 409,
      code: 'SESSION_AMBIGUOUS',
      detail: 'two',
      data: { candidates },
    });
    const { exit, err } = await runCli(api, ['inspect', SESSION]);
    expect([exit, err]).toEqual([
      1,
      expect.stringContaining('candidates:\n  s_1 · r · running\n  s_2 · r · stopped\n'),
    ]);
  });
});
