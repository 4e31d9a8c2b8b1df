import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { FakeApi, SESSION } from './fake-api.ts';
import { runCli, startCli } from './run-cli.ts';
import {
  input,
  modelCompleted,
  modelStarted,
  turnCompleted,
  turnStarted,
} from './session-events.ts';

let api: FakeApi;

beforeEach(async () => {
  api = await new FakeApi().listen();
});

afterEach(() => api.close());

const bodyOf = (method: string, path: string): unknown =>
  api.requests.find((one) => one.method === method && one.path.endsWith(path))?.body;

describe('looking', () => {
  test('[command:ps] a table of open sessions; -a also closed ones', async () => {
    api.addSession(SESSION, { name: 'web', turn: 3, cost_usd: 0.5 });
    api.addSession('s_ffffffffffffffff', { state: 'stopped' });
    const { exit, out } = await runCli(api, ['ps']);
    const [head = '', row = '', ...rest] = out.trimEnd().split('\n');
    expect(exit).toBe(0);
    expect(head.split(/ {2,}/)).toEqual(
      'ID NAME STATE ACTIVITY RESIDENCY AGENT MODEL TURN AGE COST'.split(' '),
    );
    expect(row.split(/ +/).slice(0, 8)).toEqual(
      '01234567 web running idle hibernated default test-model 3'.split(' '),
    );
    expect(rest).toEqual([]);
    const all = await runCli(api, ['ps', '--all', '-q']);
    expect(all.out).toBe(`${SESSION}\ns_ffffffffffffffff\n`);
  });

  test('[command:ps] has what a session runs in the background beneath it', async () => {
    const started_at = new Date().toISOString();
    const command = 'npm run\n dev';
    const background_processes = [
      { call_id: '2.1.1', command, level: 'bubblewrap', started_at, deadline_at: started_at },
    ];
    api.addSession('s_ffffffffffffffff');
    api.addSession(SESSION, { background_processes });
    const { out } = await runCli(api, ['ps']);
    const lines = out.trimEnd().split('\n');
    const at = lines.findIndex((line) => line.startsWith('01234567'));
    expect(lines).toHaveLength(4);
    expect(lines[at + 1]).toMatch(/^ {2}process 2\.1\.1 {2}\S+ {2}npm run ⏎ {2}dev$/);
    const plain = await runCli(api, ['ps', '--plain']);
    expect(plain.out).toMatch(/^process: 2\.1\.1, session: 01234567, age: \S+, command: npm run/m);
    const { out: json } = await runCli(api, ['ps', '--json']);
    expect(JSON.parse(json)).toContainEqual(expect.objectContaining({ background_processes }));
  });

  test('[command:ls] is ps; --json is an array; --state and --label reach the server', async () => {
    api.addSession(SESSION);
    const { out } = await runCli(api, ['ls', '--json', '--state', 'running', '--label', 'a=b']);
    expect(JSON.parse(out)).toEqual([expect.objectContaining({ id: SESSION })]);
    const asked = api.requests.at(-1)?.query;
    expect([asked?.get('state'), asked?.get('label')]).toEqual(['running', 'a=b']);
    const bad = await runCli(api, ['ps', '--label', 'oops']);
    expect([bad.exit, bad.err]).toEqual([2, expect.stringContaining('K=V')]);
  });

  test('[command:ps] --watch shows it again until Ctrl-C; --plain labels every value', async () => {
    api.addSession(SESSION);
    const { machine, done } = startCli(api, ['ps', '--watch', '--plain'], { tty: true });
    await machine.stdout.until('state: running');
    machine.signal();
    const { exit, out } = await done;
    expect(exit).toBe(0);
    expect(out).toMatch(/^id: 01234567, name: -, state: running, activity: idle/);
    expect(out).not.toContain('\u001b');
  });

  test('[command:inspect] one session as JSON', async () => {
    api.addSession(SESSION);
    const { out } = await runCli(api, ['inspect', '@last']);
    expect(JSON.parse(out)).toMatchObject({ id: SESSION, processes: [] });
  });

  test('[command:describe] one session in words, with what happened last', async () => {
    api.addSession(SESSION, { state: 'suspended', state_reason: 'asked for' });
    for (const fact of [input(), turnStarted(), turnCompleted()]) api.emit(SESSION, ...fact);
    const { out } = await runCli(api, ['describe', '0123']);
    expect(out).toContain('It is suspended (asked for) and idle; no worker');
    expect(out).toContain('turn: turn 1 completed');
  });

  test('[command:logs] lines with the time; -n keeps the last, --since cuts', async () => {
    api.addSession(SESSION);
    const facts = [input(), turnStarted(), modelStarted(), modelCompleted('hi'), turnCompleted()];
    for (const fact of facts) api.emit(SESSION, ...fact);
    const { out } = await runCli(api, ['logs', SESSION]);
    expect(out.replaceAll(/^\S+ /gm, '')).toBe(
      'you: hello\nagent: hi\nturn: turn 1 completed · 1 step · 10 in, 5 out · $0.01\n',
    );
    expect((await runCli(api, ['logs', SESSION, '-n', '1'])).out).toContain('turn 1 completed');
    expect((await runCli(api, ['logs', SESSION, '--since', '1h'])).out).toBe('');
    expect((await runCli(api, ['logs', SESSION, '--since', 'never'])).exit).toBe(2);
  });

  test('[command:logs] -f goes on live; --stderr shows what dead workers wrote', async () => {
    api.addSession(SESSION);
    const { machine, done } = startCli(api, ['logs', SESSION, '-f', '--stderr']);
    const died = { generation: 2, pid: 9, cause: 'crashed', code: 1, signal: null };
    api.emit(SESSION, 'worker.exited', { ...died, stderr_tail: 'boom\n', peak_rss_bytes: null });
    await machine.stdout.until('boom');
    machine.signal();
    expect((await done).out).toContain('worker 2 ended (crashed)\n  boom\n');
  });

  test('[command:events] JSON lines; --since, --type, and all sessions without an id', async () => {
    api.addSession(SESSION);
    for (const fact of [input(), turnStarted(), turnCompleted()]) api.emit(SESSION, ...fact);
    const types = async (...args: string[]): Promise<string[]> => {
      const { out } = await runCli(api, ['events', ...args]);
      return out
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line).type);
    };
    expect(await types(SESSION, '--since', '1')).toEqual(['turn.started', 'turn.completed']);
    expect(await types(SESSION, '--type', 'turn.started')).toEqual(['turn.started']);
    expect(await types('--type', 'turn.started,input.accepted')).toEqual([
      'input.accepted',
      'turn.started',
    ]);
  });

  test('[command:events] -f goes on until Ctrl-C; on a terminal a line is readable', async () => {
    api.addSession(SESSION);
    const args = ['events', SESSION, '--follow'];
    const { machine, done } = startCli(api, args, { tty: true, env: { NO_COLOR: '1' } });
    api.emit(SESSION, ...turnStarted());
    await machine.stdout.until('turn.started');
    machine.signal();
    expect((await done).out).toMatch(/^ {5}1 \S+ turn\.started {9}\{"turn":1/);
  });
});

