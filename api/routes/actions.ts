/** What is done to a session. Each action answers with the session as it then is. */
import { z } from 'zod';
import {
  createSessionSchema,
  type SessionView,
  sessionViewSchema,
} from '../../protocol/resources.ts';
import type { Supervisor } from '../../supervisor/index.ts';
import { defineRoute, type Route, toJsonAnswer } from '../route.ts';
import { sessionParams } from './params.ts';

type Act = (supervisor: Supervisor, ref: string, by: string) => Promise<SessionView>;

function defineAction(id: string, summary: string, act: Act): Route {
  return defineRoute({
    id,
    method: 'POST',
    path: `/api/v1/sessions/{id}/${id}`,
    scope: 'operate',
    status: 200,
    summary,
    params: sessionParams,
    response: sessionViewSchema,
    handle: async ({ supervisor, params, by }) =>
      toJsonAnswer(await act(supervisor, params.id, by)),
  });
}

const forkSchema = z.strictObject({
  at: z.number().int().min(0).optional().describe('Sequence number; absent: the newest.'),
  name: createSessionSchema.shape.name,
});

export const actionRoutes: readonly Route[] = [
  defineAction(
    'interrupt',
    'End the running turn, or the one that is about to begin; nothing happens without one',
    (s, ref, by) => s.interrupt(ref, by),
  ),
  defineAction('suspend', 'Hold a session: inputs wait until it is resumed', (s, ref, by) =>
    s.suspend(ref, by),
  ),
  defineAction('resume', 'Go on with a suspended session', (s, ref, by) => s.resume(ref, by)),
  defineAction('restart', 'Open a stopped session again, or give it a new worker', (s, ref, by) =>
    s.restart(ref, by),
  ),
  defineAction('close', 'Stop a session; its journal stays', (s, ref, by) => s.close(ref, by)),
  defineRoute({
    id: 'fork',
    method: 'POST',
    path: '/api/v1/sessions/{id}/fork',
    scope: 'operate',
    status: 201,
    summary: 'A new session with the history of this one up to an event',
    params: sessionParams,
    body: forkSchema.nullish(),
    response: sessionViewSchema,
    handle: async ({ supervisor, params, body }) => {
      const view = await supervisor.fork(params.id, body?.at, body?.name);
      return toJsonAnswer(view, { headers: { location: `/api/v1/sessions/${view.id}` } });
    },
  }),
];
