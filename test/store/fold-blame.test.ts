/** Whom deaths are blamed on, as the record of a session keeps it: and what takes the blame off.
 *  Which of several stops is the one that a turn ended for. */
import { describe, expect, test } from '@jest/globals';
import type { EventEnvelope, EventType } from '../../protocol/events.ts';
import type { SessionRecord } from '../../store/contract.ts';
import { foldSession } from '../../store/fold-session.ts';
import { effectId, inputId, sessionId } from './setup-events.ts';

let seq = 0;
const event = (type: EventType, data: object): EventEnvelope => {
  seq += 1;
  const place = { session: sessionId(1), seq, epoch: 1, time: '2026-01-01T00:00:00.000Z' };
  return { ...place, type, turn: 1, data };
};

const exited = event('worker.exited', {
  ...{ generation: 1, pid: 9, code: 1, signal: null, stderr_tail: '', peak_rss_bytes: null },
  ...{ cause: 'crashed', progress: false },
});
const setAside = (in_a_row?: number) =>
  event('input.quarantined', {
    ...{ input_id: inputId('in_1'), reason: 'r' },
    ...(in_a_row === undefined ? {} : { in_a_row }),
  });

const created = foldSession(
  undefined,
  event('session.created', {
    ...{ agent: 'a', workspace: '/w', private_workspace: true, labels: {}, approve: 'ask' },
    source: 'test',
  }),
);
const begun = event('turn.started', { turn: 1, input_id: inputId('in_1'), attempt: 1 });
const blamed: SessionRecord = [begun, exited, setAside(2)].reduce(foldSession, created);
const usage = { input_tokens: 1, output_tokens: 1 };

describe('the blame for deaths', () => {
  test('stands in the record', () => {
    expect(blamed.quarantines).toBe(2);
    expect(blamed.open_turn?.deaths).toHaveLength(1);
  });

  test.each([
    event('session.restarted', { by: 'someone' }),
    event('context.compacted', { step: 1 }),
    event('tool.completed', { call_id: effectId('1.1.1'), status: 'ok', output: '' }),
    event('model.completed', { step: 1, attempt: 1, usage, cost_usd: 0 }),
  ])('is taken off by $type', (each) => {
    const record = foldSession(blamed, each);
    expect(record).not.toHaveProperty('quarantines');
    expect(record.open_turn).not.toHaveProperty('deaths');
  });

  test('is not that of an input which an older version, or a repair, set aside', () => {
    expect(foldSession(created, setAside())).not.toHaveProperty('quarantines');
    expect(foldSession(blamed, setAside()).quarantines).toBe(2);
  });
});

test('the first tombstone says how a turn ends, whatever comes behind it', () => {
  const stops = [
    event('interrupt.accepted', { source: 'a', outcome: 'interrupted', reason: 'by a' }),
    event('interrupt.accepted', { source: 'b', outcome: 'timeout', reason: 'too long' }),
  ];
  const { open_turn: open } = [begun, ...stops].reduce(foldSession, created);
  expect(open?.ending).toEqual({ outcome: 'interrupted', reason: 'by a' });
});
