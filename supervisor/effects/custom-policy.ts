/** Who decides about a custom tool. Precedence: tool > group `custom` > default, and the default of
 *  the default is that of the built-in tools. Pure. */

import type { EffectClass } from '../../protocol/content.ts';
import { guardsWorkspace } from '../../protocol/sandbox-levels.ts';
import type { RawConfig } from '../config-schema.ts';
import { findFirstWord } from './mcp-policy.ts';
import type { Rule } from './policy/rules.ts';

type ToolPolicy = RawConfig['security']['tool_policy'];

/** What the file of the tool says of it. */
export interface CustomToolFacts {
  readonly effect: EffectClass;
  /** Of the file and all it loads: what was approved of another one is stale. */
  readonly digest: string;
}

export interface CustomQuestion {
  readonly tool: string;
  readonly level: string;
  readonly network?: string | undefined;
}

interface LookUp {
  readonly verdict: 'allow' | 'deny' | 'supervised';
  readonly rule: string;
}

/** False where every call would be denied, whatever its arguments. Pure. */
export function isCustomOffered(
  policy: { readonly rules: readonly Rule[]; readonly tools: ToolPolicy },
  question: CustomQuestion,
): boolean {
  const word = findFirstWord(policy.rules, question.tool);
  if (word !== undefined) return word !== 'deny';
  return decideCustomTool(policy.tools, question).verdict !== 'deny';
}

/** Pure. */
export function decideCustomTool(policy: ToolPolicy, question: CustomQuestion): LookUp {
  const { tool, level, network } = question;
  const rows: readonly (readonly [LookUp['verdict'] | undefined, string])[] = [
    [policy.tools[tool], `security.tool_policy.tools.${tool}`],
    [policy.groups['custom'], 'security.tool_policy.groups.custom'],
    [policy.default, 'security.tool_policy.default'],
  ];
  for (const [verdict, rule] of rows) if (verdict !== undefined) return { verdict, rule };
  if (network === 'full') {
    return { verdict: 'supervised', rule: 'built-in default with network = "full"' };
  }
  return guardsWorkspace(level)
    ? { verdict: 'allow', rule: 'built-in default' }
    : { verdict: 'supervised', rule: `built-in default at sandbox level ${level}` };
}
