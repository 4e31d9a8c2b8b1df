import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { FakeApi, SESSION } from './fake-api.ts';
import type { FakeOptions } from './fake-machine.ts';
import { runCli, startCli } from './run-cli.ts';
import {
  approvalRequested,
  approvalResolved,
  approvalWithRule,
  delta,
  type Fact,
  input,
  modelCompleted,
  modelStarted,
  questionAsked,
  state,
  toolCompleted,
  toolRequested,
  toolStarted,
  turnCompleted,
} from './session-events.ts';

let api: FakeApi;

beforeEach(async () => {
  api = await new FakeApi().listen();
});

afterEach(() => api.close());

/** The agent answers every input with these facts. */
function answerWith(...facts: Fact[]): void {
  api.onInput = (id, inputId) => {
    api.emit(id, 'turn.started', { turn: 1, input_id: inputId, attempt: 1 });
    for (const [type, data] of facts) {
      const own = type === 'turn.completed' ? { ...(data as object), input_id: inputId } : data;
      api.emit(id, type, own);
    }
  };
}

const bodyOf = (path: string): unknown =>
  api.requests.find((one) => one.method === 'POST' && one.path.endsWith(path))?.body;

describe('[command:run] the answer', () => {
  test('streams to stdout; calls and the end go to stderr; the exit is the turn', async () => {
    answerWith(
      modelStarted(),
      delta('I '),
      delta('look.'),
      modelCompleted('I look.'),
      toolRequested(),
      toolStarted(),
      toolCompleted('ok'),
      modelStarted(2),
      modelCompleted('done', 2),
      turnCompleted(),
    );
    const { exit, out, err } = await runCli(api, ['run', 'look', 'here'], { cwd: '/base' });
    expect([exit, out]).toEqual([0, 'I look.\ndone\n']);
    expect(err).toBe(
      '✓ shell ls · ok · 1.2s · exit 0 · bubblewrap\n' +
        'turn 1 completed · 1 step · 10 in, 5 out · $0.01\n',
    );
    expect(bodyOf('/sessions')).toEqual({ workspace: '/base', approve: 'never' });
    expect(bodyOf('/input')).toEqual({ text: 'look here' });
  });

  test.each([
    ['completed', 0],
    ['failed', 1],
    ['refused', 1],
    ['max_turns', 6],
    ['budget', 6],
    ['timeout', 124],
    ['interrupted', 130],
  ])('a turn that %s exits %d', async (outcome, code) => {
    answerWith(turnCompleted(outcome));
    expect((await runCli(api, ['run', 'x'])).exit).toBe(code);
  });

  test('a later attempt is marked on stdout, never joined', async () => {
    answerWith(
      modelStarted(1, 1),
      delta('old', 1, 1),
      modelStarted(1, 2),
      modelCompleted('new', 1, 2),
      turnCompleted(),
    );
    const { out } = await runCli(api, ['run', 'x']);
    expect(out).toBe(
      'old\n\n[the text above is void: the model was asked again; attempt 2 follows]\n\nnew\n',
    );
  });

  test('--json streams the envelopes and nothing else', async () => {
    answerWith(modelCompleted('hi'), turnCompleted());
    const { out, err } = await runCli(api, ['run', 'x', '--json']);
    const types = out
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line).type);
    const all = ['input.accepted', 'turn.started', 'model.completed', 'turn.completed'];
    expect([types, err]).toEqual([all, '']);
  });

  test('-q keeps stderr empty; into a pipe the text goes as it is', async () => {
    answerWith(modelCompleted('\u001b[31mred'), toolRequested(), toolCompleted(), turnCompleted());
    expect(await runCli(api, ['run', '-q', 'x'])).toEqual({
      exit: 0,
      out: '\u001b[31mred\n',
      err: '',
    });
  });

  test('on a terminal the text cannot move the cursor', async () => {
    answerWith(modelCompleted('a\u001b[2Jb'), turnCompleted());
    const { out } = await runCli(api, ['run', 'x'], { tty: true });
    expect(out).toBe('ab\n');
  });

  test('a cut connection is taken up again without a repeat', async () => {
    api.onInput = (id, inputId) => {
      api.emit(id, 'turn.started', { turn: 1, input_id: inputId, attempt: 1 });
      api.emit(id, ...delta('one '));
    };
    const { machine, done } = startCli(api, ['run', 'x']);
    await machine.stdout.until('one ');
    api.cut();
    await machine.stderr.until('the supervisor is away');
    api.emit(SESSION, ...modelCompleted('one two'));
    api.emit(SESSION, ...turnCompleted());
    expect((await done).out).toBe('one two\n');
  });

  test('a session that ends takes the turn with it', async () => {
    answerWith(state('running', 'failed', 'worker gave up'));
    const { exit, err } = await runCli(api, ['run', 'x']);
    expect([exit, err]).toEqual([1, expect.stringContaining('worker gave up')]);
  });

  test('a workspace notice is said', async () => {
    const workspace_notice = 'the workspace is read-only';
    api.addSession(SESSION, { workspace_notice });
    answerWith(turnCompleted());
    const { err } = await runCli(api, ['run', '--session', SESSION, 'x']);
    expect(err).toContain(`note: ${workspace_notice}`);
  });
});

