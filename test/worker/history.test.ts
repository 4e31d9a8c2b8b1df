/** A worker that stays remembers its turns; one that is started later gets them folded from the
 *  journal. Both must send the same requests, or a restart would show. */
import { describe, expect, test } from '@jest/globals';
import type { SessionHistory } from '../../protocol/content.ts';
import type { EventEnvelope } from '../../protocol/events.ts';
import type { AgentManifest } from '../../protocol/worker-methods.ts';
import { foldHistory } from '../../store/fold-history.ts';
import {
  type AskRecord,
  call,
  input,
  noHistory,
  requestsOf,
  result,
  say,
  startGate,
} from './harness.ts';

interface Journal {
  readonly events: EventEnvelope[];
  append(type: string, turn: number, data: object): void;
}

function createJournal(): Journal {
  const events: EventEnvelope[] = [];
  return {
    events,
    append: (type, turn, data) => {
      const seq = events.length + 1;
      events.push({ session: 'system', seq, epoch: 1, time: '', type, turn, data });
    },
  };
}

/** What the supervisor journals of one answered ask. */
function journalAsk(journal: Journal, { method, params }: AskRecord, answer: unknown): void {
  const { turn, step } = params;
  if (method === 'context/compact') {
    const { turn: _, ...data } = params;
    journal.append('context.compacted', turn, data);
  }
  if (method === 'model/generate') {
    journal.append('model.started', turn, { step, purpose: params.purpose });
    journal.append('model.completed', turn, { step, ...(answer as object) });
  }
  if (method === 'tool/call') {
    const call_id = `${turn}.${step}.${params.call}`;
    journal.append('tool.started', turn, { call_id });
    journal.append('tool.completed', turn, { call_id, ...(answer as object) });
  }
}

function answerOf({ method, params }: AskRecord): unknown {
  if (method === 'turn/step') return { steer: [], interrupted: false };
  if (method === 'context/compact') return {};
  if (method === 'tool/call') return result('out '.repeat(300), { exit_code: params.call });
  if (params.purpose === 'compaction') return say(`summary at ${params.turn}.${params.step}`);
  const calls = ['a', 'b', 'c'].map((id) => call(id));
  if (params.turn % 2 === 0 && params.step === 2) return say('cut', [call('z', '{"a')], 'length');
  return params.step < 4 ? say(`step ${params.step}`, calls) : say('done');
}

const TURNS = [1, 2, 3, 4, 5];

/** The requests of turn `turn`, by a worker that was started before turn `startedAt`. */
async function runTurns(
  manifest: Partial<AgentManifest>,
  startedAt: number,
): Promise<ReturnType<typeof requestsOf>> {
  const journal = createJournal();
  let history: SessionHistory = noHistory;
  let gate = startWorker();
  await gate.initialize(history);
  const asks: AskRecord[] = [];
  for (const turn of TURNS) {
    if (turn === startedAt) {
      gate.worker.close();
      history = foldHistory(journal.events);
      gate = startWorker();
      await gate.initialize(history);
    }
    const accepted = input(`input ${turn}`, `in_${turn}`);
    journal.append('input.accepted', turn, accepted);
    journal.append('turn.started', turn, { turn, input_id: accepted.input_id, attempt: 1 });
    const end = await gate.worker.request(
      'turn/run',
      { turn, input: accepted },
      { timeoutMs: 10_000 },
    );
    asks.push(...gate.asks.splice(0));
    journal.append('turn.completed', turn, { turn, outcome: end.outcome });
    expect(end.outcome).toBe('completed');
  }
  gate.worker.close();
  return requestsOf(asks);

  function startWorker(): ReturnType<typeof startGate> {
    return startGate({
      manifest,
      answer: (ask) => {
        const answer = answerOf(ask);
        journalAsk(journal, ask, answer);
        return answer;
      },
    });
  }
}

describe('a worker that is started later', () => {
  test.each<[string, Partial<AgentManifest>]>([
    ['with the whole history', {}],
    ['with surplus calls', { maxToolCallsPerTurn: 2 }],
    ['with summaries', { compactionThresholdTokens: 3_000 }],
    ['with truncation', { compactionThresholdTokens: 3_000, compactionStrategy: 'truncate' }],
  ])('says what one that stayed says, %s', async (_, manifest) => {
    const stayed = await runTurns(manifest, 0);
    for (const startedAt of TURNS.slice(1)) {
      expect(await runTurns(manifest, startedAt)).toEqual(stayed);
    }
  });
});
