/** What a provider is sent: well formed, and exactly what the journal says, whatever the worker
 *  that asked has lived through. */
import { isDeepStrictEqual } from 'node:util';
import type { ProviderMessage } from '../../../protocol/content.ts';
import type { AgentManifest } from '../../../protocol/worker-methods.ts';
import { foldHistory } from '../../../store/fold-history.ts';
import { buildTranscript } from '../../../worker/context.ts';
import { cutMiddle } from '../../../worker/shorten.ts';
import type { Fact } from '../facts.ts';
import type { Report } from './check.ts';
import { dataOf, type Journal, ofType } from './journal.ts';

type Requested = Extract<Fact, { kind: 'requested' }>;

export function checkTranscript(fact: Requested, journal: Journal, report: Report): void {
  const { session, effect, attempt, messages } = fact;
  const name = `${session} ${effect}#${attempt}`;
  const problem = findTranscriptProblem(messages);
  if (problem !== undefined) report('transcript', `${name}: ${problem}`);
  const [reserve] = ofType(journal.effect(session, effect), 'model.started');
  // A summary is asked for of what it is to replace, in words of its own.
  if (reserve && dataOf(reserve, 'model.started').purpose === 'compaction') return;
  const expected = toExpected(fact, journal);
  const [, ...said] = messages;
  if (expected === undefined || isDeepStrictEqual(said, expected)) return;
  if (isDeepStrictEqual(said, expected.map(toShort))) return;
  const at = said.findIndex((message, index) => !isDeepStrictEqual(message, expected[index]));
  const seen = JSON.stringify({ at, sent: said[at], journal: expected[at] });
  report('transcript', `${name} is not what the journal says: ${seen}`);
}

/** Only what says something about tools, steps and limits is used; no system message is compared.
 */
const manifest: AgentManifest = {
  agent: 'any',
  model: 'any',
  instructions: '',
  workspace: '',
  maxTurns: 50,
  maxToolCallsPerTurn: 10,
  parallelToolCalls: true,
  compactionThresholdTokens: 80_000,
  compactionStrategy: 'summarize',
  tools: [],
};

/** As one of a request that is too long whole: no result here is longer than the next cap. */
function toShort(message: ProviderMessage): ProviderMessage {
  return message.role === 'tool' ? { ...message, text: cutMiddle(message.text, 200) } : message;
}

function toExpected(
  { session, effect }: Requested,
  journal: Journal,
): readonly ProviderMessage[] | undefined {
  const [turn = 0, step = 0] = effect.split('.').map(Number);
  const events = journal.whole(session).map(({ event }) => event);
  const last = events.at(-1);
  if (last === undefined) return undefined;
  // The fold leaves an open turn out: it is closed here, and opened again below.
  const end = { ...last, type: 'turn.completed', data: { turn, outcome: 'completed' } };
  const { turns, compaction } = foldHistory([...events, end]);
  const closed = turns.at(-1);
  if (closed?.turn !== turn) return undefined;
  const { outcome: _, ...open } = closed;
  const steps = open.steps.filter((each) => each.step <= step);
  const kept = [...turns.slice(0, -1), { ...open, steps }];
  const history = { turns: kept, ...(compaction === undefined ? {} : { compaction }) };
  return buildTranscript(manifest, history).slice(1);
}

/** Each tool call has exactly one result, right behind its message, in order. */
function findTranscriptProblem(messages: readonly ProviderMessage[]): string | undefined {
  let open: string[] = [];
  const used = new Set<string>();
  for (const [at, message] of messages.entries()) {
    if (message.role === 'tool') {
      if (open[0] !== message.call_id) return `message ${at} answers ${message.call_id}`;
      open = open.slice(1);
      continue;
    }
    if (open.length > 0) return `message ${at} comes before the results of ${open.join(', ')}`;
    if (message.role === 'system' && at > 0) return `message ${at} is a second system message`;
    if (message.role !== 'assistant') continue;
    for (const { id } of message.message.tool_calls) {
      if (used.has(id)) return `message ${at} uses the call id ${id} again`;
      used.add(id);
      open.push(id);
    }
  }
  return open.length > 0 ? `it ends without the results of ${open.join(', ')}` : undefined;
}
