/** A session over one WebSocket: every event as a JSON text frame, and the client's messages, each
 *  answered by `ack` or `problem` with the `ref` it carried. */
import { z } from 'zod';
import { PrxError } from '../../base/errors.ts';
import { effectIdSchema } from '../../protocol/ids.ts';
import { resolveApprovalSchema, sendInputSchema } from '../../protocol/resources.ts';
import { defineRoute, parseInput, type RawContext, type Route } from '../route.ts';
import { checkDecision } from './approvals.ts';
import { toSessionStream } from './frames.ts';
import { naturalSchema, sessionParams } from './params.ts';

const headSchema = z.looseObject({
  type: z.enum(['input', 'interrupt', 'approval', 'ping']),
  ref: z.string().max(128).optional(),
});
const emptySchema = z.strictObject({});
const approvalSchema = resolveApprovalSchema.extend({ call_id: effectIdSchema });

const socketQuery = z.strictObject({
  since: naturalSchema.optional().describe('Events after this sequence number; default 0.'),
  epoch: naturalSchema.optional(),
});

export const socketRoutes: readonly Route[] = [
  defineRoute({
    id: 'openSocket',
    method: 'GET',
    path: '/api/v1/sessions/{id}/ws',
    scope: 'read',
    status: 101,
    summary:
      'WebSocket: events as text frames; takes {type: input | interrupt | approval | ping, ref?}',
    params: sessionParams,
    query: socketQuery,
    handle: async (context) => {
      const { supervisor, params, query } = context;
      const session = await supervisor.getSession(params.id);
      const { since = 0, epoch } = query;
      const position = { since, ...(epoch === undefined ? {} : { epoch }) };
      return {
        kind: 'socket',
        ...toSessionStream(supervisor, session, position),
        onMessage: (message) => answerMessage({ ...context, session: session.id }, message),
      };
    },
  }),
];

async function answerMessage(
  context: RawContext & { session: string },
  message: unknown,
): Promise<unknown> {
  const { supervisor, session, by } = context;
  const { type, ref, ...rest } = parseInput(headSchema, message, 'message');
  if (type === 'ping') return { type: 'pong', ref };
  if (type !== 'approval' && !context.hasScope('operate')) {
    throw new PrxError('FORBIDDEN', `a message of type '${type}' needs the scope 'operate'`);
  }
  switch (type) {
    case 'input': {
      const input = parseInput(sendInputSchema, rest, 'message');
      return { type: 'ack', ref, result: await supervisor.acceptInput(session, input, by) };
    }
    case 'interrupt': {
      parseInput(emptySchema, rest, 'message');
      return { type: 'ack', ref, result: await supervisor.interrupt(session, by) };
    }
    case 'approval': {
      const { call_id, ...decision } = parseInput(approvalSchema, rest, 'message');
      checkDecision(decision, context.hasScope);
      await supervisor.resolveApproval(session, call_id, decision, by);
      return { type: 'ack', ref, result: { call_id, decision: decision.decision } };
    }
  }
}
