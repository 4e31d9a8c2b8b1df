/** The scripted model judges every transcript: what providers refuse, and what was never said. */
import { describe, expect, test } from '@jest/globals';
import { judgeRequest } from '../../chaos/transcript.ts';
import { script } from './good-history.ts';

const system = { role: 'system', content: 'be good' };
const user = { role: 'user', content: JSON.stringify(script) };
const call = (id: string) => ({
  id,
  type: 'function',
  function: { name: 'shell', arguments: '{}' },
});
const assistant = (content: string | null, ...ids: readonly string[]) => ({
  role: 'assistant',
  content,
  ...(ids.length === 0 ? {} : { tool_calls: ids.map(call) }),
});
const result = (id: string) => ({ role: 'tool', tool_call_id: id, content: 'done' });
const judge = (...messages: readonly unknown[]) =>
  judgeRequest(JSON.stringify({ model: 'm', stream: true, messages }));

describe('a well-formed transcript asks for a step', () => {
  test('the first one', () => {
    const { question, problems } = judge(system, user);
    expect(problems).toEqual([]);
    expect(question).toMatchObject({ index: 0, step: { say: 'one two' } });
  });

  test('the one behind the results', () => {
    const { question, problems } = judge(
      system,
      user,
      assistant('one two', 'a', 'b'),
      result('b'),
      result('a'),
    );
    expect(problems).toEqual([]);
    expect(question).toMatchObject({ index: 1, step: { say: 'three four' } });
  });

  test('of the newest script, with parts, behind a turn that was cut', () => {
    const parts = { role: 'user', content: [{ type: 'text', text: JSON.stringify(script) }] };
    const mark = { role: 'user', content: '[The turn above was stopped.]' };
    const { question, problems } = judge(system, user, assistant('one'), mark, parts);
    expect(problems).toEqual([]);
    expect(question?.index).toBe(0);
  });
});

test('a compaction may have taken the first steps of the first turn, and of no other', () => {
  const said = ['s-1.0:0', 's-1.1:0', 's-1.2:0'];
  const steps = said.map((text) => ({ say: text, pauseMs: 0, calls: [], faults: [] }));
  const own = { chaos: 's-1', steps };
  const turn = { role: 'user', content: JSON.stringify(own) };
  const later = assistant('s-1.1:0', 'call_s-1_1_0');
  const cut = judge(system, turn, later, result('call_s-1_1_0'));
  expect(cut.problems).toEqual([]);
  expect(cut.question?.index).toBe(2);
  // What steered it stands right behind its input.
  const steered = judge(system, user, turn, later, result('call_s-1_1_0'));
  expect(steered.problems).toEqual([]);
  expect(steered.question?.index).toBe(2);
  const second = judge(system, user, assistant('one'), turn, later, result('call_s-1_1_0'));
  expect(second.problems).toEqual([expect.stringContaining("said 's-1.0:0', not 's-1.1:0'")]);
});

/** [what is wrong, how it is said, the messages] */
const broken: readonly (readonly [string, RegExp, readonly unknown[]])[] = [
  ['a call without a result', /calls a have no result/, [user, assistant('one two', 'a')]],
  [
    'a message between a call and its result',
    /comes before the results of a/,
    [user, assistant('one two', 'a'), user, result('a')],
  ],
  ['a result of no call', /answers call 'a', which is not open/, [user, result('a')]],
  [
    'two results of one call',
    /answers call 'a', which is not open/,
    [user, assistant('one two', 'a'), result('a'), result('a')],
  ],
  [
    'a call id that is used twice',
    /uses call id 'a' again/,
    [user, assistant('one two', 'a'), result('a'), assistant('three four', 'a'), result('a')],
  ],
  ['two answers in a row', /follows assistant/, [user, assistant('one'), assistant('three'), user]],
  ['an answer that says nothing', /says nothing/, [user, assistant(''), user]],
  ['an answer at the end', /ends with assistant/, [user, assistant('one two')]],
  ['a system message that is not the first', /is not the first/, [user, system, user]],
  ['two attempts in one text', /not 'one one two'/, [user, assistant('one one two'), user]],
  [
    'a step beyond the script',
    /no step/,
    [user, assistant('one two', 'a'), result('a'), assistant('three four', 'b'), result('b')],
  ],
  ['no script at all', /no step of a script/, [{ role: 'user', content: 'hello' }]],
];

test.each(broken)('%s is a problem', (_, message, messages) => {
  const { problems } = judge(...messages);
  expect(problems).toEqual(expect.arrayContaining([expect.stringMatching(message)]));
});

test('what is no chat request at all is a problem', () => {
  expect(judgeRequest('nonsense').problems).toHaveLength(1);
  expect(judgeRequest('{"messages":[]}').problems).toHaveLength(1);
});
