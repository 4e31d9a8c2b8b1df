/** What an answer to an approval may say, what it is bound to, and what is kept of it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { PrxError } from '../../../base/errors.ts';
import { toAnswer } from '../../../protocol/approval-words.ts';
import type { EffectId, SessionId } from '../../../protocol/ids.ts';
import type { CreateSession, ResolveApproval } from '../../../protocol/resources.ts';
import { createHouse, demolish, type House, type HouseSpec } from '../house.ts';
import { overStore, refusingOnce } from '../over-store.ts';
import { answers, call, callTool, dataOf, runsEverything, say } from '../script.ts';

const folders: string[] = [];
afterEach(async () => {
  await demolish();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

function createFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'prx-answers-'));
  folders.push(folder);
  return folder;
}

const toml = `[security.tool_policy]\ndefault = "supervised"`;
const first = '1.1.1' as EffectId;

interface Asked {
  readonly house: House;
  readonly id: SessionId;
  readonly host: ReturnType<typeof runsEverything>;
}

/** A session whose model asks for these calls, one a step, in its first turn. */
async function asking(
  calls = [call('a', 'rm x')],
  spec: HouseSpec = {},
  create: CreateSession = {},
): Promise<Asked> {
  const host = runsEverything();
  const steps = calls.map((each, index) => [`1.${index + 1}`, say('', [each])] as const);
  const gateway = answers(Object.fromEntries(steps));
  const house = await createHouse({ toml, ...spec, script: { gateway, host } });
  const id = await house.create(create);
  await house.send(id, 'hello');
  return { house, id, host };
}

const answer = (house: House, id: SessionId, effect: EffectId, how: ResolveApproval) =>
  house.supervisor.resolveApproval(id, effect, how, 'someone');

async function isAsked(house: House, id: SessionId, effect: EffectId = first): Promise<void> {
  await house.until(
    id,
    ({ type, data }) =>
      type === 'approval.requested' && (data as { call_id: string }).call_id === effect,
  );
}

describe('an answer', () => {
  test('counts when the one before it could not be written (regression)', async () => {
    const full = new PrxError('STORE_DEGRADED', 'ENOSPC');
    const { house, id, host } = await asking([call('a', 'rm x')], {
      wrapStore: refusingOnce('approval.resolved', { isFull: true }, full),
    });
    await isAsked(house, id);
    const both = await Promise.allSettled([
      house.supervisor.resolveApproval(id, first, { decision: 'deny' }, 'anna'),
      house.supervisor.resolveApproval(id, first, { decision: 'approve' }, 'ben'),
    ]);
    expect(both).toMatchObject([
      { status: 'rejected', reason: { code: 'STORE_DEGRADED' } },
      { status: 'fulfilled' },
    ]);
    await house.turnDone(id);
    expect(host.runs).toEqual([first]);
    expect(dataOf(await house.events(id), 'approval.resolved')).toMatchObject([{ by: 'ben' }]);
  });

  test('the first one wins, and the others hear whose it was, also later', async () => {
    const { house, id } = await asking();
    await isAsked(house, id);
    const both = await Promise.allSettled([
      house.supervisor.resolveApproval(id, first, { decision: 'approve' }, 'anna'),
      house.supervisor.resolveApproval(id, first, { decision: 'deny' }, 'ben'),
    ]);
    const winner = both[0]?.status === 'fulfilled' ? 'anna' : 'ben';
    const resolved = {
      code: 'APPROVAL_RESOLVED',
      message: expect.stringContaining(`1.1.1 already resolved by ${winner}`),
    };
    const lost = both.filter(({ status }) => status === 'rejected');
    expect(lost).toMatchObject([{ reason: resolved }]);
    await house.turnDone(id);
    await expect(answer(house, id, first, { decision: 'deny' })).rejects.toMatchObject(resolved);
  });

  test('for another call than the one that waits is refused', async () => {
    const { house, id, host } = await asking();
    await isAsked(house, id);
    const other = { decision: 'approve', digest: '0'.repeat(32) } as const;
    await expect(answer(house, id, first, other)).rejects.toMatchObject({
      code: 'APPROVAL_MISMATCH',
    });
    expect(host.runs).toEqual([]);
    const [{ digest = '' } = {}] = await house.supervisor.listApprovals();
    await answer(house, id, first, { decision: 'approve', digest });
    await house.turnDone(id);
    expect(host.runs).toEqual([first]);
  });

  test('with edited arguments has the digest of what runs', async () => {
    const { house, id } = await asking();
    await isAsked(house, id);
    await answer(house, id, first, { decision: 'approve', arguments: { command: 'ls' } });
    await house.turnDone(id);
    const events = await house.events(id);
    const [requested] = dataOf<{ digest: string }>(events, 'approval.requested');
    const [resolved] = dataOf<{ digest: string }>(events, 'approval.resolved');
    expect(resolved).toMatchObject({ arguments: { command: 'ls' } });
    expect(resolved?.digest).toMatch(/^2:[0-9a-f]{32}$/);
    expect(resolved?.digest).not.toBe(requested?.digest);
  });

  test('cannot make a call into one that is forbidden', async () => {
    const rules = `[[security.rules]]\ncommand = "rm -rf *"\naction = "deny"\n`;
    const { house, id, host } = await asking([call('a', 'rm x')], { toml: `${rules}${toml}` });
    await isAsked(house, id);
    const edit = { decision: 'approve', arguments: { command: 'ls; rm -rf /' } } as const;
    await expect(answer(house, id, first, edit)).rejects.toMatchObject({
      code: 'POLICY_DENIED',
      message: expect.stringContaining('security.rules[1]'),
    });
    expect(host.runs).toEqual([]);
  });

  test('is not enough for what the policy forbids by now', async () => {
    const { house, id } = await asking();
    await isAsked(house, id);
    const host = runsEverything();
    const next = await house.again({
      toml: `[security.tool_policy]\ntools.shell = "deny"`,
      script: { gateway: answers({}), host },
    });
    await answer(next, id, first, { decision: 'approve' });
    await next.turnDone(id);
    expect(host.runs).toEqual([]);
    expect(dataOf(await next.events(id), 'tool.completed')).toMatchObject([
      { status: 'denied', output: expect.stringContaining('security.tool_policy.tools.shell') },
    ]);
  });
});

