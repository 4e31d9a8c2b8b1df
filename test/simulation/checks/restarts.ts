/** A worker that dies and dies is not started again more often than its policy allows. */
import type { Row } from '../facts.ts';
import type { Report } from './check.ts';
import { dataOf, type Journal, ofType } from './journal.ts';

export interface RestartRules {
  /** Restarts allowed within the period. */
  readonly attempts: number;
  /** Deaths up to this row no longer count: a person asked for another chance. */
  readonly forgivenId: number;
  /** Starts that failed, of all sessions: these count as deaths and are in no journal. */
  readonly failedStarts: number;
  /** The last row before the end of each process: on a full disk a death is written late. */
  readonly ended: ReadonlyMap<number, number>;
}

const PERIOD_MS = 60_000;
const clearing: readonly string[] = [
  'session.state',
  'model.completed',
  'tool.completed',
  'turn.completed',
];

/** Judges `worker.restarting` and `worker.started` by the deaths that led to it: those in the same
 *  turn (or in none) in which the worker got nothing done, within the period, and behind whatever
 *  clears the count: a new supervisor, a change of the session's state, a worker that was told to
 *  stop, an effect or a turn that got done. */
export function checkRestarts(
  row: Row,
  journal: Journal,
  { attempts, forgivenId, failedStarts, ended }: RestartRules,
  report: Report,
): void {
  const { type: kind } = row.event;
  if (kind !== 'worker.restarting' && kind !== 'worker.started') return;
  const { session, seq, time } = row.event;
  const [born = 0] = ofType(journal.session('system'), 'supervisor.started')
    .map((each) => Date.parse(each.event.time))
    .slice(-1);
  const since = Math.max(Date.parse(time) - PERIOD_MS, born);
  const blame = ofType(journal.session(session), 'worker.exited').at(-1)?.event.turn;
  const isClear = ({ id, event }: Row): boolean =>
    clearing.includes(event.type) || id <= forgivenId || Date.parse(event.time) <= since;
  const rows = journal.session(session);
  const clearId = rows.findLast(isClear)?.id ?? 0;
  let deaths = 0;
  for (const each of rows.filter(({ id }) => id > clearId).toReversed()) {
    if (each.event.type !== 'worker.exited') continue;
    const { pid, cause, progress } = dataOf(each, 'worker.exited');
    if (cause === 'stopped') break;
    const isBehind = (ended.get(pid) ?? each.id) >= clearId;
    if (isBehind && each.event.turn === blame && progress !== true) deaths += 1;
  }
  const known = ofType(journal.session(session), 'worker.exited').length + failedStarts;
  const attempt = kind === 'worker.started' ? 0 : dataOf(row, 'worker.restarting').attempt;
  if (attempt > known) {
    report('restart intensity', `${session} ${seq}: restart ${attempt} after ${known} deaths`);
  }
  if (deaths <= attempts) return;
  report('restart intensity', `${session} ${seq}: started again after ${deaths} deaths in a row`);
}
