import { describe, expect, test } from '@jest/globals';
import { toPanelLines } from '../../cli/attach/approval-panel.ts';
import { type Editor, editLine, emptyEditor, textOf, withText } from '../../cli/attach/editor.ts';
import {
  DETACH_DEFAULT,
  initialKeyState,
  type Key,
  matchDetach,
  parseDetachKeys,
  parseKeys,
} from '../../cli/attach/keys.ts';
import { createScreen } from '../../cli/attach/screen.ts';
import { parseSlash } from '../../cli/attach/slash.ts';
import { toStatusLine } from '../../cli/attach/status-line.ts';
import { emptyView, stepView, toLiveLines, type View } from '../../cli/attach/view.ts';
import { createStyle } from '../../cli/text/style.ts';
import { FakeOutput } from './fake-machine.ts';
import {
  approvalRequested,
  delta,
  type Fact,
  input,
  modelCompleted,
  modelStarted,
  toEvents,
  toolCompleted,
  toolRequested,
  toolStarted,
  turnCompleted,
  turnStarted,
} from './session-events.ts';

const named = (name: string) => ({ kind: 'named', name }) as Key;
const typed = (text: string): Key => ({ kind: 'text', text });
const ctrl = (letter: string): Key => ({ kind: 'ctrl', letter });

describe('keys', () => {
  test.each<[string, string[], Key[]]>([
    ['text', ['héllo'], [typed('héllo')]],
    ['enter', ['\r'], [named('enter')]],
    ['alt-enter and newline', ['\u001b\r\n'], [named('newline'), named('newline')]],
    ['control letters', ['\u0003\u0010\u0011'], [ctrl('c'), ctrl('p'), ctrl('q')]],
    ['arrows', ['\u001b[A\u001bOB'], [named('up'), named('down')]],
    ['a sequence in two reads', ['\u001b[', 'A'], [named('up')]],
    ['escape alone', ['\u001b'], [named('escape')]],
    ['an unknown sequence is nothing', ['\u001b[99~x'], [typed('x')]],
    ['a paste', ['\u001b[200~a\rb\u001b[201~'], [{ kind: 'paste', text: 'a\nb' }]],
    [
      'a paste in pieces, its end cut',
      ['\u001b[200~ab', 'c\u001b[20', '1~d'],
      [{ kind: 'paste', text: 'abc' }, typed('d')],
    ],
    ['text around keys', ['a\u007fb'], [typed('a'), named('backspace'), typed('b')]],
  ])('%s', (_name, chunks, keys) => {
    let state = initialKeyState;
    const found: Key[] = [];
    for (const chunk of chunks) {
      const parsed = parseKeys(state, chunk);
      state = parsed.state;
      found.push(...parsed.keys);
    }
    expect(found).toEqual(keys);
  });

  test.each<[string, Key[], boolean]>([
    ['ctrl-p ctrl-q', [ctrl('p'), ctrl('q')], true],
    ['ctrl-b d', [ctrl('b'), typed('d')], true],
    ['ctrl-p alone', [ctrl('p')], false],
    ['ctrl-p x ctrl-q', [ctrl('p'), typed('x'), ctrl('q')], false],
    ['ctrl-p ctrl-p ctrl-q', [ctrl('p'), ctrl('p'), ctrl('q')], true],
    ['d alone', [typed('d')], false],
  ])('detach: %s', (_name, keys, isDetach) => {
    let pressed: readonly string[] = [];
    let found = false;
    for (const key of keys) {
      const match = matchDetach(DETACH_DEFAULT, pressed, key);
      pressed = match.pressed;
      found ||= match.isDetach;
    }
    expect(found).toBe(isDetach);
  });

  test.each([
    ['ctrl-x,ctrl-d', ['ctrl-x', 'ctrl-d']],
    ['CTRL-A,d', ['ctrl-a', 'd']],
    ['d', undefined],
    ['ctrl-', undefined],
    ['', undefined],
  ])('--detach-keys %s', (text, keys) => {
    expect(parseDetachKeys(text)).toEqual(keys);
  });
});

