/** A cheap, deterministic estimate of what a request costs in tokens. Not a tokenizer: those are
 *  megabytes and differ by model, and the only question asked here is whether a transcript nears
 *  a threshold that itself lies well below the model's window. Rule: UTF-8 bytes / 4 (English
 *  text and code have about four characters a token; scripts with three bytes a character have
 *  about one token a character, so bytes serve them better than characters), plus an overhead
 *  for the structure around each message, call and tool, plus a flat cost for an image. */
import type { ContentPart, ProviderMessage } from '../protocol/content.ts';
import type { ToolSpec } from '../protocol/tools.ts';

export const BYTES_PER_TOKEN = 4;
const MESSAGE_TOKENS = 4;
const CALL_TOKENS = 8;
const TOOL_TOKENS = 12;
/** What the larger providers charge for one image of ordinary size, rounded up. */
const IMAGE_TOKENS = 1_600;

function estimateText(text: string): number {
  return Math.ceil(Buffer.byteLength(text) / BYTES_PER_TOKEN);
}

function estimateMessage(message: ProviderMessage): number {
  switch (message.role) {
    case 'system':
      return MESSAGE_TOKENS + estimateText(message.text);
    case 'user':
      return message.content.reduce((sum, part) => sum + estimatePart(part), MESSAGE_TOKENS);
    case 'tool':
      return MESSAGE_TOKENS + CALL_TOKENS + estimateText(message.text);
    case 'assistant': {
      const { text, reasoning, tool_calls: calls } = message.message;
      const said = MESSAGE_TOKENS + estimateText(text) + estimateText(reasoning ?? '');
      return calls.reduce(
        (sum, call) => sum + CALL_TOKENS + estimateText(call.name) + estimateText(call.arguments),
        said,
      );
    }
  }
}

function estimatePart(part: ContentPart): number {
  return part.type === 'text' ? estimateText(part.text) : IMAGE_TOKENS;
}

function estimateTools(tools: readonly ToolSpec[]): number {
  return tools.reduce((sum, tool) => sum + TOOL_TOKENS + estimateText(JSON.stringify(tool)), 0);
}

/** Tokens of a whole request. */
export function estimateRequest(
  messages: readonly ProviderMessage[],
  tools: readonly ToolSpec[],
): number {
  return messages.reduce((sum, message) => sum + estimateMessage(message), estimateTools(tools));
}