describe('making and talking', () => {
  test('[command:new] prints the id; what to do next goes to stderr', async () => {
    const { exit, out, err } = await runCli(
      api,
      ['new', '--agent', 'a', '--name', 'n', '--workspace', 'sub', '--label', 'k=v'],
      { cwd: '/base' },
    );
    expect([exit, out]).toEqual([0, `${SESSION}\n`]);
    expect(err).toContain('attach 01234567');
    expect(bodyOf('POST', '/sessions')).toEqual({
      agent: 'a',
      name: 'n',
      workspace: '/base/sub',
      labels: { k: 'v' },
    });
  });

  test('[command:new] --prompt sends at once; -q is the id alone; a notice is said', async () => {
    const { out, err } = await runCli(api, ['new', '-q', '--prompt', 'go'], { cwd: '/base' });
    expect([out, err]).toEqual([`${SESSION}\n`, '']);
    expect(bodyOf('POST', '/input')).toEqual({ text: 'go' });
  });

  test('[command:send] prints the input id; --on-busy and the key reach the server', async () => {
    api.addSession(SESSION);
    const args = ['send', '@last', 'two', 'words', '--on-busy', 'steer', '--idempotency-key', 'k'];
    expect((await runCli(api, args)).out).toBe('in_1\n');
    expect(bodyOf('POST', '/input')).toEqual({
      text: 'two words',
      on_busy: 'steer',
      idempotency_key: 'k',
    });
  });

  test('[command:send] --wait shows the answer and exits with the turn', async () => {
    api.addSession(SESSION);
    api.onInput = (id, inputId) => {
      api.emit(id, ...turnStarted(1, inputId));
      api.emit(id, ...modelCompleted('pong'));
      api.emit(id, ...turnCompleted('max_turns', 1, inputId));
    };
    const { exit, out } = await runCli(api, ['send', SESSION, 'ping', '--wait']);
    expect([exit, out]).toEqual([6, 'pong\n']);
  });

  test('[command:wait] --for completed, idle and approval; 124 at the timeout', async () => {
    api.addSession(SESSION, { turn: 1, last_outcome: 'failed' });
    expect((await runCli(api, ['wait', SESSION])).out).toBe('failed\n');
    expect((await runCli(api, ['wait', SESSION, '--for', 'idle'])).out).toBe('idle\n');
    const late = await runCli(api, ['wait', SESSION, '--for', 'approval', '--timeout', '0.05']);
    expect([late.exit, late.err]).toEqual([
      124,
      'not approval within 0.05 s: 01234567 has state running, activity idle, turn 1; 0 inputs wait\n',
    ]);
  });

  test('[command:wait] ends with the event that makes it true, or cannot any more', async () => {
    api.addSession(SESSION, { activity: 'turn', turn: 1 });
    const { done } = startCli(api, ['wait', SESSION, '--for', 'approval']);
    await new Promise((ready) => setImmediate(ready));
    api.setView(SESSION, { pending_approvals: 1 });
    api.emit(SESSION, 'approval.requested', {});
    expect((await done).out).toBe('approval: 1 waiting\n');
    api.setView(SESSION, { pending_approvals: 0, state: 'failed', state_reason: 'gave up' });
    const ended = await runCli(api, ['wait', SESSION, '--for', 'idle']);
    expect([ended.exit, ended.err]).toEqual([1, expect.stringContaining('gave up')]);
  });
});

