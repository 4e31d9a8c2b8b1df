/** Tokens of the TCP door. A new one is made only by who may open the unix socket: a stolen token,
 *  whatever its scopes, cannot make itself a successor that outlives it. */
import { z } from 'zod';
import { PrxError } from '../../base/errors.ts';
import { createdTokenSchema, createTokenSchema, tokenViewSchema } from '../../protocol/tokens.ts';
import { defineRoute, type Route, toJsonAnswer } from '../route.ts';

export const tokenRoutes: readonly Route[] = [
  defineRoute({
    id: 'createToken',
    method: 'POST',
    path: '/api/v1/tokens',
    scope: 'admin',
    status: 201,
    summary: 'Issue a token; its value is told this once (unix socket only)',
    body: createTokenSchema.prefault({}),
    response: createdTokenSchema,
    handle: async ({ tokens, body, by }) => {
      if (by !== 'socket') {
        const message = 'a token is made only through the unix socket of the supervisor';
        throw new PrxError('FORBIDDEN', `${message}: ask on its machine`);
      }
      return toJsonAnswer(await tokens.create(body, by));
    },
  }),
  defineRoute({
    id: 'listTokens',
    method: 'GET',
    path: '/api/v1/tokens',
    scope: 'admin',
    status: 200,
    summary: 'All tokens: scopes, expiry, last use; no values',
    response: z.array(tokenViewSchema),
    handle: async ({ tokens }) => toJsonAnswer(tokens.list()),
  }),
  defineRoute({
    id: 'revokeToken',
    method: 'DELETE',
    path: '/api/v1/tokens/{name}',
    scope: 'admin',
    status: 204,
    summary: 'Refuse a token from now on, and end its streams',
    params: z.strictObject({ name: z.string().min(1).max(64) }),
    handle: async ({ tokens, params, by }) => {
      await tokens.revoke(params.name, by);
      return { kind: 'empty' };
    },
  }),
];
