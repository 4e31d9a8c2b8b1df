/** What an attempt cost, from the configured price table. An unknown model costs 0: the table is
 *  the user's, and a guess would be a lie with four digits. */
import type { Usage } from '../protocol/content.ts';
import type { ModelPrice } from '../protocol/gateway-methods.ts';

const TOKENS_PER_PRICE = 1_000_000;

/** US dollars. `models`: names to look up in order (as asked for, then as the provider named it).
 *  Without a price of their own, cached input tokens cost what others do. */
export function toCostUsd(
  usage: Usage,
  models: readonly string[],
  prices: Readonly<Record<string, ModelPrice>>,
): number {
  const name = models.find((model) => Object.hasOwn(prices, model));
  const price = name === undefined ? undefined : prices[name];
  if (price === undefined) return 0;
  const cached = Math.min(usage.cached_input_tokens ?? 0, usage.input_tokens);
  const dollars =
    (usage.input_tokens - cached) * price.input +
    cached * (price.cached_input ?? price.input) +
    usage.output_tokens * price.output;
  return dollars / TOKENS_PER_PRICE;
}
