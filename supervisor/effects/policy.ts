/** May this tool call happen? A pure function of configuration, session and call. Precedence: the
 *  first rule of `[[security.rules]]` that matches, then tool > group > default. The default of
 *  the default is `allow` inside a confining sandbox and `supervised` (ask) without one; an
 *  unknown tool is never allowed. Each part of a call is decided by itself, the strictest wins. */

import { toHostText } from '../../base/hostnames.ts';
import type { ApproveMode } from '../../protocol/resources.ts';
import { guardsWorkspace } from '../../protocol/sandbox-levels.ts';
import {
  isHarmless,
  isToolName,
  judgedAs,
  runsInSandbox,
  toolTable,
} from '../../protocol/tools.ts';
import type { RawConfig } from '../config-schema.ts';
import { type CustomToolFacts, decideCustomTool } from './custom-policy.ts';
import { decideMcpTool, type McpToolFacts } from './mcp-policy.ts';
import { describeRule, findRule, looksInside, type Rule } from './policy/rules.ts';
import type { Part } from './policy/subject.ts';

type ToolPolicy = RawConfig['security']['tool_policy'];

export interface Policy {
  readonly rules: readonly Rule[];
  readonly tools: ToolPolicy;
  /** Another policy has another version. */
  readonly version: string;
}

export interface PolicyQuestion {
  readonly tool: string;
  /** Of a tool of an MCP server. */
  readonly mcp?: McpToolFacts | undefined;
  /** Of a custom tool. */
  readonly custom?: CustomToolFacts | undefined;
  /** The sandbox level in force. */
  readonly level: string;
  /** What the tools may reach; absent: nothing. */
  readonly network?: string;
  readonly approve: ApproveMode;
  /** What was approved for the rest of this session: see Verdict.covers. */
  readonly approved: readonly string[];
  /** The call taken apart; asked for only when a rule looks inside. */
  readonly parts: () => readonly Part[];
  /** The kept rule that covers the call; asked for only when a person would be asked. */
  readonly kept: () => string | undefined;
}

export interface Verdict {
  readonly decision: 'allow' | 'ask' | 'deny';
  /** Which rule decided, as the user can find it. */
  readonly rule: string;
  readonly by: 'policy' | 'session' | 'kept' | 'guard';
}

/** What became of one part of a call. */
export interface PartVerdict {
  readonly decision: Verdict['decision'];
  readonly rule: string;
  /** What the rule's author says to the model. */
  readonly reason?: string | undefined;
  /** The command, path or domain; absent: the call as a whole. */
  readonly text?: string;
  /** What an approval for the session stands for: this tool, or this tool under this rule. */
  readonly covers: string;
}

export interface Explanation extends Verdict {
  readonly parts: readonly PartVerdict[];
  /** Of the deciding rule. */
  readonly reason?: string | undefined;
  /** decision `ask`: what an approval with scope `session` approves. */
  readonly covers: readonly string[];
}

export function decideTool(policy: Omit<Policy, 'version'>, question: PolicyQuestion): Explanation {
  const { tool } = question;
  const { mcp, custom } = question;
  if (!isToolName(tool) && mcp === undefined && custom === undefined) {
    return { decision: 'deny', rule: 'unknown tool', by: 'policy', parts: [], covers: [] };
  }
  const { rules } = policy;
  const whole: readonly Part[] = [{ kind: 'whole' }];
  const found = looksInside(rules) ? question.parts() : whole;
  const parts = found.map((part) => decidePart(policy, question, part));
  const denied = parts.find((part) => part.decision === 'deny');
  if (denied !== undefined) return conclude('deny', [denied], parts);
  const asking = parts.filter((part) => part.decision === 'ask');
  if (asking.length === 0) return conclude('allow', parts, parts);
  return decideAsking(question, conclude('ask', asking, parts));
}

