/** The supervisor itself: is it there, is it well, what does it do, and stop. */
import { z } from 'zod';
import { statusViewSchema } from '../../protocol/resources.ts';
import { sweepViewSchema } from '../../protocol/sweep.ts';
import { defineRoute, type Route, toJsonAnswer } from '../route.ts';
import { flagSchema } from './params.ts';

const readinessSchema = statusViewSchema.pick({ status: true, reasons: true });

/** A drain longer than a day is a mistake in the unit. */
const DRAIN_SECS_MAX = 86_400;
const DRAIN_SECS_DEFAULT = 30;

const stopSchema = z.strictObject({
  drain_secs: z
    .number()
    .min(0)
    .max(DRAIN_SECS_MAX)
    .optional()
    .describe(`Seconds that running turns get to end; default ${DRAIN_SECS_DEFAULT}.`),
});

const probeRoutes: readonly Route[] = [
  defineRoute({
    id: 'getHealth',
    method: 'GET',
    path: '/healthz',
    scope: 'none',
    status: 200,
    summary: 'The process answers',
    response: z.object({ status: z.literal('ok') }),
    handle: async () => toJsonAnswer({ status: 'ok' }),
  }),
  defineRoute({
    id: 'getReadiness',
    method: 'GET',
    path: '/readyz',
    scope: 'none',
    status: 200,
    otherStatuses: [503],
    summary: 'Takes work (200), or does not and why (503)',
    response: readinessSchema,
    handle: async ({ supervisor }) => {
      const { status, reasons, takes_work } = await supervisor.status(false);
      const isReady = takes_work ?? status === 'ok';
      return toJsonAnswer({ status, reasons }, { status: isReady ? 200 : 503 });
    },
  }),
  defineRoute({
    id: 'getMetrics',
    method: 'GET',
    path: '/metrics',
    scope: 'read',
    status: 200,
    summary: 'Metrics in the Prometheus text format',
    contentType: 'text/plain; version=0.0.4; charset=utf-8',
    handle: async ({ supervisor }) => ({
      kind: 'text',
      text: await supervisor.metrics(),
      contentType: 'text/plain; version=0.0.4; charset=utf-8',
    }),
  }),
];

const controlRoutes: readonly Route[] = [
  defineRoute({
    id: 'getStatus',
    method: 'GET',
    path: '/api/v1/status',
    scope: 'read',
    status: 200,
    summary: 'Health, capacity, sandbox level, versions; deep adds checks that take longer',
    query: z.strictObject({ deep: flagSchema.optional() }),
    response: statusViewSchema,
    handle: async ({ supervisor, query }) =>
      toJsonAnswer(await supervisor.status(query.deep ?? false)),
  }),
  defineRoute({
    id: 'reload',
    method: 'POST',
    path: '/api/v1/reload',
    scope: 'admin',
    status: 200,
    summary: 'Read the configuration again; an invalid one changes nothing',
    response: z.object({ changed: z.array(z.string()), needs_restart: z.array(z.string()) }),
    handle: async ({ supervisor }) => toJsonAnswer(await supervisor.reload()),
  }),
  defineRoute({
    id: 'sweep',
    method: 'POST',
    path: '/api/v1/sweep',
    scope: 'admin',
    status: 200,
    summary: 'End processes and remove files that earlier supervisors left and nothing needs',
    response: sweepViewSchema,
    handle: async ({ supervisor }) => toJsonAnswer(await supervisor.sweep()),
  }),
  defineRoute({
    id: 'stop',
    method: 'POST',
    path: '/api/v1/stop',
    scope: 'admin',
    status: 202,
    summary: 'Begin the graceful stop',
    body: stopSchema.nullish(),
    response: z.object({ status: z.literal('stopping') }),
    handle: async ({ supervisor, body, by }) => {
      await supervisor.requestStop((body?.drain_secs ?? DRAIN_SECS_DEFAULT) * 1000, by);
      return toJsonAnswer({ status: 'stopping' });
    },
  }),
];

const documentRoutes: readonly Route[] = [
  defineRoute({
    id: 'getOpenapi',
    method: 'GET',
    path: '/openapi.json',
    scope: 'read',
    status: 200,
    summary: 'This API as an OpenAPI 3.1 document',
    response: z.looseObject({ openapi: z.string() }),
    handle: async ({ describe }) => toJsonAnswer(describe()),
  }),
];

export const supervisorRoutes: readonly Route[] = [
  ...probeRoutes,
  ...controlRoutes,
  ...documentRoutes,
];