describe('[event:rule.kept] [event:rule.removed] an answer with scope rule', () => {
  const keep = { decision: 'approve', scope: 'rule' } as const;

  async function kept(calls = [call('a', 'npm test')]) {
    const workspace = createFolder();
    const asked = await asking(calls, {}, { workspace });
    await isAsked(asked.house, asked.id);
    await answer(asked.house, asked.id, first, keep);
    await asked.house.turnDone(asked.id);
    return { ...asked, workspace };
  }

  /** How a call is decided in another session. */
  async function decided(house: House, command: string, create: CreateSession) {
    const script = { gateway: answers({ '1.1': say('', [call('a', command)]) }) };
    house.machine.script = { ...house.machine.script, ...script };
    const id = await house.create(create);
    await house.send(id, 'hello');
    const event = await house.until(id, 'tool.decided');
    await house.supervisor.close(id, 'test');
    return event.data as { decision: string; by: string; rule: string };
  }

  test('keeps exactly that call, in that workspace, until it is removed', async () => {
    const { house, id, workspace } = await kept();
    const [rule] = await house.supervisor.listKeptRules();
    expect(rule).toMatchObject({ tool: 'shell', command: 'npm test', workspace, by: 'someone' });
    const events = await house.events(id);
    expect(dataOf(events, 'approval.requested')).toMatchObject([
      { keeps: { command: 'npm test' } },
    ]);
    expect(dataOf(events, 'approval.resolved')).toMatchObject([{ kept: rule?.id }]);
    expect(await decided(house, 'npm test', { workspace })).toEqual({
      ...{ call_id: first, decision: 'allow', by: 'kept' },
      rule: `kept rule ${rule?.id} (by someone)`,
    });
    const others = ['npm test; rm x', 'npm  test', 'npm'];
    for (const other of others) {
      expect(await decided(house, other, { workspace })).toMatchObject({ decision: 'ask' });
    }
    expect(await decided(house, 'npm test', {})).toMatchObject({ decision: 'ask' });
    const elsewhere = { workspace: createFolder() };
    expect(await decided(house, 'npm test', elsewhere)).toMatchObject({ decision: 'ask' });
    const next = await house.again();
    expect(await decided(next, 'npm test', { workspace })).toMatchObject({ by: 'kept' });
    await next.supervisor.removeKeptRule(rule?.id ?? '', 'test');
    expect(await next.supervisor.listKeptRules()).toEqual([]);
    expect(await decided(next, 'npm test', { workspace })).toMatchObject({ decision: 'ask' });
    const last = await next.again();
    expect(await last.supervisor.listKeptRules()).toEqual([]);
    await expect(last.supervisor.removeKeptRule('r_0', 'test')).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
  });

  test('that cannot be read is no rule: the supervisor starts, and asks', async () => {
    const { house, workspace } = await kept();
    const next = await house.again({
      wrapStore: (store) =>
        overStore(store, {
          readEvents: (session, options) =>
            session === 'system'
              ? Promise.reject(new Error('damaged'))
              : store.readEvents(session, options),
        }),
    });
    expect(await next.supervisor.listKeptRules()).toEqual([]);
    expect(await decided(next, 'npm test', { workspace })).toMatchObject({ decision: 'ask' });
  });

  test('of a tool with a path keeps the path and not the content', async () => {
    const write = (path: string, content: string) => callTool('a', 'write_file', { path, content });
    const { house, id } = await asking(
      [write('a/../b.txt', 'one'), write('b.txt', 'two'), write('c.txt', 'three')],
      {},
      { workspace: createFolder() },
    );
    await isAsked(house, id);
    await answer(house, id, first, keep);
    await isAsked(house, id, '1.3.1' as EffectId);
    const [rule] = await house.supervisor.listKeptRules();
    expect(rule).toMatchObject({ tool: 'write_file', paths: ['b.txt'] });
    expect(dataOf(await house.events(id), 'tool.decided')).toMatchObject([
      { decision: 'ask' },
      { decision: 'allow', by: 'kept' },
      { decision: 'ask' },
    ]);
  });

  test('of a command without secrets is for none that asks for some', async () => {
    const ask = (...secrets: string[]) =>
      callTool('a', 'shell', { command: 'npm publish', secrets });
    const calls = [call('a', 'npm publish'), ask(), ask('KEY'), ask('KEY'), ask('OTHER')];
    const { house, id } = await asking(calls, {}, { workspace: createFolder() });
    await isAsked(house, id);
    await answer(house, id, first, keep);
    const third = '1.3.1' as EffectId;
    await isAsked(house, id, third);
    await answer(house, id, third, keep);
    await isAsked(house, id, '1.5.1' as EffectId);
    expect(await house.supervisor.listKeptRules()).toMatchObject([
      { tool: 'shell', command: 'npm publish' },
      { tool: 'shell', arguments: '{"command":"npm publish","secrets":["KEY"]}' },
    ]);
    const decisions = dataOf(await house.events(id), 'tool.decided').map((each) => each.decision);
    expect(decisions).toEqual(['ask', 'allow', 'ask', 'allow', 'ask']);
  });

  test('never opens what a rule denies, and is refused for what cannot be shown whole', async () => {
    const long = call('a', `echo ${'x'.repeat(3000)}`);
    const { house, id } = await asking([long]);
    await isAsked(house, id);
    const refused = { code: 'INVALID_REQUEST', message: expect.stringContaining('too long') };
    await expect(answer(house, id, first, keep)).rejects.toMatchObject(refused);
    await expect(
      answer(house, id, first, { decision: 'deny', scope: 'rule' }),
    ).rejects.toMatchObject({ message: expect.stringContaining('action = "deny"') });
    await expect(
      answer(house, id, first, { ...keep, arguments: { command: 'ls' } }),
    ).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
    expect(await house.supervisor.listApprovals()).toHaveLength(1);
    const denying = `[security.tool_policy]\ntools.shell = "deny"`;
    const { house: kind, workspace } = await kept();
    const strict = await kind.again({ toml: denying });
    expect(await decided(strict, 'npm test', { workspace })).toMatchObject({ decision: 'deny' });
  });
});

