/** Every checker can fail: one true history, doctored in one place each. */
import { beforeAll, describe, expect, test } from '@jest/globals';
import type { EventType } from '../../protocol/events.ts';
import type { SessionId } from '../../protocol/ids.ts';
import { createChecks } from './checks/all.ts';
import type { Fact, Row } from './facts.ts';
import { runSeed } from './run.ts';

/** A run without faults, with tools, several turns and an interrupt. */
const SEED = 'doctored-4';
const settings = { restartAttempts: 3, maxSessions: 3 };

let facts: readonly Fact[] = [];
beforeAll(async () => {
  const heard: Fact[] = [];
  const plan = { kinds: [], everyMs: 1000, durationMs: 10_000 };
  const report = await runSeed(SEED, { plan, onFact: (fact) => void heard.push(fact) });
  expect(report.violations).toEqual([]);
  facts = heard;
});

function judge(doctored: readonly Fact[]): readonly string[] {
  let nowMs = 0;
  const checks = createChecks(settings, () => nowMs);
  for (const fact of doctored) {
    nowMs += 1000;
    checks.hear(fact);
  }
  return [...new Set(checks.end().map(({ check }) => check))];
}

type Written = Extract<Fact, { kind: 'written' }>;

const isWritten =
  (type: EventType) =>
  (fact: Fact): fact is Written =>
    fact.kind === 'written' && fact.row.event.type === type;

const without = (unwanted: (fact: Fact) => boolean): readonly Fact[] => {
  const at = facts.findIndex(unwanted);
  expect(at).toBeGreaterThanOrEqual(0);
  return facts.toSpliced(at, 1);
};

const twice = (wanted: (fact: Fact) => boolean): readonly Fact[] => {
  const at = facts.findIndex(wanted);
  const found = facts[at];
  if (found === undefined) throw new RangeError('the history has such a fact');
  return facts.toSpliced(at, 0, found);
};

/** Changes the first fact of a kind. */
function change<K extends Fact['kind']>(
  kind: K,
  how: (fact: Extract<Fact, { kind: K }>) => Fact,
): readonly Fact[] {
  const at = facts.findIndex((fact) => fact.kind === kind);
  const found = facts[at] as Extract<Fact, { kind: K }> | undefined; // it has this kind
  if (found === undefined) throw new RangeError('the history has such a fact');
  return facts.with(at, how(found));
}

function changeRow(type: EventType, data: object): readonly Fact[] {
  const at = facts.findIndex(isWritten(type));
  const found = facts[at];
  if (found?.kind !== 'written') throw new RangeError('the history has such a row');
  const { row } = found;
  const event = { ...row.event, data: { ...(row.event.data as object), ...data } };
  return facts.with(at, { kind: 'written', row: { ...row, event } });
}

interface More {
  readonly type: EventType;
  readonly data: object;
  readonly turn?: number;
  readonly effect?: string;
}

/** Goes on where the history ends, in the session that came first. */
function goOn(...events: readonly More[]): readonly Fact[] {
  const rows = facts.flatMap((fact) => (fact.kind === 'written' ? [fact.row] : []));
  const session = facts.find(isWritten('session.created'))?.row.event.session;
  const last = rows.findLast(({ event }) => event.session === session);
  if (last === undefined) throw new RangeError('the history has a session');
  const added = events.map(({ type, data, turn, effect }, index): Row => {
    const event = {
      ...last.event,
      seq: last.event.seq + 1 + index,
      type,
      ...(turn === undefined ? {} : { turn }),
      data,
    };
    return { id: 100_000 + index, transaction: 100_000, power: true, effect, event };
  });
  return [...facts, ...added.map((row): Fact => ({ kind: 'written', row }))];
}

const input = { input_id: 'in_more', source: 'test', content: [], on_busy: 'enqueue' };
const accepted: More = { type: 'input.accepted', data: input };
const started: More = {
  type: 'turn.started',
  turn: 99,
  data: { turn: 99, input_id: 'in_more', attempt: 1 },
};
const asked: More = {
  type: 'model.started',
  turn: 99,
  effect: '99.1',
  data: { step: 1, attempt: 1, model: 'm', request_digest: 'd' },
};
const stopped: More = { type: 'interrupt.accepted', turn: 99, data: { source: 'test' } };
const ended: More = {
  type: 'turn.completed',
  turn: 99,
  data: { turn: 99, input_id: 'in_more', outcome: 'interrupted' },
};
const died: More = {
  type: 'worker.exited',
  data: { generation: 99, pid: 1, cause: 'crashed' },
};
const again: More = { type: 'worker.restarting', data: { attempt: 1, delay_ms: 0 } };