describe('acting', () => {
  test.each([
    ['interrupt', 'interrupted'],
    ['suspend', 'suspended'],
    ['resume', 'resumed'],
    ['restart', 'restarted'],
    ['close', 'closed'],
  ])(
    '[command:interrupt] [command:suspend] [command:resume] [command:restart] [command:close] %s',
    async (name, past) => {
      const state = name === 'resume' ? 'suspended' : 'running';
      api.addSession(SESSION, { state, activity: 'turn' });
      const { exit, out } = await runCli(api, [name, '@last']);
      expect([exit, out]).toEqual([0, `${past} 01234567: state ${state}, activity turn\n`]);
      expect(bodyOf('POST', `/@last/${name}`)).toBeUndefined();
      expect(api.requests.at(-1)?.path.endsWith(name)).toBe(true);
    },
  );

  test('[command:rm] removes several; one that is not there does not stop the others', async () => {
    api.addSession(SESSION);
    const { exit, out, err } = await runCli(api, ['rm', 'nope', SESSION]);
    expect([exit, out]).toEqual([1, `removed ${SESSION}\n`]);
    expect(err).toContain("no session 'nope'");
    expect(err).toContain('prx-supervisor ps -a');
  });

  test('[command:rename] gives a name', async () => {
    api.addSession(SESSION);
    expect((await runCli(api, ['rename', '0123', 'web'])).out).toBe('renamed 01234567 (web)\n');
  });

  test('[command:fork] prints the new id; --at and --name reach the server', async () => {
    api.addSession(SESSION);
    const { exit, out } = await runCli(api, ['fork', '0123', '--at', '12', '--name', 'other']);
    expect([exit, out]).toEqual([0, `${SESSION}\n`]);
    expect(bodyOf('POST', '/0123/fork')).toEqual({ at: 12, name: 'other' });
    expect((await runCli(api, ['fork', '0123', '-q'])).err).toBe('');
    for (const at of ['0', '1.5', 'x']) {
      expect((await runCli(api, ['fork', '0123', '--at', at])).exit).toBe(2);
    }
  });

  test('[command:approvals] what waits, with its arguments', async () => {
    const tool = { tool: 'shell', arguments: { command: 'rm -rf x' } };
    const times = { requested_at: '2026-01-02T03:04:05Z', expires_at: '2999-01-01T00:00:00Z' };
    api.approvals = [{ session: SESSION, call_id: '1.1.1', digest: 'd', ...tool, ...times }];
    const { out } = await runCli(api, ['approvals']);
    expect(out.split('\n')[1]).toMatch(/^01234567 {2}1\.1\.1 {2}shell {2}rm -rf x {2}/);
    expect((await runCli(api, ['approvals', '-q'])).out).toBe(`${SESSION} 1.1.1\n`);
  });

  test('[command:approve] --edit and --scope; arguments must be an object', async () => {
    api.addSession(SESSION);
    const edit = ['--edit', '{"command":"ls"}', '--scope', 'session'];
    expect((await runCli(api, ['approve', SESSION, '1.1.1', ...edit])).exit).toBe(0);
    expect(bodyOf('POST', '/1.1.1')).toEqual({
      decision: 'approve',
      arguments: { command: 'ls' },
      scope: 'session',
    });
    expect((await runCli(api, ['approve', SESSION, '1.1.1', '--edit', '[1]'])).exit).toBe(2);
    expect((await runCli(api, ['approve', SESSION, '1.1.1', '--edit', '{'])).exit).toBe(2);
  });

  test('[command:deny] --reason is told to the model', async () => {
    api.addSession(SESSION);
    expect((await runCli(api, ['deny', SESSION, '1.1.1', '--reason', 'no'])).exit).toBe(0);
    expect(bodyOf('POST', '/1.1.1')).toEqual({ decision: 'deny', reason: 'no' });
  });
});

