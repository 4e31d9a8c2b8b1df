import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { FakeApi, SESSION } from './fake-api.ts';
import type { FakeOptions } from './fake-machine.ts';
import { runCli, startCli } from './run-cli.ts';
import {
  approvalRequested,
  approvalResolved,
  approvalWithRule,
  delta,
  input,
  modelCompleted,
  modelStarted,
  questionAsked,
  state,
  toolRequested,
  turnCompleted,
  turnStarted,
} from './session-events.ts';

let api: FakeApi;

beforeEach(async () => {
  api = await new FakeApi().listen();
  api.addSession(SESSION);
  const facts = [
    input(),
    turnStarted(),
    modelStarted(),
    modelCompleted('**past**'),
    turnCompleted(),
  ];
  for (const fact of facts) api.emit(SESSION, ...fact);
});

afterEach(() => api.close());

const terminal: FakeOptions = { tty: true, env: { NO_COLOR: '1' } };

const bodyOf = (path: string): unknown =>
  api.requests.find((one) => one.method === 'POST' && one.path.endsWith(path))?.body;

const attach = (...args: string[]) => startCli(api, ['attach', SESSION, ...args], terminal);

describe('[command:attach] the terminal', () => {
  test('history first, then the stream, each once; Ctrl-P Ctrl-Q leaves; exit 0', async () => {
    const { machine, done } = attach();
    await machine.stdout.until('Ctrl-P Ctrl-Q detaches');
    for (const fact of [turnStarted(2), modelStarted(), delta('now '), delta('*live*')]) {
      api.emit(SESSION, ...fact);
    }
    await machine.stdout.until('now *live*');
    api.emit(SESSION, ...modelCompleted('now *live*'));
    api.emit(SESSION, ...turnCompleted('completed', 2));
    await machine.stdout.until('turn 2 completed');
    machine.keyboard.write('\u0010\u0011');
    const { exit, out, err } = await done;
    expect(exit).toBe(0);
    expect(out.split('› hello').length).toBe(2);
    expect(out.split('past\r\n').length).toBe(2);
    expect(out.split('now live\r\n').length).toBe(2);
    expect(out).not.toContain('\u001b[?1049h');
    expect(err).toContain('detached; the session goes on');
  });

  test.each([
    ['Ctrl-B d', '\u0002d', []],
    ['Ctrl-D', '\u0004', []],
    ['/detach', '/detach\r', []],
    ['--detach-keys', '\u0018\u0001', ['--detach-keys', 'ctrl-x,ctrl-a']],
  ])('%s leaves it too', async (_name, keys, args) => {
    const { machine, done } = attach(...args);
    await machine.stdout.until('detaches');
    machine.keyboard.write(keys);
    expect((await done).exit).toBe(0);
  });

  test('what is typed is sent; Ctrl-C interrupts the turn; Ctrl-Z does not leave', async () => {
    const { machine, done } = attach();
    await machine.stdout.until('detaches');
    machine.keyboard.write('two');
    machine.keyboard.write('\u001b[200~ lines\nhere\u001b[201~\r');
    await machine.stdout.until('two lines');
    api.onInterrupt = (id) => api.emit(id, ...turnCompleted('interrupted', 2));
    api.emit(SESSION, ...turnStarted(2));
    await machine.stdout.until('Ctrl-C interrupts');
    machine.keyboard.write('\u001a\u0003');
    await machine.stdout.until('turn 2 interrupted');
    machine.keyboard.write('\u0004');
    expect((await done).exit).toBe(0);
    expect(bodyOf('/input')).toEqual({ text: 'two lines\nhere' });
  });

  test.each([
    ['y', { decision: 'approve', scope: 'once' }],
    ['a', { decision: 'approve', scope: 'session' }],
    ['n', { decision: 'deny' }],
    ['/approve\r', { decision: 'approve', scope: 'once' }],
    ['/deny 1.1.1 not now\r', { decision: 'deny', reason: 'not now' }],
    ['e\u0015{"command":"ls -l"}\r', { decision: 'approve', arguments: { command: 'ls -l' } }],
  ])('an approval is answered inline with %j', async (keys, body) => {
    const { machine, done } = attach();
    await machine.stdout.until('detaches');
    for (const fact of [turnStarted(2), toolRequested(), approvalRequested()]) {
      api.emit(SESSION, ...fact);
    }
    await machine.stdout.until('approval needed');
    await machine.stdout.until('y once');
    const decided = new Promise((resolve) => {
      api.onDecision = resolve;
    });
    for (const key of keys.match(/\/.*\r|[\s\S]/g) ?? []) machine.keyboard.write(key);
    await decided;
    machine.keyboard.write('\u0002d');
    await done;
    expect(bodyOf('/1.1.1')).toMatchObject(body);
  });

  test('a key held down answers the call on the screen, and not the one behind it (regression)', async () => {
    const { machine, done } = attach();
    await machine.stdout.until('detaches');
    const calls = [approvalRequested(), approvalRequested('1.1.2', 'rm -r data')];
    for (const fact of [turnStarted(2), ...calls]) api.emit(SESSION, ...fact);
    await machine.stdout.until('1 more');
    const decided: string[] = [];
    api.onDecision = (callId) => void decided.push(callId);
    for (const key of ['y', 'y', 'y']) machine.keyboard.write(key);
    await machine.stdout.until('rm -r data');
    machine.keyboard.write('\u0015');
    machine.keyboard.write('n');
    while (decided.length < 2) await new Promise(setImmediate);
    machine.keyboard.write('\u0002d');
    await done;
    expect(decided).toEqual(['1.1.1', '1.1.2']);
    expect(bodyOf('/1.1.2')).toMatchObject({ decision: 'deny' });
  });

  test('what a wider answer allows is shown before it is given, and r keeps that', async () => {
    const { machine, done } = attach();
    await machine.stdout.until('detaches');
    for (const fact of [turnStarted(2), approvalWithRule()]) api.emit(SESSION, ...fact);
    await machine.stdout.until('r by a rule');
    await machine.stdout.until('asked by security.rules[1]: ask tool shell');
    await machine.stdout.until('session: shell (security.rules[1]: ask tool shell)');
    await machine.stdout.until('rule, from now on: shell "git push" in /ws for agent default');
    const decided = new Promise((resolve) => {
      api.onDecision = resolve;
    });
    machine.keyboard.write('r');
    await decided;
    machine.keyboard.write('\u0002d');
    await done;
    expect(bodyOf('/1.1.1')).toEqual({ decision: 'approve', scope: 'rule', digest: 'd1' });
  });

  test.each([
    ['2\r', { decision: 'approve', answer: 'PostgreSQL', digest: 'd2' }],
    ['yes, both\r', { decision: 'approve', answer: 'yes, both', digest: 'd2' }],
    ['/deny your choice\r', { decision: 'deny', reason: 'your choice', digest: 'd2' }],
  ])('a question is answered with %j, never by a key alone', async (typed, body) => {
    const { machine, done } = attach();
    await machine.stdout.until('detaches');
    for (const fact of [turnStarted(2), questionAsked()]) api.emit(SESSION, ...fact);
    await machine.stdout.until('2 PostgreSQL');
    await machine.stdout.until('type the answer, or a number, and Enter');
    const decided = new Promise((resolve) => {
      api.onDecision = resolve;
    });
    machine.keyboard.write(typed);
    await decided;
    machine.keyboard.write('\u0002d');
    await done;
    expect(bodyOf('/1.1.1')).toEqual(body);
    expect(bodyOf('/input')).toBeUndefined();
  });

  test.each([
    ['nobody asked for input', [], 'run --session 01234567 - sends it\n'],
    ['only to look', ['--read-only'], ''],
    ['-q', ['-q'], ''],
  ])('[command:attach] piped text is left where it is, and that is said: %s', async (...row) => {
    const [, flags, said] = row;
    const options = { stdin: 'a line\n' };
    const { machine, done } = startCli(api, ['attach', SESSION, ...flags], options);
    await machine.stdout.until('turn 1 completed');
    api.emit(SESSION, ...state('running', 'stopped'));
    const { exit, err } = await done;
    expect(exit).toBe(0);
    expect(err.includes('input is not read')).toBe(said !== '');
    expect(err).toContain(said);
    expect(bodyOf('/input')).toBeUndefined();
  });

  test('[command:attach] --plain: a line answers a question, /approve rule keeps one', async () => {
    const { machine, done } = attach('--plain');
    await machine.stdout.until('/help lists commands');
    for (const fact of [turnStarted(2), questionAsked()]) api.emit(SESSION, ...fact);
    await machine.stdout.until('a line is the answer, or the number of one');
    const decisions: unknown[] = [];
    let decided = Promise.withResolvers<void>();
    api.onDecision = (_call, body) => {
      decisions.push(body);
      decided.resolve();
    };
    machine.keyboard.write('1\r');
    await decided.promise;
    decided = Promise.withResolvers<void>();
    for (const fact of [approvalResolved(), approvalWithRule('1.1.2')]) api.emit(SESSION, ...fact);
    await machine.stdout.until('/approve [session|rule], /deny [REASON]');
    machine.keyboard.write('/approve rule\r');
    await decided.promise;
    machine.keyboard.write('\u0002d');
    await done;
    expect(decisions).toMatchObject([
      { decision: 'approve', answer: 'SQLite', digest: 'd2' },
      { decision: 'approve', scope: 'rule', digest: 'd1' },
    ]);
  });

  test('--read-only sends nothing: Ctrl-C leaves', async () => {
    const { machine, done } = attach('--read-only');
    await machine.stdout.until('read-only');
    machine.keyboard.write('typed\r\u0003');
    expect((await done).exit).toBe(0);
    expect(api.requests.some((one) => one.method === 'POST')).toBe(false);
  });

  test('--since leaves the past out', async () => {
    const { machine, done } = attach('--since', '5');
    await machine.stdout.until('detaches');
    machine.keyboard.write('\u0004');
    expect((await done).out).not.toContain('past');
  });

  test('a lost connection is taken up again behind the last event', async () => {
    const { machine, done } = attach();
    await api.untilFollowed();
    api.emit(SESSION, ...input('in_1b', 'before'));
    await machine.stdout.until('› before');
    api.cut();
    await machine.stdout.until('the supervisor is away');
    api.emit(SESSION, ...input('in_2', 'later'));
    await machine.stdout.until('› later');
    machine.keyboard.write('\u0004');
    expect((await done).out.split('› later').length).toBe(2);
  });

  test('a turn in progress is joined where it is: its text so far, once', async () => {
    for (const fact of [turnStarted(2), modelStarted(), delta('half ')]) api.emit(SESSION, ...fact);
    const { machine, done } = attach();
    await machine.stdout.until('half');
    api.emit(SESSION, ...modelCompleted('half done'));
    await machine.stdout.until('half done\r\n');
    machine.keyboard.write('\u0004');
    expect((await done).exit).toBe(0);
  });

  test('a session that ends ends it', async () => {
    const { machine, done } = attach();
    await machine.stdout.until('detaches');
    api.emit(SESSION, ...state('running', 'stopped', 'closed by socket'));
    const { exit, err } = await done;
    expect([exit, err]).toEqual([0, expect.stringContaining('the session has ended')]);
  });
});