describe('the input line', () => {
  const press = (keys: readonly Key[], from: Editor = emptyEditor) => {
    let editor = from;
    const sent: string[] = [];
    for (const key of keys) {
      const edited = editLine(editor, key);
      editor = edited.editor;
      if (edited.submitted !== undefined) sent.push(edited.submitted);
    }
    return { text: textOf(editor), cursor: editor.cursor, sent, editor };
  };

  test.each<[string, Key[], string, number]>([
    ['types', [typed('ab'), typed('c')], 'abc', 3],
    ['moves and inserts', [typed('ac'), named('left'), typed('b')], 'abc', 2],
    ['takes a whole emoji', [typed('a👩‍👩‍👧'), named('backspace')], 'a', 1],
    ['joins a combining mark', [typed('e'), typed('\u0301')], 'e\u0301', 1],
    ['deletes a word', [typed('one two'), ctrl('w')], 'one ', 4],
    [
      'kills to the start and to the end',
      [typed('abc'), named('left'), ctrl('k'), ctrl('u')],
      '',
      0,
    ],
    [
      'home and end stay on their line',
      [typed('a'), named('newline'), typed('b'), ctrl('a')],
      'a\nb',
      2,
    ],
    ['a paste of several lines is one input', [{ kind: 'paste', text: 'a\nb' }], 'a\nb', 3],
    ['goes by words', [typed('one two'), named('word-left'), typed('X')], 'one Xtwo', 5],
  ])('%s', (_name, keys, text, cursor) => {
    expect(press(keys)).toMatchObject({ text, cursor });
  });

  test('Enter sends; an empty line is nothing; history goes back to the draft', () => {
    const first = press([
      named('enter'),
      typed('one'),
      named('enter'),
      typed('two'),
      named('enter'),
    ]);
    expect(first.sent).toEqual(['one', 'two']);
    const draft = press([typed('draft'), named('up'), named('up'), named('up')], first.editor);
    expect(draft.text).toBe('one');
    expect(press([named('down'), named('down'), named('down')], draft.editor).text).toBe('draft');
  });

  test('withText puts the cursor behind it', () => {
    expect(withText(emptyEditor, 'ab').cursor).toBe(2);
  });
});

describe('slash commands', () => {
  test.each([
    ['hello', undefined],
    ['//x', undefined],
    ['/etc/hosts is what?', undefined],
    ['/help', { kind: 'help' }],
    ['/detach', { kind: 'detach' }],
    ['/interrupt', { kind: 'interrupt' }],
    ['/approve', { kind: 'approve', callId: undefined, scope: 'once' }],
    ['/approve 1.2.3 session', { kind: 'approve', callId: '1.2.3', scope: 'session' }],
    ['/approve rule', { kind: 'approve', callId: undefined, scope: 'rule' }],
    ['/deny 1.2.3 not now', { kind: 'deny', callId: '1.2.3', reason: 'not now' }],
    ['/deny', { kind: 'deny', callId: undefined, reason: undefined }],
    [
      '/aprove',
      { kind: 'unknown', message: 'there is no /aprove. Did you mean /approve? /help lists them.' },
    ],
  ])('%s', (text, slash) => {
    expect(parseSlash(text)).toEqual(slash);
  });
});

const options = { style: createStyle(false), columns: 60, nowMs: 0 };

function show(facts: readonly Fact[]): { view: View; lines: string[] } {
  let view = emptyView;
  const lines: string[] = [];
  for (const event of toEvents(facts)) {
    const step = stepView(view, event, options);
    view = step.view;
    lines.push(...step.committed);
  }
  return { view, lines };
}

