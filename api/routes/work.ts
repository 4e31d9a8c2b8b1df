/** What a session's work left or runs: its processes and its artifacts. */
import { z } from 'zod';
import { processViewSchema } from '../../protocol/resources.ts';
import { defineRoute, type Route, toJsonAnswer } from '../route.ts';
import { sessionParams, sessionRefSchema } from './params.ts';

export const workRoutes: readonly Route[] = [
  defineRoute({
    id: 'listProcesses',
    method: 'GET',
    path: '/api/v1/processes',
    scope: 'read',
    status: 200,
    summary: 'Processes of the supervisor and of all sessions',
    response: z.array(processViewSchema),
    handle: async ({ supervisor }) => toJsonAnswer(await supervisor.listProcesses(undefined)),
  }),
  defineRoute({
    id: 'listSessionProcesses',
    method: 'GET',
    path: '/api/v1/sessions/{id}/processes',
    scope: 'read',
    status: 200,
    summary: 'Processes that serve one session',
    params: sessionParams,
    response: z.array(processViewSchema),
    handle: async ({ supervisor, params }) =>
      toJsonAnswer(await supervisor.listProcesses(params.id)),
  }),
  defineRoute({
    id: 'getArtifact',
    method: 'GET',
    path: '/api/v1/sessions/{id}/artifacts/{artifact_id}',
    scope: 'read',
    status: 200,
    otherStatuses: [206, 304],
    summary: 'The bytes of an artifact; Range is honoured',
    contentType: 'application/octet-stream',
    params: z.strictObject({
      id: sessionRefSchema,
      artifact_id: z.string().regex(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/, 'an artifact id'),
    }),
    handle: async ({ supervisor, params }) => {
      const { path } = await supervisor.findArtifact(params.id, params.artifact_id);
      return { kind: 'file', path, name: params.artifact_id };
    },
  }),
];