describe('[command:run] the prompt', () => {
  test.each<[string, string[], FakeOptions, unknown]>([
    ['- reads stdin', ['-'], { stdin: 'from stdin\n' }, 'from stdin'],
    ['nothing, and a pipe', [], { stdin: 'piped' }, 'piped'],
    ['words win over a pipe', ['words'], { stdin: 'piped' }, 'words'],
  ])('%s', async (_name, args, options, text) => {
    answerWith(turnCompleted());
    expect((await runCli(api, ['run', ...args], options)).exit).toBe(0);
    expect(bodyOf('/input')).toEqual({ text });
  });

  test.each<[string, string[], FakeOptions, string]>([
    ['none on a terminal', [], { tty: true }, 'give a prompt'],
    ['empty stdin', ['-'], { stdin: ' \n' }, 'empty'],
    ['invalid UTF-8', ['-'], { stdin: Buffer.from([97, 0xc3, 0x28]) }, 'byte 1'],
    ['cut UTF-8', ['-'], { stdin: Buffer.from([97, 98, 0xe2, 0x82]) }, 'byte 2'],
    ['an agent for a session that has one', ['--session', 's', '--agent', 'a', 'x'], {}, '--agent'],
    ['an unknown mode', ['--approve', 'maybe', 'x'], {}, 'it takes never, ask or all'],
  ])('%s is refused with exit 2', async (_name, args, options, message) => {
    const { exit, err } = await runCli(api, ['run', ...args], options);
    expect([exit, err]).toEqual([2, expect.stringContaining(message)]);
    expect(api.requests).toEqual([]);
  });

  test('--agent, --workspace, --idempotency-key reach the server; the same key, once', async () => {
    answerWith(modelCompleted('hi'), turnCompleted());
    const args = ['run', 'x', '--agent', 'a', '--workspace', '/w', '--idempotency-key', 'k'];
    expect((await runCli(api, args)).out).toBe('hi\n');
    expect(bodyOf('/sessions')).toMatchObject({
      agent: 'a',
      workspace: '/w',
      idempotency_key: 'k',
    });
    const again = await runCli(api, [
      ...['run', 'x', '--session', SESSION, '--idempotency-key', 'k'],
    ]);
    expect([again.exit, again.out]).toEqual([0, 'hi\n']);
  });

  test('--detach prints the id and does not wait', async () => {
    const { exit, out, err } = await runCli(api, ['run', 'x', '--detach']);
    expect([exit, out]).toEqual([0, `${SESSION}\n`]);
    expect(err).toContain('logs -f 01234567');
  });
});

