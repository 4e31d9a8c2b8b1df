import { describe, expect, test } from '@jest/globals';
import { advance, emptyFeed, type FeedState } from '../../cli/session/feed.ts';
import type { Piece } from '../../cli/session/pieces.ts';
import { createPlainWriter } from '../../cli/session/plain.ts';
import { summarizeArguments } from '../../cli/session/tool-summary.ts';
import { createStyle } from '../../cli/text/style.ts';
import {
  approvalRequested,
  approvalResolved,
  delta,
  type Fact,
  input,
  modelCompleted,
  modelStarted,
  state,
  toEvents,
  toolCompleted,
  toolRequested,
  toolStarted,
  turnCompleted,
  turnStarted,
} from './session-events.ts';

function feed(facts: readonly Fact[]): { state: FeedState; pieces: Piece[] } {
  let current = emptyFeed;
  const pieces: Piece[] = [];
  for (const event of toEvents(facts)) {
    const step = advance(current, event);
    current = step.state;
    pieces.push(...step.pieces);
  }
  return { state: current, pieces };
}

/** What a reader of the plain view sees. */
function read(facts: readonly Fact[]): string {
  let text = '';
  const writer = createPlainWriter({ style: createStyle(false), write: (part) => (text += part) });
  for (const piece of feed(facts).pieces) writer.write(piece);
  writer.finish();
  return text;
}

describe('the answer of a step', () => {
  test.each<[string, Fact[], string]>([
    ['streamed', [modelStarted(), delta('a'), delta('b'), modelCompleted('ab')], 'agent: ab\n'],
    ['not streamed at all', [modelStarted(), modelCompleted('ab')], 'agent: ab\n'],
    [
      'the end came without its delta',
      [modelStarted(), delta('a'), modelCompleted('ab')],
      'agent: ab\n',
    ],
    ['seen from the middle', [delta('b', 2), modelCompleted('b', 2)], 'agent: b\n'],
    ['empty beside a tool call', [modelStarted(), modelCompleted('')], ''],
  ])('%s', (_name, facts, text) => {
    expect(read(facts)).toBe(text);
  });

  test('a later attempt is never joined with the text before it', () => {
    const facts = [
      modelStarted(1, 1),
      delta('old', 1, 1),
      modelStarted(1, 2),
      delta('late', 1, 1),
      delta('new', 1, 2),
      modelCompleted('new', 1, 2),
    ];
    expect(read(facts)).toBe(
      'agent: old\n' +
        '[the text above is void: the model was asked again; attempt 2 follows]\n' +
        'agent: new\n',
    );
  });

  test('a later attempt before any text needs no marker', () => {
    expect(read([modelStarted(1, 1), modelStarted(1, 2), modelCompleted('new', 1, 2)])).toBe(
      'agent: new\n',
    );
  });

  test('a recorded answer that differs from the stream replaces it', () => {
    const text = read([modelStarted(), delta('abc'), modelCompleted('xyz')]);
    expect(text).toContain('[the text above is void: the recorded answer differs');
    expect(text.endsWith('agent: xyz\n')).toBe(true);
  });
});

describe('tool calls', () => {
  test('one line with name, arguments, status, duration, exit code and level', () => {
    const text = read([toolRequested(), toolStarted(), toolCompleted('ok')]);
    expect(text).toBe('tool: ✓ shell ls · ok · 1.2s · exit 0 · bubblewrap\n  out\n');
  });

  test('long output shows its first lines and how many more there are', () => {
    const output = `${Array.from({ length: 8 }, (_, at) => `l${at}`).join('\n')}\n`;
    const text = read([toolRequested(), toolCompleted('ok', '1.1.1', output)]);
    expect(text).toContain('  l4\n  … 3 more lines\n');
  });

  test('a denied call says by whom', () => {
    const decided: Fact = [
      'tool.decided',
      { call_id: '1.1.1', decision: 'deny', by: 'policy', rule: 'tools.shell' },
    ];
    expect(read([toolRequested(), decided, toolCompleted('denied', '1.1.1', '')])).toBe(
      'tool: ✗ shell ls · denied · 1.2s\n  denied by policy: tools.shell\n',
    );
  });

  test('an approval waits until it is resolved, edited arguments are what is shown', () => {
    const waiting = feed([toolRequested(), approvalRequested()]);
    expect([...waiting.state.approvals.keys()]).toEqual(['1.1.1']);
    const resolved: Fact = [
      'approval.resolved',
      { call_id: '1.1.1', decision: 'approve', by: 'me', arguments: { command: 'ls -l' } },
    ];
    const done = feed([toolRequested(), approvalRequested(), resolved]);
    expect(done.state.approvals.size).toBe(0);
    expect(done.state.calls.get('1.1.1')?.summary).toBe('ls -l');
  });

  test.each([
    ['shell', { command: 'ls\nrm' }, 'ls ⏎ rm'],
    ['read_file', { path: 'a.txt', offset: 3 }, 'a.txt'],
    ['search', { pattern: 'x' }, 'x'],
    ['list_files', {}, ''],
    ['other', { a: 1 }, '{"a":1}'],
    ['shell', 'not json', 'not json'],
    ['shell', { command: '\u001b[2Jx' }, 'x'],
  ])('summary of %s %j', (tool, args, summary) => {
    expect(summarizeArguments(tool, args)).toBe(summary);
  });
});