describe('the live view', () => {
  test('a turn: history above, one line a tool call, blocks parted', () => {
    const { lines } = show([
      input(),
      turnStarted(),
      modelStarted(),
      delta('first\n\nsec'),
      delta('ond'),
      modelCompleted('first\n\nsecond'),
      toolRequested(),
      toolStarted(),
      toolCompleted('error'),
      turnCompleted(),
    ]);
    expect(lines).toEqual([
      '› hello',
      '',
      'first',
      '',
      'second',
      '',
      '✗ shell ls · error · 1.2s · exit 1 · bubblewrap',
      '  out',
      '',
      '── turn 1 completed · 1 step · 10 in, 5 out · $0.01',
    ]);
  });

  test('what moves: the open block and the running call', () => {
    const { view } = show([
      input(),
      turnStarted(),
      delta('done\n\nopen **bo'),
      toolRequested(),
      toolStarted(),
    ]);
    const live = toLiveLines(view, { ...options, nowMs: 2000, rows: 10 });
    expect(live.slice(1)).toEqual(['open **bo', '⠦ shell ls · running 2.0s · bubblewrap']);
  });

  test('what moves keeps to its rows, newest last', () => {
    const { view } = show([turnStarted(), delta('```\n1\n2\n3\n4')]);
    expect(toLiveLines(view, { ...options, rows: 2 })).toEqual(['3', '4']);
  });

  test('void text is marked', () => {
    const { lines } = show([modelStarted(1, 1), delta('old', 1, 1), modelStarted(1, 2)]);
    expect(lines).toEqual([
      'old',
      '[the text above is void: the model was asked again; attempt 2 follows]',
    ]);
  });

  test.each([
    ['idle', [], '● idle · /help · X detaches'],
    [
      'in a turn',
      [turnStarted(), modelStarted()],
      '⠋ turn 1 · test-model · Ctrl-C interrupts · X detaches',
    ],
  ] as [string, Fact[], string][])('status line: %s', (_name, facts, line) => {
    const { view } = show(facts);
    const status = { ...options, readOnly: false, detachHint: 'X detaches', message: undefined };
    expect(toStatusLine(view, status)).toBe(line);
  });

  test('a status line that is too long loses whole facts, the least important first', () => {
    const { view } = show([
      turnStarted(),
      modelStarted(),
      modelCompleted('x'),
      approvalRequested(),
    ]);
    const status = { ...options, columns: 80, readOnly: false, message: undefined };
    const line = toStatusLine(view, { ...status, detachHint: 'Ctrl-P Ctrl-Q detaches' });
    expect(line).toBe('? your answer is needed · Ctrl-C interrupts · Ctrl-P Ctrl-Q detaches');
  });

  test('a long command leaves the keys that answer it in sight', () => {
    const approval = show([approvalRequested('1.1.1', 'x'.repeat(1900))]).view.feed.approvals;
    const panel = { ...options, columns: 80, rows: 18, readOnly: false, isEditing: false };
    const lines = [...approval.values()].flatMap((one) =>
      toPanelLines(one, { ...panel, moreCount: 0 }),
    );
    expect(lines.length).toBeLessThanOrEqual(18);
    expect(lines.join('\n')).toContain('y once');
    expect(lines.join('\n')).toContain('approvals --json');
  });

  test('the way out is never cut from the status line', () => {
    const { view } = show([turnStarted()]);
    const status = { ...options, columns: 30, readOnly: false, message: 'm'.repeat(99) };
    const line = toStatusLine(view, { ...status, detachHint: 'Ctrl-P Ctrl-Q' });
    expect(line.endsWith(' · Ctrl-P Ctrl-Q')).toBe(true);
    expect(line.length).toBeLessThan(30);
  });
});

test('the screen erases exactly what it drew, in one write, row by row (regression)', () => {
  const output = new FakeOutput(true);
  const screen = createScreen(output);
  screen.draw(['said'], { lines: ['a', 'b', 'c'], cursor: { row: 1, column: 2 } });
  expect(output.text).toBe(
    '\u001b[?2026h\u001b[?25l\r\u001b[Ksaid\r\n\u001b[Ka\r\n\u001b[Kb\r\n\u001b[Kc\u001b[J' +
      '\u001b[1A\r\u001b[2C\u001b[?25h\u001b[?2026l',
  );
  output.text = '';
  screen.draw([], { lines: ['x'], cursor: undefined });
  expect(output.text).toBe('\u001b[?2026h\u001b[?25l\u001b[1A\r\u001b[Kx\u001b[J\u001b[?2026l');
  output.text = '';
  screen.close();
  expect(output.text).toBe('\r\u001b[J\u001b[?25h');
});
