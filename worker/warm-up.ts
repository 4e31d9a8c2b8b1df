/** A turn about nothing, run inside the process: a spare that has run one answers its first real
 *  prompt several milliseconds sooner, because the code it needs is compiled. It talks to itself
 *  over an in-memory pair and shares nothing with the worker that is to be. */
import type { Clock } from '../base/clock.ts';
import { createConnection, type Side } from '../protocol/connection.ts';
import {
  acceptedInputSchema,
  type ModelOutcome,
  type SessionHistory,
  type ToolOutcome,
} from '../protocol/content.ts';
import { sessionIdSchema } from '../protocol/ids.ts';
import { createMemoryPair } from '../protocol/transport.ts';
import {
  type AgentManifest,
  askNotifications,
  askRequests,
  workerNotifications,
  workerRequests,
} from '../protocol/worker-methods.ts';
import { serveWorker } from './session.ts';

const TURNS = 2;
const TIMEOUT_MS = 5000;

const manifest: AgentManifest = {
  agent: 'warm-up',
  model: 'none',
  instructions: 'Warm up.',
  workspace: '/',
  maxTurns: 3,
  maxToolCallsPerTurn: 1,
  parallelToolCalls: true,
  compactionThresholdTokens: 80_000,
  compactionStrategy: 'truncate',
  tools: [{ name: 'shell', description: 'Run.', parameters: { type: 'object' } }],
};

const toolOutcome: ToolOutcome = { status: 'ok', output: '', duration_ms: 0, truncated: false };

function answerStep(step: number): ModelOutcome {
  const calls = step === 1 ? [{ id: 'c', name: 'shell', arguments: '{"command":"true"}' }] : [];
  return {
    kind: 'completed',
    message: { text: 'Warm.', tool_calls: calls },
    finish_reason: step === 1 ? 'tool_calls' : 'stop',
    usage: { input_tokens: 0, output_tokens: 0 },
  };
}

/** What most sessions bring along: reading it the first time takes a worker 2 ms. */
function createHistory(): SessionHistory {
  const content = [{ type: 'text', text: 'Hello.' }];
  const input = acceptedInputSchema.parse({ input_id: 'in_0', content });
  const message = { text: 'Warm.', tool_calls: [{ id: 'c', name: 'shell', arguments: '{}' }] };
  const steps = [{ step: 1, steer: [input], message, results: [toolOutcome] }];
  return { turns: [{ turn: 1, input, steps, outcome: 'completed' }] };
}

/** Runs a few turns with one tool call each. Takes about 10 ms of processor time; never rejects. */
export async function warmUp(clock: Clock): Promise<void> {
  const [worker, supervisor] = createMemoryPair();
  const inner = serveWorker({ transport: worker, clock, pid: 0, confinement: [], readRssBytes });
  const outer = createConnection({
    transport: supervisor,
    clock,
    peer: 'the warm-up',
    local: { requests: askRequests, notifications: askNotifications } satisfies Side,
    remote: { requests: workerRequests, notifications: workerNotifications } satisfies Side,
    requests: {
      'turn/step': async () => ({ steer: [], interrupted: false }),
      'model/generate': async ({ step }) => answerStep(step),
      'tool/call': async () => toolOutcome,
      'context/compact': async () => ({}),
    },
    notifications: { 'worker/ready': () => undefined },
  });
  const options = { timeoutMs: TIMEOUT_MS };
  try {
    const sessionId = sessionIdSchema.parse('s_0000000000000000');
    const start = { sessionId, generation: 1, manifest, history: createHistory() };
    await outer.request('worker/initialize', start, options);
    for (let turn = 2; turn <= 1 + TURNS; turn += 1) {
      const content = [{ type: 'text', text: 'Hello.' }];
      const input = acceptedInputSchema.parse({ input_id: `in_${turn}`, content });
      await outer.request('turn/run', { turn, input }, options);
    }
  } catch {
    // A spare that could not warm up is a colder spare, nothing else.
  }
  outer.close();
  inner.close();
}

const readRssBytes = (): number => 0;
