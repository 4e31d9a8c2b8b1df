/** Approvals: tool calls that wait for a person, links that answer one, the rules that people kept
 *  with an answer, and why a call would have to wait at all. */
import { z } from 'zod';
import { PrxError } from '../../base/errors.ts';
import { effectIdSchema } from '../../protocol/ids.ts';
import { keptRuleSchema } from '../../protocol/kept-rules.ts';
import { explainPolicySchema, policyViewSchema } from '../../protocol/policy-view.ts';
import {
  approvalViewSchema,
  type ResolveApproval,
  resolveApprovalSchema,
} from '../../protocol/resources.ts';
import type { Scope } from '../../protocol/tokens.ts';
import { toAnsweredPage, toLinkPage } from '../link-page.ts';
import { defineRoute, type Route, toJsonAnswer } from '../route.ts';
import { sessionRefSchema } from './params.ts';

const HTML = 'text/html; charset=utf-8';
const linkParams = z.strictObject({ token: z.string().min(1).max(512) });

/** Who may write what is run drives the session; an approver says yes or no to what stands there.
 *  @throws FORBIDDEN. */
export function checkDecision(
  decision: ResolveApproval,
  hasScope: (scope: Scope) => boolean,
): void {
  if (!hasScope('approve')) {
    throw new PrxError('FORBIDDEN', "to approve or deny needs the scope 'approve'");
  }
  if (decision.arguments === undefined || hasScope('operate')) return;
  throw new PrxError('FORBIDDEN', "to edit the arguments of a call needs the scope 'operate'");
}

export const approvalRoutes: readonly Route[] = [
  defineRoute({
    id: 'listApprovals',
    method: 'GET',
    path: '/api/v1/approvals',
    scope: 'read',
    status: 200,
    summary: 'Pending approvals of all sessions',
    response: z.array(approvalViewSchema),
    handle: async ({ supervisor }) => toJsonAnswer(await supervisor.listApprovals()),
  }),
  defineRoute({
    id: 'resolveApproval',
    method: 'POST',
    path: '/api/v1/sessions/{id}/approvals/{call_id}',
    scope: 'approve',
    status: 200,
    summary: 'Approve or deny a tool call, once; other arguments need the scope operate',
    params: z.strictObject({ id: sessionRefSchema, call_id: effectIdSchema }),
    body: resolveApprovalSchema,
    response: z.object({ call_id: effectIdSchema, decision: z.enum(['approve', 'deny']) }),
    handle: async ({ supervisor, params, body, by, hasScope }) => {
      checkDecision(body, hasScope);
      await supervisor.resolveApproval(params.id, params.call_id, body, by);
      return toJsonAnswer({ call_id: params.call_id, decision: body.decision });
    },
  }),
  defineRoute({
    id: 'readLink',
    method: 'GET',
    path: '/api/v1/links/{token}',
    scope: 'none',
    status: 200,
    contentType: HTML,
    summary: 'A page that shows what a signed link would answer; it changes nothing',
    params: linkParams,
    handle: async ({ supervisor, params }) => {
      const approval = await supervisor.readLink(params.token);
      return { kind: 'text', contentType: HTML, text: toLinkPage(approval, params.token) };
    },
  }),
  defineRoute({
    id: 'answerLink',
    method: 'POST',
    path: '/api/v1/links/{token}/{decision}',
    scope: 'none',
    status: 200,
    contentType: HTML,
    summary: 'Answer the approval that a signed link is for, once',
    params: linkParams.extend({ decision: z.enum(['approve', 'deny']) }),
    handle: async ({ supervisor, params: { token, decision } }) => {
      await supervisor.answerLink(token, decision);
      return { kind: 'text', contentType: HTML, text: toAnsweredPage(decision) };
    },
  }),
  defineRoute({
    id: 'listKeptRules',
    method: 'GET',
    path: '/api/v1/rules',
    scope: 'read',
    status: 200,
    summary: 'Rules that people kept with an approval',
    response: z.array(keptRuleSchema),
    handle: async ({ supervisor }) => toJsonAnswer(await supervisor.listKeptRules()),
  }),
  defineRoute({
    id: 'removeKeptRule',
    method: 'DELETE',
    path: '/api/v1/rules/{rule}',
    scope: 'operate',
    status: 204,
    summary: 'Forget a kept rule: its calls are asked for again',
    params: z.strictObject({ rule: z.string().min(1).max(64) }),
    handle: async ({ supervisor, params, by }) => {
      await supervisor.removeKeptRule(params.rule, by);
      return { kind: 'empty' };
    },
  }),
  defineRoute({
    id: 'explainPolicy',
    method: 'POST',
    path: '/api/v1/policy/explain',
    scope: 'read',
    status: 200,
    summary: 'Why a tool call would be allowed, asked for or denied; nothing runs',
    body: explainPolicySchema,
    response: policyViewSchema,
    handle: async ({ supervisor, body }) => toJsonAnswer(await supervisor.explainPolicy(body)),
  }),
];
