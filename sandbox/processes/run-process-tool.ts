/** A call of one of the four tools, with its arguments read. */
import { type ToolName, toolTable } from '../../protocol/tools.ts';
import type { ToolResult } from '../outcome.ts';
import type { ProcessCall, Processes } from './processes.ts';

export interface ProcessToolCall extends ProcessCall<unknown> {
  readonly tool: Extract<ToolName, `process_${string}`>;
}

/** Throws where the arguments do not fit the tool: that was looked at before. */
export async function runProcessTool(
  processes: Processes,
  { tool, effect, spoolPath, signal, arguments: value }: ProcessToolCall,
): Promise<ToolResult> {
  const call = { effect, spoolPath, signal };
  switch (tool) {
    case 'process_start':
      return processes.start({ ...call, arguments: toolTable[tool].arguments.parse(value) });
    case 'process_poll':
      return processes.poll({ ...call, arguments: toolTable[tool].arguments.parse(value) });
    case 'process_input':
      return processes.input({ ...call, arguments: toolTable[tool].arguments.parse(value) });
    case 'process_stop':
      return processes.stop({ ...call, arguments: toolTable[tool].arguments.parse(value) });
  }
}
