/** The last resort when a transcript does not fit: cut the largest tool results, in the request
 *  only. Pure and deterministic; the journal keeps every result whole. */
import type { ProviderMessage } from '../protocol/content.ts';
import type { ToolSpec } from '../protocol/tools.ts';
import { estimateRequest } from './tokens.ts';

/** Tried in order: the largest cap under which the request fits wins, so that small results stay
 *  whole and the large ones share the loss. */
const CAPS_CHARS = [32_000, 16_000, 8_000, 4_000, 2_000, 1_000, 500, 200] as const;

/** The same transcript, at most `limitTokens` if cutting tool results can bring it there; if not,
 *  as short as they can make it. What a user or the model said is never cut: a provider that
 *  cannot take it says so, and the turn fails with that answer. */
export function shortenTranscript(
  messages: readonly ProviderMessage[],
  tools: readonly ToolSpec[],
  limitTokens: number,
): readonly ProviderMessage[] {
  if (estimateRequest(messages, tools) <= limitTokens) return messages;
  let shortened = messages;
  for (const cap of CAPS_CHARS) {
    shortened = messages.map((message) =>
      message.role === 'tool' ? { ...message, text: cutMiddle(message.text, cap) } : message,
    );
    if (estimateRequest(shortened, tools) <= limitTokens) return shortened;
  }
  return shortened;
}

/** Keeps the head and the tail of a text: errors tend to stand at the end. */
export function cutMiddle(text: string, charsMax: number): string {
  if (text.length <= charsMax) return text;
  const half = Math.floor(charsMax / 2);
  const head = text.slice(0, half).toWellFormed();
  const tail = text.slice(text.length - half).toWellFormed();
  return `${head}\n[… ${text.length - 2 * half} characters left out …]\n${tail}`;
}
