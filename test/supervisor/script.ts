/** What scripted models and tools say, and a gate a test can hold shut. */
import type { ModelToolCall, ToolOutcome } from '../../protocol/content.ts';
import type { EventEnvelope } from '../../protocol/events.ts';
import type { AttemptOutcome } from '../../protocol/gateway-methods.ts';
import type { AttemptHandle, GatewayScript, GenerateRequest } from './scripted-gateway.ts';
import type { HostScript, RunHandle, RunRequest } from './scripted-host.ts';

export function call(id: string, command: string): ModelToolCall {
  return { id, name: 'shell', arguments: JSON.stringify({ command }) };
}

export function callTool(id: string, name: string, args: unknown): ModelToolCall {
  return { id, name, arguments: JSON.stringify(args) };
}

export type Completed = Extract<AttemptOutcome, { kind: 'completed' }>;

export function say(text: string, calls: ModelToolCall[] = []): Completed {
  return {
    kind: 'completed',
    message: { text, tool_calls: calls },
    finish_reason: calls.length > 0 ? 'tool_calls' : 'stop',
    usage: { input_tokens: 10, output_tokens: 5 },
    cost_usd: 0.25,
    latency_ms: 1,
    model: 'scripted',
  };
}

export function cancelled(text = ''): Completed {
  return { ...say(text), finish_reason: 'cancelled' };
}

export function failed(code: string, retryInMs: number | null, nextModel?: string): AttemptOutcome {
  const next = nextModel === undefined ? {} : { next_model: nextModel };
  return { kind: 'failed', code, message: `${code} happened`, retry_in_ms: retryInMs, ...next };
}

type Answer =
  | AttemptOutcome
  | ((request: GenerateRequest, handle: AttemptHandle) => Promise<AttemptOutcome> | AttemptOutcome);

export interface ScriptedModel extends GatewayScript {
  /** `effect#attempt` of each request, in order. */
  readonly requests: string[];
  readonly seen: GenerateRequest[];
}

/** Answers by effect id, or by `effect#attempt`; anything else is answered `done`. */
export function answers(plan: Readonly<Record<string, Answer>>): ScriptedModel {
  const requests: string[] = [];
  const seen: GenerateRequest[] = [];
  return {
    requests,
    seen,
    async generate(request, handle) {
      const key = `${request.effect}#${request.attempt}`;
      requests.push(key);
      seen.push(request);
      const answer = plan[key] ?? plan[request.effect] ?? say('done');
      return typeof answer === 'function' ? answer(request, handle) : answer;
    },
  };
}

export interface ScriptedTools extends HostScript {
  /** Effect ids in the order they ran. */
  readonly runs: string[];
  readonly seen: RunRequest[];
}

type Run = (request: RunRequest, handle: RunHandle) => Promise<ToolOutcome> | ToolOutcome;

export function result(output: string, status: ToolOutcome['status'] = 'ok'): ToolOutcome {
  return { status, output, duration_ms: 1, truncated: false, level: 'bubblewrap' };
}

/** Runs by effect id; anything else says that it ran. */
export function runsEverything(plan: Readonly<Record<string, Run>> = {}): ScriptedTools {
  const runs: string[] = [];
  const seen: RunRequest[] = [];
  return {
    runs,
    seen,
    async run(request, handle) {
      runs.push(request.effect);
      seen.push(request);
      const run = plan[request.effect];
      return run === undefined ? result(`ran ${request.effect}`) : run(request, handle);
    },
  };
}

export interface Latch {
  readonly opened: Promise<void>;
  open(): void;
}

export function createLatch(): Latch {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

export const typesOf = (events: readonly EventEnvelope[]): string[] =>
  events.map((event) => event.type);

/** The data of the events of one type. */
export function dataOf<T = Record<string, unknown>>(
  events: readonly EventEnvelope[],
  type: string,
): T[] {
  return events.filter((event) => event.type === type).map((event) => event.data as T);
}
