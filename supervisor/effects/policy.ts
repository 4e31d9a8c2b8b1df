/** May this tool call happen? A pure function of configuration and session. Precedence: tool >
 *  group > default. The default of the default is `allow` inside a confining sandbox and
 *  `supervised` (ask) without one; an unknown tool is never allowed. */

import type { ApproveMode } from '../../protocol/resources.ts';
import { isToolName, toolTable } from '../../protocol/tools.ts';
import type { RawConfig } from '../config-schema.ts';

export type ToolPolicy = RawConfig['security']['tool_policy'];

export interface PolicyQuestion {
  readonly tool: string;
  /** The sandbox level in force. */
  readonly level: string;
  readonly approve: ApproveMode;
  /** Tools approved for the rest of this session. */
  readonly approvedTools: readonly string[];
}

export interface Verdict {
  readonly decision: 'allow' | 'ask' | 'deny';
  /** Which rule decided, as the user can find it. */
  readonly rule: string;
  readonly by: 'policy' | 'session';
}

export function decideTool(policy: ToolPolicy, question: PolicyQuestion): Verdict {
  const { tool } = question;
  if (!isToolName(tool)) return { decision: 'deny', rule: 'unknown tool', by: 'policy' };
  const { verdict, rule } = lookUp(policy, question);
  if (verdict === 'deny') return { decision: 'deny', rule, by: 'policy' };
  if (verdict === 'allow') return { decision: 'allow', rule, by: 'policy' };
  if (question.approve === 'all')
    return { decision: 'allow', rule: `${rule}, approve=all`, by: 'session' };
  if (question.approve === 'never') {
    return { decision: 'deny', rule: `${rule}, approve=never`, by: 'session' };
  }
  if (question.approvedTools.includes(tool)) {
    return { decision: 'allow', rule: `${rule}, approved for this session`, by: 'session' };
  }
  return { decision: 'ask', rule, by: 'policy' };
}

function lookUp(
  policy: ToolPolicy,
  question: PolicyQuestion,
): { verdict: 'allow' | 'deny' | 'supervised'; rule: string } {
  const { tool, level } = question;
  const ofTool = policy.tools[tool];
  if (ofTool !== undefined) return { verdict: ofTool, rule: `security.tool_policy.tools.${tool}` };
  const group = isToolName(tool) ? toolTable[tool].group : '';
  const ofGroup = policy.groups[group];
  if (ofGroup !== undefined) {
    return { verdict: ofGroup, rule: `security.tool_policy.groups.${group}` };
  }
  if (policy.default !== undefined) {
    return { verdict: policy.default, rule: 'security.tool_policy.default' };
  }
  return level === 'none'
    ? { verdict: 'supervised', rule: 'built-in default at sandbox level none' }
    : { verdict: 'allow', rule: 'built-in default' };
}
