/** The background processes of a session in its record. */
import { describe, expect, test } from '@jest/globals';
import type { EventData, EventEnvelope, EventType } from '../../protocol/events.ts';
import { foldSession, isUnfinished } from '../../store/fold-session.ts';
import { effectId, sessionId } from './setup-events.ts';

const time = '2026-01-01T00:00:00.000Z';

function at<T extends EventType>(seq: number, type: T, data: EventData<T>): EventEnvelope {
  return { session: sessionId(1), seq, epoch: 1, time, type, data };
}

const created = at(1, 'session.created', {
  agent: 'a',
  workspace: '/w',
  private_workspace: true,
  labels: {},
  approve: 'ask',
  source: 'test',
});
const first = foldSession(undefined, created);
const toStart = (call: string) => ({
  ...{ call_id: effectId(call), command: 'npm run dev', level: 'bubblewrap' },
  ...{ started_at: time, deadline_at: time },
});
const [one, other] = [toStart('1.1.1'), toStart('1.1.2')];
const running = { ...first, processes: [one, other] };
const exited = (call: string) =>
  at(9, 'process.exited', { call_id: effectId(call), reason: 'exited' });

describe('the record of a session', () => {
  test('lists a background process, with as much of its command as ps shows', () => {
    const event = at(9, 'process.started', { ...one, command: 'x'.repeat(300) });
    expect(foldSession(first, event).processes).toEqual([{ ...one, command: 'x'.repeat(200) }]);
  });

  test('loses it at its end, and has no list when there is none', () => {
    const after = foldSession(running, exited('1.1.1'));
    expect(after.processes).toEqual([other]);
    expect(foldSession(after, exited('1.1.1')).processes).toEqual([other]);
    expect(foldSession(after, exited('1.1.2'))).not.toHaveProperty('processes');
  });

  test('of a fork has none: they belong to the origin', () => {
    expect(foldSession(running, { ...created, seq: 9 })).not.toHaveProperty('processes');
  });

  test('is unfinished as long as it lists one', () => {
    const stopped = { ...first, state: 'stopped' as const };
    expect([isUnfinished(stopped), isUnfinished({ ...stopped, processes: [one] })]).toEqual([
      ...[false, true],
    ]);
  });
});
