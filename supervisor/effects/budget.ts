/** Is there money and are there tokens left? Asked before each model call; pure. */
import type { Usage } from '../../protocol/content.ts';

export interface BudgetLimits {
  /** US dollars for the session; 0: none. */
  readonly maxCostUsd: number;
  /** Input plus output tokens for the session; 0: none. */
  readonly maxTokens: number;
}

export interface Overrun {
  readonly limit: 'max_cost_usd' | 'max_tokens';
  readonly value: number;
  readonly max: number;
}

/** Sums of prices are off by less than this: eight times 0.1 is not 0.8. */
const PARTS_PER_USD = 1e9;

/** The first limit that is used up, or undefined. */
export function findOverrun(
  limits: BudgetLimits,
  spent: { readonly usage: Usage; readonly costUsd: number },
): Overrun | undefined {
  const costUsd = Math.round(spent.costUsd * PARTS_PER_USD) / PARTS_PER_USD;
  if (limits.maxCostUsd > 0 && costUsd >= limits.maxCostUsd) {
    return { limit: 'max_cost_usd', value: costUsd, max: limits.maxCostUsd };
  }
  const tokens = spent.usage.input_tokens + spent.usage.output_tokens;
  if (limits.maxTokens > 0 && tokens >= limits.maxTokens) {
    return { limit: 'max_tokens', value: tokens, max: limits.maxTokens };
  }
  return undefined;
}