/** A person would be asked: is the answer known already? */
function decideAsking(question: PolicyQuestion, asked: Explanation): Explanation {
  const { tool, approve, approved } = question;
  const bySession = (decision: 'allow' | 'deny', why: string): Explanation => {
    const rule = `${asked.rule}, ${why}`;
    return { ...asked, decision, rule, by: 'session', covers: [] };
  };
  if (approve === 'never') return bySession('deny', 'approve=never');
  // Nobody but a person has the answer to a question.
  if (tool === 'ask_user') return asked;
  if (approve === 'all') return bySession('allow', 'approve=all');
  if (asked.covers.every((each) => approved.includes(each))) {
    return bySession('allow', 'approved for this session');
  }
  const kept = question.kept();
  if (kept === undefined) return asked;
  return { ...asked, decision: 'allow', rule: kept, by: 'kept', covers: [] };
}

function conclude(
  decision: Verdict['decision'],
  deciding: readonly PartVerdict[],
  parts: readonly PartVerdict[],
): Explanation {
  const [first] = deciding;
  const rules = [...new Set(deciding.map(({ rule }) => rule))];
  const reason = first?.reason;
  return {
    decision,
    rule: rules.join('; ').slice(0, RULE_CHARS_MAX),
    by: 'policy',
    parts,
    covers: decision === 'ask' ? [...new Set(deciding.map(({ covers }) => covers))] : [],
    ...(reason === undefined ? {} : { reason }),
  };
}

const RULE_CHARS_MAX = 1000;

function decidePart(
  policy: Omit<Policy, 'version'>,
  question: PolicyQuestion,
  part: Part,
): PartVerdict {
  const { tool } = question;
  const text = describePart(part);
  const about = text === undefined ? {} : { text };
  const rule = findRule(policy.rules, tool, part);
  if (rule === undefined) {
    const { verdict, rule: name } = lookUp(policy.tools, question);
    const decision = verdict === 'supervised' ? 'ask' : verdict;
    return { decision: toAsked(tool, decision), rule: name, covers: tool, ...about };
  }
  const described = describeRule(rule);
  const { reason } = rule;
  return {
    decision: toAsked(tool, rule.action),
    rule: described,
    covers: `${tool} (${described})`,
    ...about,
    ...(reason === undefined ? {} : { reason }),
  };
}

/** A question to a person is what it is, also where it is allowed. */
function toAsked(tool: string, decision: Verdict['decision']): Verdict['decision'] {
  return tool === 'ask_user' && decision === 'allow' ? 'ask' : decision;
}

function describePart(part: Part): string | undefined {
  switch (part.kind) {
    case 'whole':
      return undefined;
    case 'command':
      return part.text;
    case 'unknown':
      return `${part.text} (${part.why})`;
    case 'path':
      return part.path === part.realPath || part.realPath === undefined
        ? part.path
        : `${part.path} -> ${part.realPath}`;
    case 'domain':
      return part.host === undefined ? 'an address that cannot be read' : toHostText(part.host);
  }
}

function lookUp(
  policy: ToolPolicy,
  question: PolicyQuestion,
): { verdict: 'allow' | 'deny' | 'supervised'; rule: string } {
  const { tool, level, network, mcp: facts, custom } = question;
  if (facts !== undefined) return decideMcpTool(policy, { tool, level, facts });
  if (custom !== undefined) return decideCustomTool(policy, { tool, level, network });
  for (const name of [tool, judgedAs(tool)]) {
    const ofTool = policy.tools[name];
    if (ofTool !== undefined) {
      return { verdict: ofTool, rule: `security.tool_policy.tools.${name}` };
    }
  }
  const group = isToolName(tool) ? toolTable[tool].group : '';
  const ofGroup = policy.groups[group];
  if (ofGroup !== undefined) {
    return { verdict: ofGroup, rule: `security.tool_policy.groups.${group}` };
  }
  if (isToolName(tool) && !runsInSandbox(tool)) {
    return { verdict: 'allow', rule: 'built-in default: it touches nothing' };
  }
  if (isHarmless(tool)) {
    return { verdict: 'allow', rule: 'built-in default: it touches only what was allowed before' };
  }
  if (policy.default !== undefined) {
    return { verdict: policy.default, rule: 'security.tool_policy.default' };
  }
  if (network === 'full') {
    return { verdict: 'supervised', rule: 'built-in default with network = "full"' };
  }
  return guardsWorkspace(level)
    ? { verdict: 'allow', rule: 'built-in default' }
    : { verdict: 'supervised', rule: `built-in default at sandbox level ${level}` };
}
