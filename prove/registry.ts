/** Who lives beyond the supervisor that started it, and whether that is written down. */
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { findIdentity, listDescendants } from '../base/process.ts';
import type { Stand } from './stand.ts';

/** Live processes of this run that are not below the supervisor that lives; all where none does. */
export function findStrangers({ bench, enclosure, supervisor }: Stand): readonly number[] {
  const { pid } = supervisor();
  if (enclosure !== undefined) return enclosure.strangers([pid]);
  const own = new Set([pid, ...listDescendants(pid)]);
  return bench.leftovers().filter((each) => !own.has(each));
}

/** Of these, who is neither in the registry nor below one that is. */
export function findUnknown(stand: Stand): readonly number[] {
  const strangers = findStrangers(stand);
  if (strangers.length === 0) return [];
  const known = new Set(readRegistry(stand).flatMap((pid) => [pid, ...listDescendants(pid)]));
  return strangers.filter((pid) => !known.has(pid));
}

/** Gateways and hosts that the journal's file lists, by pid and start time: nobody else may live
 *  on. */
function readRegistry({ bench }: Stand): readonly number[] {
  const journal = new DatabaseSync(join(bench.stateDir, 'journal.db'), { readOnly: true });
  const query = "SELECT pid, start_ticks FROM processes WHERE kind IN ('gateway', 'sandbox')";
  try {
    return journal
      .prepare(query)
      .all()
      .filter(({ pid, start_ticks: ticks }) => findIdentity(Number(pid))?.startTicks === ticks)
      .map(({ pid }) => Number(pid));
  } finally {
    journal.close();
  }
}
