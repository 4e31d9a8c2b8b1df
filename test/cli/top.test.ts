/** `top`: keys and screens are pure; the program is run on a terminal in memory. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { PrxError } from '../../base/errors.ts';
import type { Key } from '../../cli/attach/keys.ts';
import { createStyle } from '../../cli/text/style.ts';
import { widthOf } from '../../cli/text/width.ts';
import {
  commands,
  findSelected,
  findShown,
  initialState,
  type Known,
  nothingKnown,
  type TopState,
  tabs,
} from '../../cli/top/model.ts';
import { press } from '../../cli/top/press.ts';
import { renderTop } from '../../cli/top/render.ts';
import { createStatus, createView } from '../api/views.ts';
import { FakeApi } from './fake-api.ts';
import { runCli, startCli } from './run-cli.ts';

// As the supervisor lists them: the newest first.
const sessions = [3, 2, 1].map((n) =>
  createView(n, { name: `name${n}`, agent: n === 2 ? 'other' : 'a' }),
);
const [last, , first] = sessions;
const known: Known = { ...nothingKnown, sessions, status: createStatus('ok') };
const text = (letter: string): Key => ({ kind: 'text', text: letter });
const named = (name: 'up' | 'down' | 'left' | 'right' | 'enter' | 'escape' | 'backspace'): Key => ({
  kind: 'named',
  name,
});

function pressAll(keys: readonly Key[], from: TopState = initialState, about = known) {
  let state = from;
  const effects: unknown[] = [];
  for (const key of keys) {
    const pressed = press(state, key, about);
    state = pressed.state;
    if (pressed.effect !== undefined) effects.push(pressed.effect);
  }
  return { state, effects };
}

describe('keys', () => {
  test.each(tabs.map((tab, index) => [index + 1, tab] as const))('%d shows %s', (number, tab) => {
    expect(pressAll([text(String(number))]).state.tab).toBe(tab);
  });

  test('the arrows go round the tabs, and choose a session, the newest first', () => {
    expect(pressAll([named('left')]).state.tab).toBe('Commands');
    expect(pressAll([named('left'), named('right')]).state.tab).toBe('Overview');
    expect(findSelected(initialState, known)?.id).toBe(last?.id);
    const { state } = pressAll([named('down'), named('down'), named('down')]);
    expect(findSelected(state, known)?.id).toBe(first?.id);
  });

  test('a search narrows the list until it is left', () => {
    const { state } = pressAll([text('/'), text('oth'), text('er'), named('enter')]);
    expect(findShown(state, known).map(({ name }) => name)).toEqual(['name2']);
    expect(findShown(pressAll([named('escape')], state).state, known)).toHaveLength(3);
    // While one searches, letters are no commands.
    expect(pressAll([text('/'), text('q')]).effects).toEqual([]);
  });

  test.each(commands.map((command) => [command.name, command] as const))('%s', (name, command) => {
    const action = { name, session: last?.id };
    const once = pressAll([text(command.key)]);
    expect(once.effects).toEqual(command.isConfirmed ? [] : [action]);
    const twice = pressAll([text(command.key), text(command.key)]);
    expect(twice.effects).toContainEqual(action);
  });

  test('a confirmation is for the session that was chosen then', () => {
    const keys = [text('C'), named('down'), text('C')];
    expect(pressAll(keys).effects).toEqual([]);
  });

  test('without anything that waits, Enter says so, and answers nothing', () => {
    const { state, effects } = pressAll([named('enter'), text('y')]);
    expect(effects).toEqual([]);
    expect(pressAll([named('enter')]).state.note).toContain('nothing waits');
    expect(state.deciding).toBeUndefined();
  });

  test('q and Ctrl-C leave', () => {
    expect(pressAll([text('q')]).effects).toEqual(['quit']);
    expect(pressAll([{ kind: 'ctrl', letter: 'c' }]).effects).toEqual(['quit']);
  });
});

describe('a screen', () => {
  const many = Array.from({ length: 60 }, (_, n) => createView(n + 1, { name: `name${n + 1}` }));
  const events = Array.from({ length: 90 }, (_, n) => ({
    ...{ session: 's_0000000000000001', seq: n + 1, epoch: 1, time: '2026-01-01T00:00:00.000Z' },
    ...{ type: 'turn.started', data: { text: `\u001b[2J${'x'.repeat(300)}` } },
  })) as unknown as Known['events'];
  const full: Known = { ...known, sessions: many, events };

  test.each(tabs.flatMap((tab) => [80, 200].map((columns) => [tab, columns] as const)))(
    '%s fits %d columns and 24 rows, and shows no sequence of a stranger',
    (tab, columns) => {
      const style = createStyle(false);
      const frame = { columns, rows: 24, style, nowMs: 0, plain: false };
      const lines = renderTop({ ...initialState, tab }, full, frame);
      expect(lines).toHaveLength(24);
      expect(lines.filter((line) => widthOf(line) > columns)).toEqual([]);
      expect(lines.join('\n')).not.toContain('\u001b');
    },
  );

  test('the chosen session is in sight, wherever it stands', () => {
    const frame = { columns: 80, rows: 24, style: createStyle(false), nowMs: 0, plain: false };
    for (const at of [0, 30, 59]) {
      const state: TopState = { ...initialState, tab: 'Sessions', selected: many[at]?.id };
      const lines = renderTop(state, full, frame).filter((line) => line.startsWith('›'));
      expect(lines).toHaveLength(1);
      expect(lines[0]).toContain(`name${at + 1}`);
    }
  });

  test('says why it is not newer', () => {
    const frame = { columns: 80, rows: 24, style: createStyle(false), nowMs: 0, plain: false };
    const away = { ...full, problem: new PrxError('NOT_RUNNING', 'no supervisor answers') };
    expect(renderTop(initialState, away, frame).join('\n')).toContain('no supervisor answers');
  });
});

describe('the program', () => {
  let api: FakeApi;
  beforeEach(async () => {
    api = await new FakeApi().listen();
    api.answers.set('GET /api/v1/status', createStatus('ok'));
    api.answers.set('GET /api/v1/sessions', [createView(1, { name: 'mine', last_seq: 0 })]);
    api.answers.set('GET /api/v1/approvals', []);
    api.answers.set('GET /api/v1/processes', []);
    api.answers.set(`GET /api/v1/sessions/${createView(1, {}).id}/events`, []);
  });
  afterEach(() => api.close());

  test('[command:top] takes the terminal, follows its keys, and gives it back', async () => {
    const { machine, done } = startCli(api, ['top'], { tty: true });
    await machine.stdout.until('1 Overview');
    machine.keyboard.write('2');
    await machine.stdout.until('mine');
    machine.keyboard.write('q');
    expect((await done).exit).toBe(0);
    expect(machine.stdout.text.startsWith('\u001b[?1049h')).toBe(true);
    expect(machine.stdout.text.endsWith('\u001b[?1049l')).toBe(true);
  });

  test('piped it is one look, without a sequence', async () => {
    const { done } = startCli(api, ['top', '--plain']);
    const { exit, out } = await done;
    expect(exit).toBe(0);
    expect(out).toContain('name: mine');
    expect(out).not.toContain('\u001b');
  });

  test('without a supervisor it says once how to start one, as every command', async () => {
    await api.close();
    const [top, ps] = [await runCli(api, ['top']), await runCli(api, ['ps'])];
    expect(top).toEqual(ps);
    expect(top.exit).toBe(3);
    expect(top.err.split(' start').length - 1).toBe(1);
  });
});
