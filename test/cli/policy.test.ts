/** The commands about policy: why a call is allowed, and rules that were kept with approvals. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { PolicyView } from '../../protocol/policy-view.ts';
import { FakeApi, SESSION } from './fake-api.ts';
import { runCli } from './run-cli.ts';

let api: FakeApi;

beforeEach(async () => {
  api = await new FakeApi().listen();
});

afterEach(() => api.close());

const asked = (method: string, path: string): unknown =>
  api.requests.find((one) => one.method === method && one.path === path)?.body;

const place = { rule: 'security.rules[1]: deny command "rm *"', file: '/c.toml', line: 4 };
const view: PolicyView = {
  ...{ tool: 'shell', agent: 'default', decision: 'deny', by: 'policy', level: 'bubblewrap' },
  ...place,
  reason: 'ask first',
  parts: [
    { decision: 'allow', text: 'ls', rule: 'built-in default' },
    { decision: 'deny', text: 'rm x', ...place },
  ],
  covers: [],
};

describe('[command:policy] policy explain', () => {
  test('a tool: decision, rule with its line, level, and each part', async () => {
    api.answers.set('POST /api/v1/policy/explain', view);
    const command = ['policy', 'explain', 'shell', '{"command":"ls; rm x"}', '--workspace', '/w'];
    const { exit, out } = await runCli(api, command);
    expect(exit).toBe(0);
    expect(out).toBe(
      `${[
        'deny: shell for agent default, at sandbox level bubblewrap.',
        'By policy: security.rules[1]: deny command "rm *" (/c.toml:4).',
        'Reason given: ask first',
        '  allow  ls  by built-in default',
        '  deny  rm x  by security.rules[1]: deny command "rm *" (/c.toml:4)',
      ].join('\n')}\n`,
    );
    expect(asked('POST', '/api/v1/policy/explain')).toEqual({
      ...{ tool: 'shell', workspace: '/w', arguments: { command: 'ls; rm x' } },
    });
    const json = await runCli(api, [...command, '--json', '--agent', 'a']);
    expect(JSON.parse(json.out)).toEqual(view);
  });

  test('what an approval would stand for, and what stands before policy', async () => {
    const { reason: _, ...rest } = view;
    api.answers.set('POST /api/v1/policy/explain', {
      ...{ ...rest, decision: 'ask', parts: [], covers: ['shell'], keeps: 'shell "ls" in /w' },
      ...{ problem: 'command: too small', refusal: 'no sandbox' },
    });
    const { out } = await runCli(api, ['policy', 'explain', 'shell']);
    expect(out).toContain('It would fail before: command: too small\nNo tool runs now: no sandbox');
    expect(out).toContain('--scope session would allow: shell');
    expect(out).toContain('--scope rule would keep: shell "ls" in /w');
  });

  test('a call of the past, from the journal', async () => {
    api.addSession(SESSION);
    const call_id = '1.1.1';
    const args = { command: 'rm x' };
    api.emit(SESSION, 'tool.requested', {
      ...{ call_id, tool: 'shell', arguments: args, effect: 'write' },
    });
    api.emit(SESSION, 'tool.decided', { call_id, decision: 'ask', by: 'policy', rule: 'default' });
    api.emit(SESSION, 'tool.decided', { call_id: '1.1.2', decision: 'deny', by: 'x', rule: 'y' });
    api.emit(SESSION, 'approval.resolved', {
      ...{ call_id, decision: 'approve', by: 'anna', scope: 'rule', kept: 'r_1' },
    });
    api.emit(SESSION, 'tool.completed', { call_id, status: 'ok' });
    const { exit, out } = await runCli(api, ['policy', 'explain', SESSION, '1.1.1']);
    expect(exit).toBe(0);
    expect(out.split('\n').map((line) => line.replace(/^\S+ /, ''))).toEqual([
      '#1 the model asks for shell {"command":"rm x"} (effect write)',
      '#2 ask, by policy: default',
      '#4 approve by anna, scope rule, kept as rule r_1',
      '#5 ended: ok',
      '',
    ]);
    const none = await runCli(api, ['policy', 'explain', SESSION, '9.9.9']);
    expect([none.exit, none.err]).toEqual([1, expect.stringContaining('has no call 9.9.9')]);
  });
});

describe('kept rules', () => {
  const keeps = { tool: 'shell', command: 'npm test', agent: 'default', workspace: '/w' };
  const rule = { ...keeps, id: 'r_1', by: 'socket', kept_at: '2026-01-02T03:04:05.000Z' };

  test('approvals --rules lists them, --forget removes one', async () => {
    api.answers.set('GET /api/v1/rules', [rule]);
    const { out } = await runCli(api, ['approvals', '--rules']);
    expect(out.split('\n')[1]).toMatch(
      /^r_1 +shell "npm test" in \/w for agent default {2}socket {2}/,
    );
    expect(JSON.parse((await runCli(api, ['approvals', '--rules', '--json'])).out)).toEqual([rule]);
    const { exit, out: said } = await runCli(api, ['approvals', '--forget', 'r_1']);
    expect([exit, said]).toEqual([0, 'forgot r_1\n']);
  });

  test('approve --scope rule shows it first, and answers for the call that was shown', async () => {
    api.addSession(SESSION);
    const times = { requested_at: '2026-01-02T03:04:05Z', expires_at: '2999-01-01T00:00:00Z' };
    const call = { session: SESSION, call_id: '1.1.1', digest: 'd1', ...times };
    api.approvals = [{ ...call, tool: 'shell', arguments: { command: 'npm test' }, keeps }];
    const { exit, err } = await runCli(api, ['approve', SESSION, '1.1.1', '--scope', 'rule']);
    expect(exit).toBe(0);
    expect(err).toContain('keeps the rule: allow shell "npm test" in /w for agent default');
    expect(asked('POST', `/api/v1/sessions/${SESSION}/approvals/1.1.1`)).toEqual({
      ...{ decision: 'approve', digest: 'd1', scope: 'rule' },
    });
  });

  test('approve --answer answers a question', async () => {
    api.addSession(SESSION);
    await runCli(api, ['approve', SESSION, '1.1.1', '--answer', 'blue']);
    expect(asked('POST', `/api/v1/sessions/${SESSION}/approvals/1.1.1`)).toEqual({
      ...{ decision: 'approve', answer: 'blue' },
    });
  });
});

test('describe shows the newest task list', async () => {
  api.addSession(SESSION);
  const todo = (text: string, status: string) => ({
    ...{ call_id: '1.1.1', tool: 'todo', effect: 'read' },
    arguments: { items: [{ text, status }] },
  });
  api.emit(SESSION, 'tool.requested', todo('look', 'in_progress'));
  api.emit(SESSION, 'tool.requested', todo('look', 'done'));
  const { out } = await runCli(api, ['describe', SESSION]);
  expect(out).toContain('Todo:\n  [x] look\n');
});
