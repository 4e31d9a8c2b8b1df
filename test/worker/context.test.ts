import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { AssistantMessage, SessionHistory } from '../../protocol/content.ts';
import { buildTranscript } from '../../worker/context.ts';
import { shortenTranscript } from '../../worker/shorten.ts';
import { anyHistory } from './arbitraries.ts';
import { call, input, manifest, noHistory, result, stepRecord } from './harness.ts';
import { findMalformed } from './transcript.ts';

describe('[promise:transcript-well-formed] a transcript', () => {
  test('is well formed, whatever the history', () => {
    fc.assert(
      fc.property(anyHistory, fc.integer({ min: 1, max: 4 }), (history, maxToolCallsPerTurn) => {
        const transcript = buildTranscript({ ...manifest, maxToolCallsPerTurn }, history);
        expect(findMalformed(transcript)).toEqual([]);
      }),
      { numRuns: 200 },
    );
  });

  test('is well formed when it was shortened', () => {
    fc.assert(
      fc.property(anyHistory, fc.nat(500), (history, limit) => {
        const transcript = buildTranscript(manifest, history);
        expect(findMalformed(shortenTranscript(transcript, [], limit))).toEqual([]);
      }),
    );
  });

  test('is a function of its arguments', () => {
    fc.assert(
      fc.property(anyHistory, (history) => {
        const copy = structuredClone(history);
        expect(buildTranscript(manifest, copy)).toEqual(buildTranscript(manifest, history));
        expect(copy).toEqual(history);
      }),
    );
  });

  test('the check itself finds what is malformed', () => {
    const system = { role: 'system', text: 's' } as const;
    const assistant = (message: AssistantMessage) => ({ role: 'assistant', message }) as const;
    const tool = { role: 'tool', call_id: 'a', name: 'shell', text: 'x' } as const;
    const asks = assistant({ text: '', tool_calls: [call('a')] });
    const user = { role: 'user', content: [{ type: 'text', text: 'u' }] } as const;
    for (const bad of [
      [tool, system],
      [system, tool],
      [system, asks],
      [system, asks, structuredClone(user)],
      [system, asks, tool, tool],
      [system, asks, { ...tool, call_id: 'b' }],
      [system, asks, tool, asks, tool],
      [system, assistant({ text: ' ', tool_calls: [] })],
      [system, assistant({ text: '', tool_calls: [call('a', 'no')] }), tool],
      [system, { role: 'user', content: [] } as const],
    ]) {
      expect(findMalformed(structuredClone(bad) as never)).not.toEqual([]);
    }
  });
});

const system = {
  role: 'system',
  text: [
    'You are a test.',
    '',
    'Workspace: /workspace. Relative paths are relative to it.',
    'Tools run in a sandbox; a result says so where something was cut, denied or limited.',
  ].join('\n'),
};
const user = (text: string) => ({ role: 'user', content: [{ type: 'text', text }] });

