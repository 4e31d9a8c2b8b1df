/** Journals of sessions that lived before: written by the store itself, as a supervisor would have
 *  left them, so that a scenario need not run thousands of turns first. */
import { realClock } from '../base/clock.ts';
import { silentLogger } from '../base/logger.ts';
import { realRandom } from '../base/random.ts';
import {
  createInputId,
  createSessionId,
  type InputId,
  type SessionId,
  toModelEffectId,
} from '../protocol/ids.ts';
import type { NewEvent } from '../store/contract.ts';
import { openStore } from '../store/index.ts';
import type { Home } from './lab.ts';

export interface Past {
  readonly turns: number;
  /** What the model said in each turn, bytes, and in how many pieces. */
  readonly answerBytes: number;
  readonly deltas: number;
  /** One more turn was begun, and its worker had not asked for anything yet. */
  readonly isOpen: boolean;
}

/** Sessions written at once: bounds what waits in the store's queue. */
const BATCH = 8;

/** @returns their ids, oldest first. */
export async function writePast(
  home: Home,
  count: number,
  past: Past,
): Promise<readonly SessionId[]> {
  const ports = { clock: realClock, logger: silentLogger };
  const store = await openStore({ stateDir: home.stateDir, ...ports, verifyInBackground: false });
  const ids = Array.from({ length: count }, () => createSessionId(realRandom));
  try {
    for (let first = 0; first < count; first += BATCH) {
      const batch = ids.slice(first, first + BATCH).map(async (id) => {
        await store.append({ events: toBirth(id, home.workspace) });
        for (let turn = 1; turn <= past.turns; turn += 1) {
          await store.append({ events: toTurn(id, turn, past) });
        }
        if (!past.isOpen) return;
        const opening = toOpening(id, past.turns + 1, createInputId(realRandom));
        await store.append({ events: opening.slice(0, 2) });
      });
      await Promise.all(batch);
    }
  } finally {
    await store.close();
  }
  return ids;
}

function toBirth(session: SessionId, workspace: string): NewEvent[] {
  const created = { agent: 'default', workspace, private_workspace: false, labels: {} };
  const state = (from: string, to: string): NewEvent => {
    return { session, type: 'session.state', data: { from, to, reason: 'bench' } };
  };
  return [
    { session, type: 'session.created', data: { ...created, approve: 'ask', source: 'bench' } },
    state('created', 'starting'),
    state('starting', 'running'),
  ];
}

function toOpening(session: SessionId, turn: number, input_id: InputId): NewEvent[] {
  const effect = toModelEffectId(turn, 1);
  const input = { input_id, source: 'bench', on_busy: 'enqueue' };
  const content = [{ type: 'text', text: `Question ${turn}: what comes next?` }];
  const started = { step: 1, attempt: 1, model: 'bench', request_digest: 'bench' };
  return [
    { session, type: 'input.accepted', data: { ...input, content } },
    { session, type: 'turn.started', turn, data: { turn, input_id, attempt: 1 } },
    { session, type: 'model.started', turn, effect, data: started },
  ];
}

function toTurn(session: SessionId, turn: number, past: Past): NewEvent[] {
  const input_id = createInputId(realRandom);
  const effect = toModelEffectId(turn, 1);
  const at = { session, turn, effect };
  const text = `${turn} and so on; `.repeat(Math.ceil(past.answerBytes / 10));
  const answer = text.slice(0, past.answerBytes);
  const piece = Math.ceil(past.answerBytes / past.deltas);
  const deltas = Array.from({ length: past.deltas }, (_, index): NewEvent => {
    const said = answer.slice(index * piece, (index + 1) * piece);
    const data = { step: 1, attempt: 1, kind: 'text', text: said, offset: index * piece };
    return { ...at, type: 'model.delta', data };
  });
  const usage = { input_tokens: 1, output_tokens: 1 };
  const paid = { usage, cost_usd: 0 };
  const message = { text: answer, tool_calls: [] };
  const ended = { step: 1, attempt: 1, message, ...paid, finish_reason: 'stop', latency_ms: 1 };
  const closed = { turn, input_id, outcome: 'completed', ...paid, steps: 1 };
  return [
    ...toOpening(session, turn, input_id),
    ...deltas,
    { ...at, type: 'model.completed', data: ended },
    { session, turn, type: 'turn.completed', data: closed },
  ];
}
