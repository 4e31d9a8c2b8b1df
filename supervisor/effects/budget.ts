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

/** The first limit that is used up, or undefined. */
export function findOverrun(
  limits: BudgetLimits,
  spent: { readonly usage: Usage; readonly costUsd: number },
): Overrun | undefined {
  if (limits.maxCostUsd > 0 && spent.costUsd >= limits.maxCostUsd) {
    return { limit: 'max_cost_usd', value: spent.costUsd, max: limits.maxCostUsd };
  }
  const tokens = spent.usage.input_tokens + spent.usage.output_tokens;
  if (limits.maxTokens > 0 && tokens >= limits.maxTokens) {
    return { limit: 'max_tokens', value: tokens, max: limits.maxTokens };
  }
  return undefined;
}
