/** The decision on one call of one session: policy, what was approved and kept before, and the
 *  guard against a model that asks for the same thing until somebody gives in. */
import type { KeptRuleBody } from '../../protocol/kept-rules.ts';
import { workspaceOf } from '../sessions/workspace.ts';
import { type ApprovalSubject, digestApproval } from './approval-digest.ts';
import { type ForeignFinder, policyOf, standingOf } from './foreign-tools.ts';
import { toKeptRuleBody } from './policy/kept-rules.ts';
import { type Subject, toParts } from './policy/subject.ts';
import { decideTool, type Explanation } from './policy.ts';
import type { GateDeps } from './ports.ts';

export interface Decision extends Explanation {
  /** Binds an approval to exactly this call. */
  readonly digest: string;
  /** What scope `rule` would keep; undefined: nothing that could be shown whole. */
  readonly keeps: KeptRuleBody | undefined;
}

type DecisionDeps = ForeignFinder &
  Pick<GateDeps, 'stateDir' | 'journal' | 'sandbox' | 'policy' | 'kept' | 'maxDenials'>;

export function decideCall(deps: DecisionDeps, tool: string, value: unknown): Decision {
  const record = deps.journal.record();
  const { approve, approved_tools: approved, agent } = record;
  const workspace = workspaceOf(deps.stateDir, record);
  const subject: Subject = { tool, arguments: value, workspace };
  const mcp = deps.mcp?.find(tool);
  const custom = deps.custom?.find(tool);
  const { level, network = 'none' } = standingOf(deps, tool);
  const policy = deps.policy();
  const body = (): KeptRuleBody | undefined => toKeptRuleBody(subject, agent);
  const explained = decideTool(policy, {
    ...{ tool, mcp, custom, level, network, approve, approved },
    parts: () => toParts(subject),
    kept: () => {
      const wanted = body();
      const rule = wanted === undefined ? undefined : deps.kept.find(wanted);
      return rule === undefined ? undefined : `kept rule ${rule.id} (by ${rule.by})`;
    },
  });
  const digest = digestApproval(toSubject(deps, tool, value));
  if (explained.decision !== 'ask') return { ...explained, digest, keeps: undefined };
  const storm = findStorm(deps, tool, digest);
  if (storm !== undefined) {
    const rule = `${explained.rule}; ${storm}`;
    return {
      ...explained,
      decision: 'deny',
      by: 'guard',
      rule,
      covers: [],
      digest,
      keeps: undefined,
    };
  }
  return { ...explained, digest, keeps: tool === 'ask_user' ? undefined : body() };
}

/** What a person approves, as it stands now. */
export function toSubject(
  deps: ForeignFinder & Pick<GateDeps, 'journal' | 'sandbox' | 'policy'>,
  tool: string,
  value: unknown,
): ApprovalSubject {
  const { workspace } = deps.journal.record();
  const { level } = standingOf(deps, tool);
  return { tool, arguments: value, workspace, policy: policyOf(deps, tool), level };
}

/** Why nobody is asked again in this turn; undefined: somebody is. */
function findStorm(deps: DecisionDeps, tool: string, digest: string): string | undefined {
  const denied = deps.journal.record().open_turn?.denied ?? [];
  const same = denied.find((each) => each.digest === digest);
  if (same !== undefined)
    return `the same call was refused as ${same.call_id}, nobody is asked again`;
  const max = deps.maxDenials();
  const count = denied.filter((each) => each.tool === tool).length;
  if (max === 0 || count < max) return undefined;
  return `${count} calls of ${tool} were refused in this turn (security.approval.max_denials = ${max}), nobody is asked again before the next input`;
}