describe('the supervisor', () => {
  test('[command:status] fields, or one word with -q; --deep is asked for', async () => {
    const { exit, out } = await runCli(api, ['status', '--deep']);
    expect([exit, out]).toEqual([
      0,
      expect.stringMatching(/^status: {4}ok\nversion: {3}9\.9\.9\n/),
    ]);
    expect(out).toMatch(
      /\nmcp files: +running, 3 tools, one process, level bubblewrap; "x" is listed twice\n/,
    );
    expect(out).toMatch(/\ntool file: +custom__a \(read\) from \/t\/a\.ts\n/);
    expect(out).toMatch(/\ntool file: +none from \/t\/b\.ts: why\n/);
    expect(out).toMatch(/\nworkers: +none has started yet\n/);
    expect(api.requests.at(-1)?.query.get('deep')).toBe('true');
    expect((await runCli(api, ['status', '-q'])).out).toBe('ok\n');
  });

  test('[command:reload] what changed, and what needs a restart', async () => {
    const { out, err } = await runCli(api, ['reload']);
    expect([out, err]).toEqual(['changed: log.level\n', expect.stringContaining('api.listen')]);
  });

  test('[command:doctor] --fix: the running supervisor ends what was left, and says what', async () => {
    const { out } = await runCli(api, ['doctor', '--fix', '--json']);
    const { leftovers } = JSON.parse(out).checks;
    expect(leftovers).toMatchObject({
      status: 'ok',
      summary: 'ended the sandbox process 42\nremoved run/sandbox-42.sock',
    });
  });

  test('[command:stop] --drain is checked, then sent', async () => {
    expect((await runCli(api, ['stop', '--drain', '-1'])).exit).toBe(2);
    api.problems.set('POST /api/v1/stop', { status: 503, code: 'SHUTTING_DOWN', detail: 'is' });
    expect((await runCli(api, ['stop', '--drain', '3'])).exit).toBe(3);
    expect(bodyOf('POST', '/stop')).toEqual({ drain_secs: 3 });
  });

  test('[command:stop] without --drain gives turns the time that its help names', async () => {
    api.problems.set('POST /api/v1/stop', { status: 503, code: 'SHUTTING_DOWN', detail: 'is' });
    await runCli(api, ['stop']);
    const { out } = await runCli(api, ['stop', '--help']);
    expect(bodyOf('POST', '/stop')).toEqual({ drain_secs: 10 });
    expect(out.replace(/\s+/g, ' ')).toContain('(default 10)');
  });

  test('[command:start] becomes the supervisor with its options as JSON', async () => {
    const args = ['start', '--config', 'c.toml', '--listen', '127.0.0.1:1', '--state-dir', 's'];
    const { machine, done } = startCli(api, args, { cwd: '/base' });
    await done;
    const [[node, program, options] = []] = machine.replaced;
    expect([node, program]).toEqual([process.execPath, expect.stringMatching(/supervisor/)]);
    expect(JSON.parse(options ?? '')).toEqual({
      config: '/base/c.toml',
      listen: '127.0.0.1:1',
      stateDir: '/base/s',
    });
  });

  test.each([
    ['nonsense', 2],
    ['127.0.0.1:99999', 2],
    ['::1:80', 2],
  ])('[command:start] --listen %s is refused', async (listen, exit) => {
    const run = await runCli(api, ['start', '--listen', listen]);
    expect([run.exit, run.err]).toEqual([exit, expect.stringContaining('HOST:PORT')]);
  });

  test('[command:start] --detach where nothing can be written says what to name (regression)', async () => {
    const file = join(api.stateDir, 'file');
    writeFileSync(file, '');
    const run = await runCli(api, ['start', '--detach', '--state-dir', `${file}/none`]);
    expect(run.exit).toBe(1);
    expect(run.err).toMatch(/cannot write the log .*; name a folder of yours with --state-dir/);
  });

  test('[command:start] --detach beside a running one exits 75', async () => {
    const run = await runCli(api, ['start', '--detach']);
    expect([run.exit, run.err]).toEqual([75, expect.stringContaining('already runs')]);
  });

  test.each(['bash', 'zsh', 'fish'])('[command:completion] a script for %s', async (shell) => {
    const { exit, out } = await runCli(api, ['completion', shell]);
    expect([exit, out]).toEqual([0, expect.stringContaining('--get-yargs-completions')]);
  });
});