describe('[command:run] approvals', () => {
  const denied = [
    toolRequested(),
    ['tool.decided', { call_id: '1.1.1', decision: 'deny', by: 'policy', rule: 'r' }],
    toolCompleted('denied', '1.1.1', ''),
    turnCompleted(),
  ] as const;
  const forbidden = ['tool.decided', { ...denied[1][1], by: 'session' }] as const;

  test('--approve never: what was denied is named, exit 5', async () => {
    answerWith(...denied.with(1, forbidden));
    const { exit, err } = await runCli(api, ['run', 'x', '--approve', 'never']);
    expect(exit).toBe(5);
    expect(err).toContain('denied: 1 tool call was denied\n  shell ls · by session: r\n');
    expect(err).toContain('--approve all');
  });

  test('what a rule denies, no way of asking would have opened', async () => {
    answerWith(...denied);
    const { err } = await runCli(api, ['run', 'x']);
    expect(err).not.toContain('--approve');
  });

  test('nor where nobody decided: this machine has no sandbox (regression)', async () => {
    answerWith(toolRequested(), toolCompleted('denied', '1.1.1', ''), turnCompleted());
    const { exit, err } = await runCli(api, ['run', 'x']);
    expect([exit, err]).toEqual([5, expect.not.stringContaining('--approve')]);
  });

  test('--approve ask without a terminal waits for others, and says how they answer', async () => {
    answerWith(toolRequested(), approvalRequested('1.1.1', 'rm x'));
    const { machine, done } = startCli(api, ['run', 'x', '--approve', 'ask']);
    await machine.stderr.until(`  prx-supervisor approve ${SESSION} 1.1.1, or deny\n`);
    expect(bodyOf('/sessions')).toMatchObject({ approve: 'ask' });
    expect(bodyOf('/1.1.1')).toBeUndefined();
    api.emit(SESSION, ...approvalResolved());
    api.emit(SESSION, ...turnCompleted());
    expect(await done).toMatchObject({ exit: 0, err: expect.stringContaining('  rm x\n') });
  });

  test('--approve all in a session that asks: the client says yes', async () => {
    api.addSession(SESSION);
    answerWith(toolRequested(), approvalRequested());
    api.onDecision = (callId, body) => {
      api.emit(SESSION, ...approvalResolved(String(body['decision']), callId));
      api.emit(SESSION, ...turnCompleted());
    };
    const { exit } = await runCli(api, ['run', '--session', SESSION, '--approve', 'all', 'x']);
    expect([exit, bodyOf('/1.1.1')]).toEqual([0, expect.objectContaining({ decision: 'approve' })]);
  });

  test.each([
    ['y', { decision: 'approve', scope: 'once' }],
    ['a', { decision: 'approve', scope: 'session' }],
    ['n', { decision: 'deny' }],
  ])('on a terminal %s answers inline', async (key, decision) => {
    answerWith(toolRequested(), approvalRequested('1.1.1', 'rm x'));
    api.onDecision = () => {
      api.emit(SESSION, ...approvalResolved());
      api.emit(SESSION, ...turnCompleted());
    };
    const { machine, done } = startCli(api, ['run', 'x'], { tty: true, env: { NO_COLOR: '1' } });
    await machine.stderr.until('y allow once');
    machine.keyboard.write(`?${key}`);
    const { err } = await done;
    expect(err).toContain('? approval needed: shell (call 1.1.1)\n  rm x\n');
    expect(bodyOf('/1.1.1')).toMatchObject(decision);
  });

  test('r keeps the rule that was shown; a question takes a line', async () => {
    answerWith(approvalWithRule(), questionAsked('1.1.2'));
    const decisions: unknown[] = [];
    api.onDecision = (callId, body) => {
      decisions.push(body);
      api.emit(SESSION, ...approvalResolved('approve', callId));
      if (callId === '1.1.2') api.emit(SESSION, ...turnCompleted());
    };
    const { machine, done } = startCli(api, ['run', 'x'], { tty: true, env: { NO_COLOR: '1' } });
    await machine.stderr.until('r allow by a rule');
    await machine.stderr.until('rule, from now on: shell "git push" in /ws for agent default');
    machine.keyboard.write('r');
    await machine.stderr.until('2 PostgreSQL');
    await machine.stderr.until('answer (Enter alone declines)>');
    machine.keyboard.write('2\r');
    await done;
    expect(decisions).toMatchObject([
      { decision: 'approve', scope: 'rule', digest: 'd1' },
      { decision: 'approve', answer: 'PostgreSQL', digest: 'd2' },
    ]);
  });

  test('--approve all answers no question: it is declined, and the agent told why', async () => {
    api.addSession(SESSION);
    answerWith(questionAsked());
    api.onDecision = () => api.emit(SESSION, ...turnCompleted());
    await runCli(api, ['run', '--session', SESSION, '--approve', 'all', 'x']);
    const reason = 'nobody is asked: --approve all';
    expect(bodyOf('/1.1.1')).toEqual({ decision: 'deny', reason });
  });

  test('an approval that somebody else resolved is not asked any more', async () => {
    answerWith(toolRequested(), approvalRequested());
    const { machine, done } = startCli(api, ['run', 'x'], { tty: true });
    await machine.stderr.until('y allow once');
    api.emit(SESSION, ...approvalResolved());
    api.emit(SESSION, ...turnCompleted());
    expect((await done).exit).toBe(0);
    expect(bodyOf('/1.1.1')).toBeUndefined();
  });
});

