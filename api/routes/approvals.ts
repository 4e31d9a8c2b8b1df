/** Approvals: tool calls that wait for a person. */
import { z } from 'zod';
import { effectIdSchema } from '../../protocol/ids.ts';
import { approvalViewSchema, resolveApprovalSchema } from '../../protocol/resources.ts';
import { defineRoute, type Route, toJsonAnswer } from '../route.ts';
import { sessionRefSchema } from './params.ts';

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
    scope: 'operate',
    status: 200,
    summary: 'Approve or deny a tool call, once',
    params: z.strictObject({ id: sessionRefSchema, call_id: effectIdSchema }),
    body: resolveApprovalSchema,
    response: z.object({ call_id: effectIdSchema, decision: z.enum(['approve', 'deny']) }),
    handle: async ({ supervisor, params, body, by }) => {
      await supervisor.resolveApproval(params.id, params.call_id, body, by);
      return toJsonAnswer({ call_id: params.call_id, decision: body.decision });
    },
  }),
];