describe('[command:attach] without a live terminal', () => {
  test('into a pipe: labelled lines, no escape sequence', async () => {
    const { machine, done } = startCli(api, ['attach', SESSION]);
    await machine.stdout.until('turn 1 completed');
    api.emit(SESSION, ...input('in_2', 'next'));
    await machine.stdout.until('you: next');
    machine.signal();
    const { exit, out } = await done;
    expect([exit, out]).toEqual([
      0,
      'you: hello\nagent: **past**\nturn: turn 1 completed · 1 step · 10 in, 5 out · $0.01\n' +
        'you: next\n',
    ]);
  });

  test('--json: the envelopes', async () => {
    const { machine, done } = startCli(api, ['attach', SESSION, '--json']);
    await machine.stdout.until('turn.completed');
    machine.signal();
    const [first = ''] = (await done).out.split('\n');
    expect(JSON.parse(first)).toMatchObject({ seq: 1, type: 'input.accepted' });
  });

  test('a session that has ended shows its history and ends', async () => {
    api.setView(SESSION, { state: 'stopped' });
    const { exit, out, err } = await runCli(api, ['attach', SESSION]);
    expect([exit, out]).toEqual([0, expect.stringContaining('agent: **past**')]);
    expect(err).toContain('prx-supervisor restart 01234567');
  });

  test.each([
    ['no such session', ['nope'], 1],
    ['keys that are none', [SESSION, '--detach-keys', 'q'], 2],
    ['a sequence number that is none', [SESSION, '--since', 'x'], 2],
  ])('%s', async (_name, args, exit) => {
    expect((await runCli(api, ['attach', ...args])).exit).toBe(exit);
  });
});
