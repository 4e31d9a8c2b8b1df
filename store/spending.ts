/** What removed sessions have cost: without it the bill would fall whenever one goes. */
import type { SessionRecord, Spending } from './contract.ts';
import type { SessionRow } from './heads.ts';
import { recordCrc } from './integrity.ts';
import { readMeta, writeMeta } from './meta.ts';
import type { Database } from './sqlite.ts';

const KEY = 'removed_spending';
const NOTHING: Spending = { input_tokens: 0, output_tokens: 0, cost_usd: 0 };

export function readRemoved(db: Database): Spending {
  const text = readMeta(db, KEY);
  // Written below.
  return text === undefined ? NOTHING : (JSON.parse(text) as Spending);
}

/** In the transaction that removes the session's record, so once. Of a damaged record nobody knows
 *  what it says. */
export function keepSpending(db: Database, session: string): void {
  const row = db.get<SessionRow>('SELECT id, crc, record FROM sessions WHERE id = ?', session);
  if (row === undefined || recordCrc(row.id, row.record) !== row.crc) return;
  // Written by writeRecord, and the checksum holds.
  const { usage, cost_usd: cost } = JSON.parse(row.record) as SessionRecord;
  const before = readRemoved(db);
  const spending: Spending = {
    input_tokens: before.input_tokens + usage.input_tokens,
    output_tokens: before.output_tokens + usage.output_tokens,
    cost_usd: before.cost_usd + cost,
  };
  writeMeta(db, KEY, JSON.stringify(spending));
}
