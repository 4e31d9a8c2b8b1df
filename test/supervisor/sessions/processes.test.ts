/** Background processes in the journal: a start before one may run, and exactly one end. */
import { describe, expect, test } from '@jest/globals';
import { PrxError } from '../../../base/errors.ts';
import { silentLogger } from '../../../base/logger.ts';
import type { EventEnvelope } from '../../../protocol/events.ts';
import type { SessionId } from '../../../protocol/ids.ts';
import type { ProcessStart } from '../../../protocol/processes.ts';
import type { SessionRecord } from '../../../store/contract.ts';
import { foldSession } from '../../../store/fold-session.ts';
import type { Draft } from '../../../supervisor/sessions/journal.ts';
import { createSessionProcesses } from '../../../supervisor/sessions/processes.ts';
import { effectId, inputId } from '../../store/setup-events.ts';
import { createSteppedClock } from '../stepped-clock.ts';

const session = 's_0123456789abcdef' as SessionId;
const call = effectId('1.1.1');
const time = '2026-01-01T00:00:00.000Z';
const start: ProcessStart = {
  call_id: call,
  command: 'npm run dev',
  level: 'bubblewrap',
  started_at: time,
  deadline_at: '2026-01-01T01:00:00.000Z',
};
const created = {
  agent: 'a',
  workspace: '/w',
  private_workspace: true,
  labels: {},
  approve: 'ask',
  source: 'test',
};

/** The real projection over events in memory; what the host and the disk do is set by the test. */
function createParts() {
  const clock = createSteppedClock();
  const events: EventEnvelope[] = [];
  let record: SessionRecord | undefined;
  const set = { isFull: false, isStopped: false, hasWriter: false, file: [] as unknown[] };
  const add = ({ type, data }: Pick<Draft, 'type'> & { data: unknown }): void => {
    const event = { session, seq: events.length + 1, epoch: 1, time, type, data };
    events.push(event);
    record = foldSession(record, event);
  };
  add({ type: 'session.created', data: created });
  add({ type: 'turn.started', data: { turn: 1, input_id: inputId('in_1'), attempt: 1 } });
  const processes = createSessionProcesses({
    session,
    stateDir: '/state',
    clock,
    logger: silentLogger,
    hasOrphanWriter: () => set.hasWriter,
    spools: {
      remove: () => undefined,
      read: () => ({
        records: set.file.map((value, index) => ({ value, offset: index + 1 })),
        nextOffset: set.file.length,
        tail: 'clean',
      }),
    },
    journal: {
      isStopped: () => set.isStopped,
      record: () => record as SessionRecord,
      async append(...drafts) {
        await Promise.resolve();
        if (set.isFull) throw new PrxError('STORE_DEGRADED', 'ENOSPC');
        for (const each of drafts) add(each);
        return [];
      },
    },
  });
  const seen = (): unknown[] => events.slice(2).map(({ type, data }) => [type, data]);
  return { clock, set, processes, seen };
}

const started = ['process.started', start];
const exited = (end: object): unknown => ['process.exited', { call_id: call, ...end }];

describe('the start of a background process', () => {
  test('is refused where the journal does not take it', async () => {
    const { set, processes, seen } = createParts();
    set.isFull = true;
    await expect(processes.register(start)).rejects.toMatchObject({ code: 'STORE_DEGRADED' });
    expect([seen(), processes.count()]).toEqual([[], 0]);
  });

  test('is refused when its turn is not the open one', async () => {
    const { processes, seen } = createParts();
    const late = { ...start, call_id: effectId('2.1.1') };
    await expect(processes.register(late)).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(seen()).toEqual([]);
  });

  test('is refused behind the tombstone of its turn', async () => {
    const { set, processes, seen } = createParts();
    set.isStopped = true;
    await expect(processes.register(start)).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(seen()).toEqual([]);
  });
});

describe('[promise:nothing-outlives] the end of a background process', () => {
  test('is journaled once, however often it is told', async () => {
    const { processes, seen } = createParts();
    await processes.register(start);
    expect(processes.count()).toBe(1);
    const end = { reason: 'exited', exit_code: 0 } as const;
    await Promise.all([processes.settle(call, end), processes.settle(call)]);
    await processes.settle(call);
    await processes.resume();
    expect([seen(), processes.count()]).toEqual([[started, exited(end)], 0]);
  });

  test('is not journaled for one that was never registered', async () => {
    const { processes, seen } = createParts();
    await processes.settle(call, { reason: 'not_started' });
    expect(seen()).toEqual([]);
  });

  test('names the limit that ended it', async () => {
    const { processes, seen } = createParts();
    await processes.register(start);
    const exceeded = { limit: 'memory_limit_mb', value: 600, max: 512 };
    await processes.settle(call, { reason: 'limit', exceeded });
    expect(seen().slice(1)).toEqual([
      ['limit.exceeded', exceeded],
      exited({ reason: 'limit', exceeded }),
    ]);
  });

  test('is written when there is room again', async () => {
    const { clock, set, processes, seen } = createParts();
    await processes.register(start);
    set.isFull = true;
    const settled = processes.settle(call, { reason: 'exited' });
    await clock.armed(1000);
    expect(seen()).toEqual([started]);
    set.isFull = false;
    clock.advance(1000);
    await settled;
    expect(seen()).toEqual([started, exited({ reason: 'exited' })]);
  });

  test('left by an earlier supervisor, is read when nobody can write it any more', async () => {
    const { clock, set, processes, seen } = createParts();
    await processes.register(start);
    set.hasWriter = true;
    set.file = [{ kind: 'start', start }];
    const resumed = processes.resume();
    await clock.armed(20);
    expect(seen()).toEqual([started]);
    set.file.push({ kind: 'end', end: { reason: 'orphaned', duration_ms: 7 } });
    clock.advance(20);
    await resumed;
    expect(seen()).toEqual([started, exited({ reason: 'orphaned', duration_ms: 7 })]);
  });

  test('that nobody wrote down is lost, and said to be', async () => {
    const { set, processes, seen } = createParts();
    await processes.register(start);
    set.file = [{ kind: 'start', start }];
    await processes.resume();
    expect(seen()).toEqual([started, exited({ reason: 'lost' })]);
  });

  test('is left to the next opening where the session is closed first', async () => {
    const { clock, set, processes, seen } = createParts();
    await processes.register(start);
    set.hasWriter = true;
    const resumed = processes.resume();
    await clock.armed(20);
    processes.close();
    await resumed;
    expect(seen()).toEqual([started]);
  });
});