describe('the session', () => {
  test('an event is shown once', () => {
    const [event] = toEvents([input()]);
    if (event === undefined) throw new Error('no event');
    const first = advance(emptyFeed, event);
    const second = advance(first.state, event);
    expect([first.pieces.length, second.pieces.length, second.state]).toEqual([1, 0, first.state]);
  });

  test('an unknown type is passed over', () => {
    const { state: after, pieces } = feed([['some.future', {}]]);
    expect([after.lastSeq, pieces]).toEqual([1, []]);
  });

  test('turn, tokens, cost and queue are counted', () => {
    const { state: after } = feed([
      input(),
      input('in_2'),
      turnStarted(),
      modelStarted(),
      modelCompleted('x'),
    ]);
    expect(after).toMatchObject({
      turn: 1,
      inTurn: true,
      queuedInputs: 1,
      inputTokens: 10,
      outputTokens: 5,
      costUsd: 0.01,
      model: 'test-model',
    });
    expect(feed([input(), turnStarted(), turnCompleted()]).state.inTurn).toBe(false);
  });

  test('what a reader sees of a whole turn', () => {
    const facts = [
      state('starting', 'running', 'open for work'),
      input('in_1', 'two\nlines'),
      turnStarted(),
      approvalRequested(),
      approvalResolved('deny'),
      turnCompleted('failed'),
    ];
    expect(read(facts)).toBe(
      [
        'state: running (open for work)',
        'you: two',
        '  lines',
        '? approval needed: shell (call 1.1.1)',
        '  ls',
        'approval: 1.1.1 deny by socket',
        'turn: turn 1 failed · 1 step · 10 in, 5 out · $0.01',
        '',
      ].join('\n'),
    );
  });

  test.each<[string, Fact, string]>([
    [
      'a worker that died',
      ['worker.exited', { generation: 1, pid: 2, cause: 'memory', code: null, signal: 'SIGKILL' }],
      'warn: the worker died (memory, SIGKILL); the session goes on\n',
    ],
    [
      'a worker that ended',
      ['worker.exited', { generation: 1, pid: 2, cause: 'stopped', code: 0, signal: null }],
      '',
    ],
    [
      'a model that failed for good',
      [
        'model.failed',
        { step: 1, attempt: 1, error: { code: 'X', message: 'no' }, retry_in_ms: null },
      ],
      'error: the model call failed: no (X)\n',
    ],
    [
      'a model that is asked again',
      [
        'model.failed',
        { step: 1, attempt: 1, error: { code: 'X', message: 'no' }, retry_in_ms: 1500 },
      ],
      'warn: no (X); trying again in 1.5 s\n',
    ],
    [
      'a limit',
      ['limit.exceeded', { limit: 'queue', value: 3, max: 2 }],
      'warn: limit queue exceeded: 3 of 2\n',
    ],
    [
      'a limit that is near',
      ['limit.exceeded', { limit: 'memory', value: 1.9, max: 2, level: 'soft' }],
      'warn: limit memory is near: 1.9 of 2\n',
    ],
    [
      'a compaction',
      ['context.compacted', { before_tokens: 9, after_tokens: 1 }],
      'info: context compacted: 9 → 1 tokens\n',
    ],
    [
      'an input set aside',
      ['input.quarantined', { input_id: 'in_1', reason: 'poison' }],
      'error: an input was set aside: poison\n',
    ],
  ])('notice of %s', (_name, fact, text) => {
    expect(read([fact])).toBe(text);
  });
});
