/** The tool calls of one step: asked for in order, all at once when the manifest allows it. */
import type { ModelToolCall, ToolOutcome } from '../protocol/content.ts';
import type { AgentManifest } from '../protocol/worker-methods.ts';
import type { Ask } from './ask.ts';

export interface ToolStep {
  readonly manifest: AgentManifest;
  readonly turn: number;
  readonly step: number;
  readonly calls: readonly ModelToolCall[];
  readonly ask: Ask;
  readonly isInterrupted: () => boolean;
}

/** Stands for an answer that an interrupted turn did not wait for. */
const ABANDONED: ToolOutcome = {
  status: 'cancelled',
  output: '',
  duration_ms: 0,
  truncated: false,
};

/** The outcomes in call order. Shorter than `calls` where a call was not asked for: it lies
 *  beyond the limit of one step, or the turn was interrupted before it. The transcript gives
 *  such calls a result of its own (context.ts). Rejects when an ask does. */
export async function runToolCalls(spec: ToolStep): Promise<readonly ToolOutcome[]> {
  const { manifest, calls } = spec;
  const allowed = calls.slice(0, manifest.maxToolCallsPerTurn);
  if (manifest.parallelToolCalls) {
    return Promise.all(allowed.map((call, index) => askTool(spec, call, index)));
  }
  const outcomes: ToolOutcome[] = [];
  for (const [index, call] of allowed.entries()) {
    if (spec.isInterrupted()) break;
    outcomes.push(await askTool(spec, call, index));
  }
  return outcomes;
}

async function askTool(spec: ToolStep, call: ModelToolCall, index: number): Promise<ToolOutcome> {
  const { turn, step, ask } = spec;
  const params = { turn, step, call: index + 1, name: call.name, arguments: call.arguments };
  return (await ask('tool/call', params)) ?? ABANDONED;
}