const cases: readonly (readonly [string, () => readonly Fact[]])[] = [
  ['sequence', () => without(isWritten('model.delta'))],
  ['states', () => changeRow('session.state', { to: 'suspended' })],
  ['inputs exactly once', () => goOn(accepted)],
  ['inputs exactly once', () => changeRow('input.accepted', { idempotency_key: 'another' })],
  ['inputs exactly once', () => change('accepted', (fact) => ({ ...fact, seq: fact.seq + 1 }))],
  ['one turn at a time', () => goOn(accepted, started, started)],
  ['one turn at a time', () => goOn(asked)],
  ['effects end', () => without(isWritten('tool.completed'))],
  ['effects end', () => twice(isWritten('tool.completed'))],
  ['outcomes', () => goOn(accepted, started, ended)],
  ['outcomes', () => changeRow('turn.completed', { outcome: 'failed' })],
  ['tombstone', () => goOn(accepted, started, stopped, asked)],
  ['tombstone', () => orderLate()],
  ['attempts', () => twice((fact) => fact.kind === 'requested')],
  ['attempts', () => without((fact) => fact.kind === 'requested')],
  [
    'attempts',
    () => goOn(accepted, started, asked, { ...asked, data: { ...asked.data, attempt: 2 } }),
  ],
  ['attempts', () => twice(isWritten('model.delta'))],
  ['tools at most once', () => twice((fact) => fact.kind === 'executed')],
  ['tools at most once', () => without((fact) => fact.kind === 'executed')],
  ['tools at most once', () => changeRow('tool.started', { attempt: 2 })],
  ['nothing without permission', () => changeRow('tool.decided', { decision: 'deny' })],
  ['durable before done', () => facts.filter((fact) => fact.kind !== 'synced')],
  ['durable before visible', () => facts.filter((fact) => fact.kind !== 'synced')],
  ['durable before visible', () => loseLast(({ event }) => event.type === 'turn.completed')],
  ['durable', () => loseLast((row) => row.power)],
  ['streams', () => without((fact) => fact.kind === 'seen')],
  ['streams', () => twice((fact) => fact.kind === 'seen')],
  ['streams', () => change('seen', (fact) => ({ ...fact, event: { ...fact.event, data: 1 } }))],
  ['streams', () => change('opened', (fact) => ({ ...fact, since: 7 }))],
  ['transcript', () => dropToolMessage()],
  ['transcript', () => changeRow('input.accepted', { content: [{ type: 'text', text: 'no' }] })],
  [
    'one worker',
    () => change('process.bound', (fact) => ({ ...fact, session: '?' })).concat(bindTwice()),
  ],
  ['one worker', () => changeRow('worker.started', { generation: 0 })],
  ['capacity', () => [...facts, ...[1, 2, 3, 4].map(bindAnother)]],
  ['heartbeat', () => [...facts.filter(isBound), ...aMinute, standStill()]],
  ['nothing outlives', () => [...facts, { kind: 'survived', pids: [7] }]],
  [
    'projection',
    () => change('projected', (fact) => ({ ...fact, record: { ...fact.record, turn: 77 } })),
  ],
  ['restart intensity', () => goOn(died, died, died, died, again)],
  ['restart intensity', () => goOn(died, { ...again, data: { attempt: 99, delay_ms: 0 } })],
  ['fork', () => [...facts, copyOf({ type: 'session.renamed' })]],
  ['removal', () => orderBehindRemoval()],
  ['liveness', () => [...facts, { kind: 'stuck', session: '', why: 'test' }]],
  ['no crash', () => [...facts, { kind: 'crashed', message: 'test' }]],
];

const aMinute: readonly Fact[] = Array.from({ length: 60 }, () => ({ kind: 'healed' }));
const isBound = (fact: Fact): boolean => fact.kind === 'process.bound';

/** At a time far behind the last that anything else happened. */
function standStill(): Fact {
  const bound = facts.find(isBound);
  const pid = bound?.kind === 'process.bound' ? bound.pid : 0;
  return { kind: 'process.thawed', pid, frozenMs: 40_000 };
}

function bindTwice(): readonly Fact[] {
  const bound = { kind: 'process.bound', session: 's', generation: 1 } as const;
  return [
    { ...bound, pid: 90_001 },
    { ...bound, pid: 90_002 },
  ];
}

function bindAnother(number: number): Fact {
  return { kind: 'process.bound', pid: 90_000 + number, session: `s${number}`, generation: 1 };
}

function orderLate(): readonly Fact[] {
  const more = goOn(accepted, started, stopped);
  const session = facts.find(isWritten('session.created'))?.row.event.session;
  return [
    ...more,
    { kind: 'synced', id: 200_000 },
    { kind: 'ordered', session, effect: '99.1', pid: 1 },
  ];
}

function firstSession(): SessionId {
  const session = facts.find(isWritten('session.created'))?.row.event.session;
  if (session === undefined || session === 'system') throw new RangeError('there is a session');
  return session;
}

/** The first event of a fork, which says of it something else than the original. */
function copyOf(other: Partial<Row['event']>): Fact {
  const from = firstSession();
  const original = facts.find(isWritten('session.created'));
  if (original === undefined) throw new RangeError('the history has such a row');
  const event = { ...original.row.event, ...other, session: 's_0' as SessionId };
  return { kind: 'copied', from, row: { ...original.row, id: 100_000, event } };
}

function orderBehindRemoval(): readonly Fact[] {
  const session = firstSession();
  const ordered = { kind: 'ordered', session, effect: '99.1', pid: 1 } as const;
  return [...facts, { kind: 'removed', session }, ordered];
}

/** The power goes, and takes along what was safe and seen. */
function loseLast(wanted: (row: Row) => boolean): readonly Fact[] {
  const row = facts.findLast((fact) => fact.kind === 'written' && wanted(fact.row));
  if (row?.kind !== 'written') throw new RangeError('the history has such a row');
  return [...facts, { kind: 'lost', behindId: row.row.id - 1 }];
}

function dropToolMessage(): readonly Fact[] {
  const at = facts.findIndex(
    (fact) => fact.kind === 'requested' && fact.messages.some(({ role }) => role === 'tool'),
  );
  const found = facts[at];
  if (found?.kind !== 'requested') throw new RangeError('a request has a tool message');
  const messages = found.messages.filter(({ role }) => role !== 'tool');
  return facts.with(at, { ...found, messages });
}

test('a true copy, and a removal, break nothing', () => {
  const removed = { kind: 'removed', session: firstSession() } as const;
  expect(judge([...facts, copyOf({}), removed])).toEqual([]);
});

describe('[promise:simulation] a doctored history', () => {
  test.each(cases)('breaks the check "%s" (case %#)', (check, doctored) => {
    expect(judge(facts)).toEqual([]);
    expect(judge(doctored())).toContain(check);
  });
});
