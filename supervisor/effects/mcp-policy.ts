/** Who decides about a tool of an MCP server. Precedence: tool > server (its own `policy`, or the
 *  group `mcp.SERVER`) > group `mcp` > default; the default of the default asks a person where
 *  nothing of ours confines the server. Pure. */

import type { EffectClass } from '../../protocol/content.ts';
import { isConfining } from '../../protocol/sandbox-levels.ts';
import type { RawConfig } from '../config-schema.ts';
import { looksInside, namesTool, type Rule } from './policy/rules.ts';

type ToolPolicy = RawConfig['security']['tool_policy'];

/** What is configured of the server behind a tool's name. */
export interface McpToolFacts {
  readonly server: string;
  readonly effect: EffectClass;
  /** The server's own `policy`; undefined: none. */
  readonly policy: 'allow' | 'deny' | 'supervised' | undefined;
  readonly isUnconfined: boolean;
  /** Behind a URL: there is no process of ours to confine. */
  readonly isRemote: boolean;
  /** Of the whole configuration of the server: what was approved of another one is stale. */
  readonly digest: string;
}

export interface McpLookUp {
  readonly verdict: 'allow' | 'deny' | 'supervised';
  readonly rule: string;
}

export interface McpQuestion {
  readonly tool: string;
  readonly level: string;
  readonly facts: McpToolFacts;
}

/** False where every call would be denied, whatever its arguments. Pure. */
export function isOffered(
  policy: { readonly rules: readonly Rule[]; readonly tools: ToolPolicy },
  question: McpQuestion,
): boolean {
  const word = findFirstWord(policy.rules, question.tool);
  if (word !== undefined) return word !== 'deny';
  return decideMcpTool(policy.tools, question).verdict !== 'deny';
}

/** What the first rule says that may speak of every call of this tool; undefined: none. Pure. */
export function findFirstWord(rules: readonly Rule[], tool: string): Rule['action'] | undefined {
  const speaking = rules.filter((rule) => namesTool(rule, tool));
  return speaking.find((rule) => rule.action !== 'deny' || !looksInside([rule]))?.action;
}

/** Pure. */
export function decideMcpTool(policy: ToolPolicy, question: McpQuestion): McpLookUp {
  const { tool, level, facts } = question;
  const { server } = facts;
  const rows: readonly (readonly [McpLookUp['verdict'] | undefined, string])[] = [
    [policy.tools[tool], `security.tool_policy.tools.${tool}`],
    [facts.policy, `mcp.servers.${server}.policy`],
    [policy.groups[`mcp.${server}`], `security.tool_policy.groups."mcp.${server}"`],
    [policy.groups['mcp'], 'security.tool_policy.groups.mcp'],
    [policy.default, 'security.tool_policy.default'],
  ];
  for (const [verdict, rule] of rows) if (verdict !== undefined) return { verdict, rule };
  if (facts.isUnconfined) {
    return {
      verdict: 'supervised',
      rule: 'built-in default for an MCP server that is not confined',
    };
  }
  return isConfining(level)
    ? { verdict: 'allow', rule: 'built-in default' }
    : { verdict: 'supervised', rule: `built-in default at sandbox level ${level}` };
}
