/** The seal of an event: any change of what it says is noticed. */
import { expect, it } from '@jest/globals';
import { createSeededRandom } from '../../base/random.ts';
import { CHAIN_START, type EventRow, findDamage, seal } from '../../store/integrity.ts';

const FLIPS = 3000;

function makeRow(seq: number): EventRow {
  const data = JSON.stringify({
    step: 1,
    attempt: 1,
    kind: 'text',
    text: `${seq} é€😀 `.repeat(seq),
  });
  const fields = {
    ...{ session: 's_0000000000000001', seq, epoch: 1, time_ms: 1_760_000_000_000 + seq },
    ...{ type: 'model.delta', turn: 1, ref: '1.1', power: 0, data },
  };
  return { id: seq, ...fields, ...seal(fields, CHAIN_START) };
}

/** The row with one bit of one column turned over. */
function flip(row: EventRow, column: keyof EventRow, bit: number): EventRow {
  const value = row[column];
  if (typeof value === 'number')
    return { ...row, [column]: Number(BigInt(value) ^ (1n << BigInt(bit % 40))) };
  const bytes = Buffer.from(String(value), 'utf8');
  const at = Math.floor(bit / 8) % bytes.length;
  bytes[at] = (bytes[at] ?? 0) ^ (1 << (bit % 8));
  // As SQLite gives it back: text that is no UTF-8 is mended, and so is another text.
  return { ...row, [column]: bytes.toString('utf8') };
}

it('one bit turned over, at 3000 random places of events: each is noticed (FAULTS 53)', () => {
  const random = createSeededRandom('flips');
  const columns = ['session', 'seq', 'epoch', 'time_ms', 'type', 'turn', 'ref', 'power'] as const;
  const unnoticed: unknown[] = [];
  for (let count = 0; count < FLIPS; count += 1) {
    const row = makeRow(1 + (count % 40));
    // Most bits of an event are those of its data.
    const column =
      random.next() < 0.7 ? 'data' : (columns[Math.floor(random.next() * columns.length)] ?? 'crc');
    const bit = Math.floor(random.next() * 2 ** 20);
    const flipped = flip(row, column, bit);
    expect(flipped[column]).not.toEqual(row[column]);
    if (findDamage(flipped, CHAIN_START) === undefined) unnoticed.push({ column, bit });
  }
  expect(unnoticed).toEqual([]);
});
