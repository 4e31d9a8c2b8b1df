/** `top` with a call that waits: what is shown, and which key gives which answer. */
import { describe, expect, test } from '@jest/globals';
import type { Key } from '../../cli/attach/keys.ts';
import { createStyle } from '../../cli/text/style.ts';
import { widthOf } from '../../cli/text/width.ts';
import { initialState, type Known, nothingKnown, type TopState } from '../../cli/top/model.ts';
import { press } from '../../cli/top/press.ts';
import { renderTop } from '../../cli/top/render.ts';
import type { ApprovalView } from '../../protocol/resources.ts';
import { createStatus, createView } from '../api/views.ts';

// As the supervisor lists them: the newest first.
const sessions = [2, 1].map((n) => createView(n, { name: `name${n}` }));
const [newer, older] = sessions.map(({ id }) => id);
const text = (letter: string): Key => ({ kind: 'text', text: letter });
const named = (name: 'enter' | 'escape' | 'backspace'): Key => ({ kind: 'named', name });

const asked = (more: object = {}): ApprovalView =>
  ({
    ...{ session: newer, call_id: '1.1.1', tool: 'shell', arguments: { command: 'git push' } },
    ...{ digest: 'd', requested_at: '', expires_at: '2026-01-02T03:09:05.000Z' },
    rule: 'security.rules[1]: ask tool shell',
    covers: ['shell (security.rules[1]: ask tool shell)'],
    keeps: { tool: 'shell', agent: 'default', workspace: '/ws', command: 'git push' },
    ...more,
  }) as ApprovalView;
const question = asked({
  ...{ tool: 'ask_user', keeps: undefined },
  arguments: { question: 'Which one?', options: ['SQLite', 'PostgreSQL'] },
});

const knownWith = (...approvals: ApprovalView[]): Known => ({
  ...{ ...nothingKnown, sessions, status: createStatus('ok'), approvals },
});

function pressAll(known: Known, ...keys: readonly Key[]) {
  let state: TopState = initialState;
  const effects: unknown[] = [];
  for (const key of keys) {
    const pressed = press(state, key, known);
    state = pressed.state;
    if (pressed.effect !== undefined) effects.push(pressed.effect);
  }
  return { state, effects };
}

const screenOf = (state: TopState, known: Known, isColoured = false): string[] =>
  renderTop(state, known, {
    ...{ columns: 80, rows: 24, style: createStyle(isColoured), nowMs: 0, plain: false },
  });

describe('[command:top] an approval', () => {
  const answerTo = (answer: object): object => ({
    ...{ name: 'answer', session: newer, callId: '1.1.1', answer: { ...answer, digest: 'd' } },
  });

  test.each([
    ['y', { decision: 'approve', scope: 'once' }],
    ['a', { decision: 'approve', scope: 'session' }],
    ['r', { decision: 'approve', scope: 'rule' }],
    ['n', { decision: 'deny' }],
  ])('Enter shows it, %s answers it, bound to what was shown', (key, answer) => {
    const { state, effects } = pressAll(knownWith(asked()), named('enter'), text(key));
    expect(effects).toEqual([answerTo(answer)]);
    expect(state.deciding).toBeUndefined();
  });

  test('nothing is answered before it is shown, or by another key', () => {
    expect(pressAll(knownWith(asked()), text('y')).effects).toEqual([]);
    expect(pressAll(knownWith(asked()), named('enter'), text('q')).effects).toEqual([]);
    const left = pressAll(knownWith(asked()), named('enter'), named('escape'), text('y'));
    expect(left.effects).toEqual([]);
  });

  test('no rule is kept where the supervisor offers none', () => {
    const known = knownWith(asked({ keeps: undefined }));
    expect(pressAll(known, named('enter'), text('r')).effects).toEqual([]);
    const { state } = pressAll(known, named('enter'));
    expect(screenOf(state, known).join('\n')).not.toContain('by a rule');
  });

  test('the chosen session comes first', () => {
    const known = knownWith(asked({ session: older, call_id: '9.1.1' }), asked());
    expect(pressAll(known, named('enter')).state.deciding?.callId).toBe('1.1.1');
  });

  test('says what is asked, why, and what each answer would allow', () => {
    const known = knownWith(asked());
    const screen = screenOf(pressAll(known, named('enter')).state, known).join('\n');
    for (const part of [
      'approval needed: shell',
      'git push',
      'asked by security.rules[1]: ask tool shell',
      'session: shell (security.rules[1]: ask tool shell)',
      'rule, from now on: shell "git push" in /ws for agent default',
    ]) {
      expect(screen).toContain(part);
    }
  });

  test('one that somebody else answered is not answered again', () => {
    const { state } = pressAll(knownWith(asked()), named('enter'));
    expect(screenOf(state, knownWith()).join('\n')).toContain('waits no longer');
    expect(press(state, text('y'), knownWith())).toMatchObject({
      effect: undefined,
      state: { deciding: undefined },
    });
  });

  test('a long command leaves the keys in sight', () => {
    const known = knownWith(asked({ arguments: { command: 'x'.repeat(1900) } }));
    const screen = screenOf(pressAll(known, named('enter')).state, known);
    expect(screen).toHaveLength(24);
    expect(screen.join('\n')).toContain('y once');
  });
});

describe('[command:top] a question', () => {
  test.each([
    ['its number', '2', 'PostgreSQL'],
    ['words', 'neither', 'neither'],
    ['a number that is none', '7', '7'],
  ])('%s answers it', (_name, typed, answer) => {
    const keys = [named('enter'), ...[...typed].map(text), named('enter')];
    expect(pressAll(knownWith(question), ...keys).effects).toMatchObject([
      { answer: { decision: 'approve', answer, digest: 'd' } },
    ]);
  });

  test('no key approves it; Ctrl-D declines', () => {
    expect(pressAll(knownWith(question), named('enter'), text('y')).effects).toEqual([]);
    const declined = pressAll(knownWith(question), named('enter'), { kind: 'ctrl', letter: 'd' });
    expect(declined.effects).toMatchObject([{ answer: { decision: 'deny' } }]);
  });

  test('is shown with its options and what was typed', () => {
    const { state } = pressAll(knownWith(question), named('enter'), text('7'), named('backspace'));
    const screen = screenOf(pressAll(knownWith(question), named('enter'), text('Sq')).state, {
      ...knownWith(question),
    }).join('\n');
    expect(state.deciding?.typed).toBe('');
    for (const part of ['Which one?', '1 SQLite', '2 PostgreSQL', '› Sq']) {
      expect(screen).toContain(part);
    }
  });
});

test('the overview lists what waits; with colour every line fits 80 columns', () => {
  const lines = screenOf(initialState, knownWith(asked(), question), true);
  expect(lines.join('\n')).toContain('git push');
  expect(lines.join('\n')).toContain('2 calls for your answer');
  expect(lines.filter((line) => widthOf(line) > 80)).toEqual([]);
});