describe('the transcript of a history', () => {
  test('reads as it went', () => {
    const history: SessionHistory = {
      turns: [
        {
          turn: 1,
          input: input('list it'),
          steps: [
            { ...stepRecord(1, 'looking', [call('a')]), results: [result('file.txt')] },
            { ...stepRecord(2, 'file.txt'), steer: [input('briefly')] },
          ],
          outcome: 'completed',
        },
        { turn: 2, input: input('next'), steps: [] },
      ],
    };
    expect(buildTranscript(manifest, history)).toEqual([
      system,
      user('list it'),
      { role: 'assistant', message: { text: 'looking', tool_calls: [call('a')] } },
      { role: 'tool', call_id: 'a', name: 'shell', text: 'file.txt' },
      user('briefly'),
      { role: 'assistant', message: { text: 'file.txt', tool_calls: [] } },
      user('next'),
    ]);
  });

  test('keeps what the user said in steps that a compaction left out (regression)', () => {
    const steps = [
      { ...stepRecord(1, 'first'), steer: [input('in French')] },
      { ...stepRecord(2, 'second'), steer: [input('and short')] },
      { ...stepRecord(3, 'third'), steer: [input('go on')] },
    ];
    const compaction = {
      ...{ turn: 1, step: 4, strategy: 'truncate' as const, summary: '' },
      ...{ from_turn: 1, from_step: 3, before_tokens: 9, after_tokens: 3 },
    };
    const turns = [{ turn: 1, input: input('write it'), steps }];
    expect(buildTranscript(manifest, { turns, compaction })).toEqual([
      system,
      user('[Earlier messages of this conversation were left out to save space.]'),
      user('write it'),
      user('in French'),
      user('and short'),
      user('go on'),
      { role: 'assistant', message: { text: 'third', tool_calls: [] } },
    ]);
  });

  test('is the system message alone when there is none; without tools it says so', () => {
    expect(buildTranscript(manifest, noHistory)).toEqual([system]);
    expect(buildTranscript({ ...manifest, instructions: ' ', tools: [] }, noHistory)).toEqual([
      { role: 'system', text: 'You have no tools in this session.' },
    ]);
  });

  test('gives a call without result, and a surplus one, a result of their own', () => {
    const calls = ['a', 'b', 'c'].map((id) => call(id));
    const steps = [{ ...stepRecord(1, '', calls), results: [result('done')] }];
    const turns = [{ turn: 1, input: input('x'), steps, outcome: 'interrupted' as const }];
    const transcript = buildTranscript({ ...manifest, maxToolCallsPerTurn: 2 }, { turns });
    expect(transcript.flatMap((m) => (m.role === 'tool' ? [m.text] : []))).toEqual([
      'done',
      '[status: cancelled] The call was cancelled.\nThis call was not run: the turn ended before it.',
      expect.stringContaining('at most 2 tool calls'),
    ]);
    expect(transcript.at(-1)).toEqual(
      user('[The turn above was stopped from outside before it was finished.]'),
    );
  });

  test('keeps reasoning within its own turn only', () => {
    const step = {
      ...stepRecord(1, 'hi'),
      message: { text: 'hi', reasoning: 'hm', tool_calls: [] },
    };
    const open = { turn: 2, input: input('x'), steps: [step] };
    const transcript = buildTranscript(manifest, {
      turns: [{ ...open, turn: 1, outcome: 'completed' }, open],
    });
    const reasoning = transcript.flatMap((m) =>
      m.role === 'assistant' ? [m.message.reasoning] : [],
    );
    expect(reasoning).toEqual([undefined, 'hm']);
  });

  test('from a compaction on: the summary, the input at the boundary, the steps behind it', () => {
    const turns = [1, 2].map((turn) => ({
      turn,
      input: input(`input ${turn}`),
      steps: [1, 2, 3].map((step) => stepRecord(step, `answer ${turn}.${step}`)),
      outcome: 'completed' as const,
    }));
    const at = (from_turn: number, from_step: number, summary: string) =>
      buildTranscript(manifest, {
        turns,
        compaction: {
          turn: 2,
          step: 4,
          strategy: 'summarize',
          summary,
          from_turn,
          from_step,
          before_tokens: 0,
          after_tokens: 0,
        },
      })
        .slice(1)
        .map((m) => (m.role === 'assistant' ? m.message.text : m.role === 'user' ? m.content : m));
    const text = (value: string) => [{ type: 'text', text: value }];
    expect(at(2, 3, 'in short')).toEqual([
      text('[Earlier messages of this conversation were replaced by this summary.]\nin short'),
      text('input 2'),
      'answer 2.3',
    ]);
    expect(at(2, 1, '')).toEqual([
      text('[Earlier messages of this conversation were left out to save space.]'),
      text('input 2'),
      'answer 2.1',
      'answer 2.2',
      'answer 2.3',
    ]);
  });
});
