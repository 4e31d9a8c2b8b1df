/** The tools that touch nothing of the machine: their outcome is a function of the call. */
import type { ToolOutcome } from '../../protocol/content.ts';
import { todoArgumentsSchema } from '../../protocol/tools.ts';

/** `todo`: the journal keeps the list, as the arguments of its newest call; the model reads it back
 *  as a text, so that it stands in its context also behind a compaction. */
export function runOwnTool(value: unknown): ToolOutcome {
  const { items } = todoArgumentsSchema.parse(value);
  const marks = { pending: '[ ]', in_progress: '[>]', done: '[x]' } as const;
  const lines = items.map(({ text, status }) => `${marks[status]} ${text}`);
  const done = items.filter(({ status }) => status === 'done').length;
  const output = [`${done} of ${items.length} done`, ...lines].join('\n');
  return { status: 'ok', output, duration_ms: 0, truncated: false };
}