describe('[config:security.approval.max_denials] a model that does not take no', () => {
  test('is refused the same call without anybody being asked, in this turn', async () => {
    const { house, id, host } = await asking([call('a', 'rm x'), call('b', 'rm x')]);
    await isAsked(house, id);
    await answer(house, id, first, { decision: 'deny' });
    await house.turnDone(id);
    const events = await house.events(id);
    expect(dataOf(events, 'approval.requested')).toHaveLength(1);
    expect(dataOf(events, 'tool.decided')).toMatchObject([
      { decision: 'ask' },
      {
        ...{ decision: 'deny', by: 'guard' },
        rule: expect.stringContaining('refused as 1.1.1, nobody is asked again'),
      },
    ]);
    expect(host.runs).toEqual([]);
    house.machine.script = {
      ...house.machine.script,
      gateway: answers({ '2.1': say('', [call('c', 'rm x')]) }),
    };
    await house.send(id, 'again');
    await isAsked(house, id, '2.1.1' as EffectId);
  });

  test('is refused the tool after so many refusals, also after a restart', async () => {
    const calls = ['a', 'b', 'c'].map((name) => call(name, `rm ${name}`));
    const spec = { toml: `${toml}\n[security.approval]\nmax_denials = 2` };
    const { house, id } = await asking(calls, spec);
    await isAsked(house, id);
    await answer(house, id, first, { decision: 'deny' });
    await isAsked(house, id, '1.2.1' as EffectId);
    const next = await house.again();
    await answer(next, id, '1.2.1' as EffectId, { decision: 'deny' });
    await next.turnDone(id);
    const events = await next.events(id);
    expect(dataOf(events, 'approval.requested')).toHaveLength(2);
    expect(dataOf(events, 'tool.completed').at(-1)).toMatchObject({
      status: 'denied',
      output: expect.stringContaining('max_denials = 2'),
    });
  });
});

