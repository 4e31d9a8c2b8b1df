/** What clients were told: answers and streams. Nothing they saw is taken back by the death of a
 *  process; a power loss takes back process-durable events only, and says so. */
import type { Fact, Row } from '../facts.ts';
import type { Report } from './check.ts';
import { dataOf, type Journal, ofType } from './journal.ts';

type Seen = Extract<Fact, { kind: 'seen' }>;
type Accepted = Extract<Fact, { kind: 'accepted' }>;

interface Reader {
  readonly session: string;
  /** As JSON, by sequence number from 1. */
  readonly events: string[];
}

export function createReaderCheck(journal: Journal, report: Report) {
  const readers = new Map<string, Reader>();
  const answers = new Map<string, Accepted>();
  const refusals = new Set<string>();

  function onSeen({ follower, event }: Seen): void {
    if (journal.isRemoved(event.session)) return;
    const reader = readers.get(follower);
    if (reader === undefined) {
      report('streams', `${follower} sees what it did not open`);
      return;
    }
    const expected = reader.events.length + 1;
    if (event.seq !== expected) {
      report('streams', `${follower} sees ${event.seq} where ${expected} is next`);
    }
    const row = journal.whole(reader.session)[event.seq - 1];
    if (row === undefined || !isSame(row, event)) {
      report('streams', `${follower} sees an event ${event.seq} that is not in the journal`);
    } else if (row.power && row.id > journal.syncedId()) {
      report('durable before visible', `${follower} sees ${event.seq} before it is synced`);
    }
    reader.events[event.seq - 1] = JSON.stringify(event);
  }

  function onAccepted(fact: Accepted): void {
    const { session, key, seq } = fact;
    if (journal.isRemoved(session)) return;
    const name = `${session} ${key}`;
    const earlier = answers.get(name);
    if (earlier !== undefined && (earlier.seq !== seq || earlier.inputId !== fact.inputId)) {
      report('inputs exactly once', `${name} was answered as ${earlier.seq}, now as ${seq}`);
    }
    answers.set(name, fact);
    const row = journal.whole(session)[seq - 1];
    if (row === undefined || row.id > journal.syncedId()) {
      report('durable before visible', `${name} is answered and not safe`);
    }
  }

  return {
    onSeen,
    onAccepted,
    onOpened(follower: string, session: string, since: number): void {
      if (journal.isRemoved(session)) return;
      const reader = readers.get(follower) ?? { session, events: [] };
      readers.set(follower, reader);
      if (since !== reader.events.length) {
        report('streams', `${follower} goes on at ${since}, it has ${reader.events.length}`);
      }
    },
    onSuperseded(follower: string, lastGoodSeq: number): void {
      const reader = readers.get(follower);
      if (reader === undefined) return;
      if (lastGoodSeq >= reader.events.length) {
        report(
          'streams',
          `${follower} is refused at ${reader.events.length}, good: ${lastGoodSeq}`,
        );
      }
      reader.events.length = Math.min(reader.events.length, lastGoodSeq);
    },
    onRefused: (session: string, key: string): void => void refusals.add(`${session} ${key}`),
    /** Nobody is promised anything of it any more. */
    onRemoved(session: string): void {
      for (const [name, reader] of readers) if (reader.session === session) readers.delete(name);
      for (const [name, fact] of answers) if (fact.session === session) answers.delete(name);
    },
    /** Before the rows are withdrawn. */
    onLost(behindId: number): void {
      for (const row of journal.rows) {
        if (row.id <= behindId || !row.power) continue;
        if (row.id <= journal.syncedId())
          report('durable', `${row.event.seq} was synced and is lost`);
        for (const [name, { session, events }] of readers) {
          if (session !== row.event.session || events[row.event.seq - 1] === undefined) continue;
          if (!isSame(row, JSON.parse(events[row.event.seq - 1] ?? 'null') as Seen['event']))
            continue;
          report('durable before visible', `${name} saw ${row.event.seq}, which is lost`);
        }
      }
    },
    seenBy: (follower: string): number => readers.get(follower)?.events.length ?? 0,
    end(): void {
      for (const [name, { session, events }] of readers) {
        for (const [index, event] of events.entries()) {
          const row = journal.whole(session)[index];
          if (row !== undefined && JSON.stringify(row.event) === event) continue;
          report('streams', `${name} holds an event ${index + 1} that the journal does not have`);
        }
      }
      for (const { session, key, seq, inputId } of answers.values()) {
        const row = journal.whole(session)[seq - 1];
        const found = row && ofType([row], 'input.accepted')[0];
        const input = found && dataOf(found, 'input.accepted');
        const isThere = input?.input_id === inputId && input.idempotency_key === key;
        if (!isThere) report('inputs exactly once', `${session} ${key} was accepted and is gone`);
      }
      checkKeys(journal, refusals, report);
    },
  };
}

const isSame = (row: Row, event: Seen['event']): boolean =>
  JSON.stringify(row.event) === JSON.stringify(event);

function checkKeys(journal: Journal, refusals: ReadonlySet<string>, report: Report): void {
  const keys = new Set<string>();
  for (const row of ofType(journal.rows, 'input.accepted')) {
    const name = `${row.event.session} ${dataOf(row, 'input.accepted').idempotency_key ?? row.id}`;
    if (keys.has(name)) report('inputs exactly once', `${name} was accepted twice`);
    if (refusals.has(name)) report('inputs exactly once', `${name} was refused, yet accepted`);
    keys.add(name);
  }
}
