/** The face over policy and approvals: why a call would be allowed, the rules that are kept, and
 *  links that answer one approval. */
import { readFileSync } from 'node:fs';
import { PrxError } from '../base/errors.ts';
import { describeKeptRule } from '../protocol/approval-words.ts';
import type { ExplainPolicy, PolicyView } from '../protocol/policy-view.ts';
import type { ApprovalView } from '../protocol/resources.ts';
import { findAgent } from './config.ts';
import { readLink } from './effects/approval-link.ts';
import { parseArguments } from './effects/arguments.ts';
import { standingOf } from './effects/foreign-tools.ts';
import { toKeptRuleBody } from './effects/policy/kept-rules.ts';
import { findRuleLine } from './effects/policy/source-lines.ts';
import { toParts } from './effects/policy/subject.ts';
import { decideTool } from './effects/policy.ts';
import type { Supervisor } from './index.ts';
import type { Runtime } from './runtime.ts';

type PolicyFace = Pick<
  Supervisor,
  'explainPolicy' | 'listKeptRules' | 'removeKeptRule' | 'readLink' | 'answerLink'
>;

const LINK_ACTOR = 'link';

export function createPolicyFace(
  runtime: Runtime,
  approvals: Pick<Supervisor, 'resolveApproval' | 'listApprovals'>,
): PolicyFace {
  const { kept, linkKey, clock } = runtime.policy;

  async function findWaiting(token: string): Promise<ApprovalView> {
    const { session, callId, digest } = readLink(linkKey(), token, clock.wallMs());
    const all = await approvals.listApprovals();
    const found = all.find((each) => each.session === session && each.call_id === callId);
    if (found?.digest === digest) return found;
    const message = `the approval of ${callId} does not wait any more: the link is used up`;
    throw new PrxError('APPROVAL_RESOLVED', message);
  }

  return {
    explainPolicy: async (asked) => explain(runtime, asked),
    listKeptRules: async () => [...kept.list()],
    removeKeptRule(id, by) {
      runtime.assertOpen();
      return kept.remove(id, by);
    },
    readLink: findWaiting,
    async answerLink(token, decision) {
      const { session, callId, digest } = readLink(linkKey(), token, clock.wallMs());
      const answer = { decision, digest, scope: 'once' } as const;
      await approvals.resolveApproval(session, callId, answer, LINK_ACTOR);
    },
  };
}

function explain(runtime: Runtime, asked: ExplainPolicy): PolicyView {
  const config = runtime.config();
  const agent = findAgent(config, asked.agent);
  const { mcp, custom, policy } = runtime;
  const { sandbox } = policy.settings;
  const { level, network = 'none', refusal } = standingOf({ mcp, sandbox }, asked.tool);
  const { tool, workspace = '/nonexistent/workspace' } = asked;
  const value = asked.arguments ?? {};
  const text = JSON.stringify(value);
  const tools = [...agent.tools, ...mcp.names(agent), ...custom.names(agent)];
  const { problem } = parseArguments({ name: tool, arguments: text }, tools);
  const subject = { tool, arguments: value, workspace };
  const body = toKeptRuleBody(subject, agent.name);
  const verdict = decideTool(config.policy, {
    ...{
      tool,
      mcp: mcp.find(tool),
      custom: custom.find(tool),
      level,
      network,
      approve: 'ask',
      approved: [],
    },
    parts: () => toParts(subject),
    kept: () => {
      const rule = body === undefined ? undefined : runtime.policy.kept.find(body);
      return rule === undefined ? undefined : `kept rule ${rule.id} (by ${rule.by})`;
    },
  });
  const place = toPlace(config.file);
  const isAsking = verdict.decision === 'ask';
  return {
    ...{ tool, agent: agent.name, level, decision: verdict.decision, by: verdict.by },
    ...place(verdict.rule),
    ...(verdict.reason === undefined ? {} : { reason: verdict.reason }),
    ...(refusal === undefined ? {} : { refusal }),
    ...(problem === undefined ? {} : { problem }),
    parts: verdict.parts.map((part) => ({
      decision: part.decision,
      ...place(part.rule),
      ...(part.text === undefined ? {} : { text: part.text }),
    })),
    covers: [...verdict.covers],
    ...(isAsking && body !== undefined ? { keeps: describeKeptRule(body) } : {}),
  };
}

function toPlace(file: string | undefined) {
  let toml = '';
  try {
    if (file !== undefined) toml = readFileSync(file, 'utf8');
  } catch {
    // Moved away since it was read: the rule is told without its line.
  }
  return (rule: string) => {
    const line = findRuleLine(toml, rule);
    return line === undefined || file === undefined ? { rule } : { rule, file, line };
  };
}