describe('[command:run] Ctrl-C', () => {
  test('interrupts the turn and exits 130 with it', async () => {
    api.onInterrupt = (id) => api.emit(id, ...turnCompleted('interrupted'));
    api.onInput = (id, inputId) =>
      api.emit(id, 'turn.started', { turn: 1, input_id: inputId, attempt: 1 });
    const { machine, done } = startCli(api, ['run', 'x'], { tty: true });
    await machine.stderr.until('session');
    await api.untilFollowed();
    machine.signal();
    expect((await done).exit).toBe(130);
    expect(api.requests.some((one) => one.path.endsWith('/interrupt'))).toBe(true);
  });

  test('a second one leaves the turn to itself', async () => {
    const { machine, done } = startCli(api, ['run', 'x'], { tty: true });
    await api.untilFollowed();
    machine.signal();
    machine.signal();
    const { exit, err } = await done;
    expect([exit, err]).toEqual([130, expect.stringContaining('again leaves')]);
  });

  test('SIGTERM leaves it too, and says where it goes on', async () => {
    const { machine, done } = startCli(api, ['run', 'x']);
    await api.untilFollowed();
    machine.signal('SIGTERM');
    const left = `left; the turn goes on: prx-supervisor attach ${SESSION}\n`;
    expect(await done).toEqual({ exit: 130, out: '', err: left });
    expect(api.requests.some((one) => one.path.endsWith('/interrupt'))).toBe(false);
  });

  test('an input of another turn is not taken for ours', async () => {
    api.addSession(SESSION);
    for (const fact of [input('other'), delta('not ours')]) api.emit(SESSION, ...fact);
    api.onInput = (id, inputId) => {
      api.emit(id, ...modelCompleted('not ours'));
      api.emit(id, ...turnCompleted('failed', 1, 'other'));
      api.emit(id, 'turn.started', { turn: 2, input_id: inputId, attempt: 1 });
      api.emit(id, ...modelCompleted('ours'));
      api.emit(id, ...turnCompleted('completed', 2, inputId));
    };
    const { exit, out } = await runCli(api, ['run', '--session', SESSION, 'x']);
    expect([exit, out]).toEqual([0, 'ours\n']);
  });
});
