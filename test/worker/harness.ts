/** A scripted gate at the other end of a real worker, and the values the tests speak of. */
import type { z } from 'zod';
import { type Clock, realClock } from '../../base/clock.ts';
import {
  type Connection,
  createConnection,
  type RequestContext,
  type Side,
} from '../../protocol/connection.ts';
import {
  type AcceptedInput,
  acceptedInputSchema,
  type ModelOutcome,
  type ModelToolCall,
  type SessionHistory,
  type StepRecord,
  type ToolOutcome,
} from '../../protocol/content.ts';
import { sessionIdSchema } from '../../protocol/ids.ts';
import { createMemoryPair } from '../../protocol/transport.ts';
import {
  type AgentManifest,
  askNotifications,
  askRequests,
  workerNotifications,
  workerRequests,
} from '../../protocol/worker-methods.ts';
import type { AskMethod, AskParams } from '../../worker/ask.ts';
import { serveWorker } from '../../worker/session.ts';

export const manifest: AgentManifest = {
  agent: 'default',
  model: 'offline',
  instructions: 'You are a test.',
  workspace: '/workspace',
  maxTurns: 10,
  maxToolCallsPerTurn: 4,
  parallelToolCalls: true,
  compactionThresholdTokens: 80_000,
  compactionStrategy: 'summarize',
  tools: [{ name: 'shell', description: 'Run a command.', parameters: { type: 'object' } }],
};

export const noHistory: SessionHistory = { turns: [] };

export function input(text: string, id = 'in_1'): AcceptedInput {
  return acceptedInputSchema.parse({ input_id: id, content: [{ type: 'text', text }] });
}

export function call(id: string, args = '{}', name = 'shell'): ModelToolCall {
  return { id, name, arguments: args };
}

export function say(
  text: string,
  calls: ModelToolCall[] = [],
  finish: 'stop' | 'tool_calls' | 'length' | 'content_filter' | 'cancelled' = calls.length > 0
    ? 'tool_calls'
    : 'stop',
): ModelOutcome {
  return {
    kind: 'completed',
    message: { text, tool_calls: calls },
    finish_reason: finish,
    usage: { input_tokens: 1, output_tokens: 1 },
  };
}

export function result(output: string, extra: Partial<ToolOutcome> = {}): ToolOutcome {
  return { status: 'ok', output, duration_ms: 1, truncated: false, ...extra };
}

export function stepRecord(step: number, text: string, calls: ModelToolCall[] = []): StepRecord {
  return {
    step,
    steer: [],
    message: { text, tool_calls: calls },
    results: calls.map(({ id }) => result(`result of ${id}`)),
  };
}

export type AskRecord = {
  [M in AskMethod]: { readonly method: M; readonly params: AskParams<M> };
}[AskMethod];

/** Answers one ask; `undefined` means the plain answer of its method. Rejections go through. */
export type Answer = (ask: AskRecord, index: number, context: RequestContext) => unknown;

const plain: Readonly<Record<AskMethod, () => unknown>> = {
  'turn/step': () => ({ steer: [], interrupted: false }),
  'model/generate': () => say('done'),
  'tool/call': () => result('ok'),
  'context/compact': () => ({}),
};

const gateSide = { requests: askRequests, notifications: askNotifications } satisfies Side;
const workerSide = {
  requests: workerRequests,
  notifications: workerNotifications,
} satisfies Side;

export interface Gate {
  readonly worker: Connection<typeof workerSide>;
  /** In the order they came. */
  readonly asks: AskRecord[];
  readonly ready: unknown[];
  initialize(history?: SessionHistory): Promise<unknown>;
  run(turn?: number, text?: string): Promise<TurnResult>;
}

export type TurnResult = z.infer<(typeof workerRequests)['turn/run']['result']>;

export interface GateSpec {
  readonly answer?: Answer;
  readonly manifest?: Partial<AgentManifest>;
  readonly clock?: Clock;
}

export const NO_DEADLINE = { timeoutMs: Number.POSITIVE_INFINITY };

/** A fresh worker, linked in memory, before worker/initialize. */
export function startGate(spec: GateSpec = {}): Gate {
  const { answer = () => undefined, clock = realClock } = spec;
  const [left, right] = createMemoryPair();
  const asks: AskRecord[] = [];
  const ready: unknown[] = [];
  const serve =
    (method: AskMethod) =>
    async (params: unknown, context: RequestContext): Promise<never> => {
      const ask = { method, params } as AskRecord;
      asks.push(ask);
      const given = await answer(ask, asks.length - 1, context);
      return (given ?? plain[method]()) as never;
    };
  const worker = createConnection({
    transport: left,
    clock: realClock,
    peer: 'the worker',
    local: gateSide,
    remote: workerSide,
    requests: {
      'turn/step': serve('turn/step'),
      'model/generate': serve('model/generate'),
      'tool/call': serve('tool/call'),
      'context/compact': serve('context/compact'),
    },
    notifications: { 'worker/ready': (params) => void ready.push(params) },
  });
  serveWorker({
    transport: right,
    clock,
    pid: 42,
    confinement: ['net-namespace'],
    readRssBytes: () => 1_000,
  });
  const agent = { ...manifest, ...spec.manifest };
  return {
    worker,
    asks,
    ready,
    initialize: (history = noHistory) => {
      const sessionId = sessionIdSchema.parse('s_0123456789abcdef');
      const params = { sessionId, generation: 1, manifest: agent, history };
      return worker.request('worker/initialize', params, NO_DEADLINE);
    },
    run: (turn = 1, text = 'hello') =>
      worker.request('turn/run', { turn, input: input(text) }, NO_DEADLINE),
  };
}

/** Runs one turn in a fresh worker. */
export async function runOnce(
  spec: GateSpec & { readonly history?: SessionHistory; readonly turn?: number },
): Promise<{ end: TurnResult; asks: AskRecord[] }> {
  const gate = startGate(spec);
  await gate.initialize(spec.history);
  const end = await gate.run(spec.turn);
  gate.worker.close();
  return { end, asks: gate.asks };
}

/** Answers `model/generate` from a list, one a step; then says `done`. */
export function script(outcomes: readonly ModelOutcome[]): Answer {
  let next = 0;
  return (ask) => {
    if (ask.method !== 'model/generate') return undefined;
    next += 1;
    return outcomes[next - 1];
  };
}

export function names(asks: readonly AskRecord[]): string[] {
  return asks.map(({ method, params }) => {
    const tail = 'call' in params ? `.${params.call}` : '';
    const purpose = 'purpose' in params && params.purpose === 'compaction' ? ' compaction' : '';
    return `${method} ${params.turn}.${params.step}${tail}${purpose}`;
  });
}

export function requestsOf(asks: readonly AskRecord[]): AskParams<'model/generate'>[] {
  return asks.flatMap((ask) => (ask.method === 'model/generate' ? [ask.params] : []));
}
