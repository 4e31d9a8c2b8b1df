/** Sessions: create, look, rename, remove, and what is said to them. */
import type { IncomingHttpHeaders } from 'node:http';
import { z } from 'zod';
import { PrxError } from '../../base/errors.ts';
import {
  createSessionSchema,
  inputAcceptedSchema,
  labelsSchema,
  sendInputSchema,
  sessionViewSchema,
} from '../../protocol/resources.ts';
import { sessionStateSchema } from '../../protocol/states.ts';
import { toPage } from '../pages.ts';
import { defineRoute, parseInput, type Route, toJsonAnswer } from '../route.ts';
import { limitSchema, listSchema, sessionParams } from './params.ts';

const CURSOR_CHARS_MAX = 128;

const listQuery = z.strictObject({
  state: listSchema
    .pipe(z.array(sessionStateSchema))
    .optional()
    .describe('States, separated by commas.'),
  label: z
    .union([z.string(), z.array(z.string()).max(64)])
    .transform((value) => [value].flat())
    .pipe(z.array(z.string().regex(/^[^=]+=/, 'a label is written key=value')))
    .optional()
    .describe('key=value; given several times, all must match.'),
  workspace: z.string().max(4096).optional().describe('Those in this folder, by its real path.'),
  name: z.string().max(64).optional().describe('Those of this name.'),
  limit: limitSchema.optional().describe('Sessions of one page; absent: all.'),
  after: z
    .string()
    .max(CURSOR_CHARS_MAX)
    .optional()
    .describe('Opaque; X-Prx-Next of the page before.'),
});

const renameSchema = z.strictObject({ name: createSessionSchema.shape.name.unwrap() });

export const sessionRoutes: readonly Route[] = [
  defineRoute({
    id: 'createSession',
    method: 'POST',
    path: '/api/v1/sessions',
    scope: 'operate',
    status: 201,
    otherStatuses: [200],
    summary: 'Create a session; 200 when the idempotency key created it before',
    body: createSessionSchema.prefault({}),
    response: sessionViewSchema,
    handle: async ({ supervisor, body, headers, by }) => {
      const params = withIdempotencyKey(body, headers);
      const { view, created } = await supervisor.createSession(params, by);
      return toJsonAnswer(view, {
        status: created ? 201 : 200,
        headers: { location: `/api/v1/sessions/${view.id}` },
      });
    },
  }),
  defineRoute({
    id: 'listSessions',
    method: 'GET',
    path: '/api/v1/sessions',
    scope: 'read',
    status: 200,
    otherStatuses: [304],
    summary:
      'List sessions, newest first, filtered by state, label, workspace and name; with limit a page, and ' +
      'X-Prx-Next is the next `after` (absent: that was the last)',
    query: listQuery,
    response: z.array(sessionViewSchema),
    handle: async ({ supervisor, query }) => {
      const filter = {
        ...(query.state === undefined ? {} : { state: query.state }),
        ...(query.label === undefined ? {} : { labels: toLabels(query.label) }),
        ...(query.workspace === undefined ? {} : { workspace: query.workspace }),
        ...(query.name === undefined ? {} : { name: query.name }),
      };
      const { rows, next } = toPage(await supervisor.listSessions(filter), query);
      const headers = next === undefined ? {} : { 'x-prx-next': next };
      return toJsonAnswer(rows, { headers, isRevalidated: true });
    },
  }),
  defineRoute({
    id: 'getSession',
    method: 'GET',
    path: '/api/v1/sessions/{id}',
    scope: 'read',
    status: 200,
    otherStatuses: [304],
    summary: 'One session',
    params: sessionParams,
    response: sessionViewSchema,
    handle: async ({ supervisor, params }) =>
      toJsonAnswer(await supervisor.getSession(params.id), { isRevalidated: true }),
  }),
  defineRoute({
    id: 'renameSession',
    method: 'PATCH',
    path: '/api/v1/sessions/{id}',
    scope: 'operate',
    status: 200,
    summary: 'Rename a session',
    params: sessionParams,
    body: renameSchema,
    response: sessionViewSchema,
    handle: async ({ supervisor, params, body }) =>
      toJsonAnswer(await supervisor.renameSession(params.id, body.name)),
  }),
  defineRoute({
    id: 'deleteSession',
    method: 'DELETE',
    path: '/api/v1/sessions/{id}',
    scope: 'operate',
    status: 204,
    summary: 'Close a session and remove its journal and private workspace',
    params: sessionParams,
    handle: async ({ supervisor, params, by }) => {
      await supervisor.deleteSession(params.id, by);
      return { kind: 'empty' };
    },
  }),
  defineRoute({
    id: 'sendInput',
    method: 'POST',
    path: '/api/v1/sessions/{id}/input',
    scope: 'operate',
    status: 202,
    summary: 'Accept an input; durable when answered, processed exactly once',
    params: sessionParams,
    body: sendInputSchema,
    response: inputAcceptedSchema,
    handle: async ({ supervisor, params, body, headers, by }) => {
      const input = withIdempotencyKey(body, headers);
      return toJsonAnswer(await supervisor.acceptInput(params.id, input, by));
    },
  }),
];

function toLabels(pairs: readonly string[]): Record<string, string> {
  const labels = pairs.map((pair) => {
    const at = pair.indexOf('=');
    return [pair.slice(0, at), pair.slice(at + 1)] as const;
  });
  return parseInput(labelsSchema, Object.fromEntries(labels), 'query.label');
}

const idempotencyKeySchema = z.string().min(1).max(255);

/** The header `Idempotency-Key` (bare, or in double quotes as the IETF draft writes it) says the
 *  same as the body's key; two different ones are a mistake that must not be guessed at. */
function withIdempotencyKey<T extends { idempotency_key?: string | undefined }>(
  body: T,
  headers: IncomingHttpHeaders,
): T {
  const header = headers['idempotency-key'];
  if (header === undefined) return body;
  const text = String(header).replace(/^"(.*)"$/, '$1');
  const key = parseInput(idempotencyKeySchema, text, 'header.idempotency-key');
  if (body.idempotency_key === undefined || body.idempotency_key === key) {
    return { ...body, idempotency_key: key };
  }
  throw new PrxError(
    'INVALID_REQUEST',
    'the Idempotency-Key header and idempotency_key of the body differ; send one of them',
  );
}