describe('ask_user', () => {
  const question = callTool('a', 'ask_user', {
    question: 'red or blue?',
    options: ['red', 'blue'],
  });
  const allowing = { toml: `[security.tool_policy]\ndefault = "allow"` };

  test('waits for a person, whatever is allowed, and says what was said; no sandbox is used', async () => {
    const { house, id, host } = await asking([question], allowing, { approve: 'all' });
    await isAsked(house, id);
    expect(await house.supervisor.getSession(id)).toMatchObject({ pending_approvals: 1 });
    const bad = { decision: 'approve', scope: 'rule' } as const;
    await expect(answer(house, id, first, bad)).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
    await answer(house, id, first, { decision: 'approve', answer: 'blue, please' });
    await house.turnDone(id);
    expect(dataOf(await house.events(id), 'tool.completed')).toMatchObject([
      { status: 'ok', output: 'someone answers: blue, please' },
    ]);
    expect(host.runs).toEqual([]);
  });

  test('the number of an option is that option at every door (regression)', async () => {
    const { house, id } = await asking([question], allowing);
    await isAsked(house, id);
    await answer(house, id, first, { decision: 'approve', answer: '2' });
    await house.turnDone(id);
    expect(dataOf(await house.events(id), 'tool.completed')).toMatchObject([
      { status: 'ok', output: 'someone answers: blue' },
    ]);
    const numbers = { question: '', options: ['2', '1'] };
    expect(toAnswer(numbers, toAnswer(numbers, '1'))).toBe('1');
  });

  test('is denied where nobody is there to answer; an answer is for questions only', async () => {
    const { house, id } = await asking([question], allowing, { approve: 'never' });
    await house.turnDone(id);
    expect(dataOf(await house.events(id), 'tool.completed')).toMatchObject([{ status: 'denied' }]);
    const { house: other, id: shell } = await asking();
    await isAsked(other, shell);
    await expect(
      answer(other, shell, first, { decision: 'approve', answer: 'yes' }),
    ).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
  });
});

test('todo is kept in the journal and read back; nothing of the machine is touched', async () => {
  const items = [
    { text: 'look', status: 'done' },
    { text: 'mend', status: 'in_progress' },
  ];
  const { house, id, host } = await asking([callTool('a', 'todo', { items })], {
    toml: '',
    probe: { level: 'none', reason: 'none here' },
  });
  await house.turnDone(id);
  const events = await house.events(id);
  expect(dataOf(events, 'tool.requested')).toMatchObject([{ tool: 'todo', arguments: { items } }]);
  expect(dataOf(events, 'tool.completed')).toMatchObject([
    { status: 'ok', output: '1 of 2 done\n[x] look\n[>] mend' },
  ]);
  expect(host.runs).toEqual([]);
});
