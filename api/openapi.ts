/** The OpenAPI 3.1 document, made from the route table. Its schema dialect is JSON Schema 2020-12,
 *  which is what zod writes, so nothing is translated. */
import { z } from 'zod';
import { eventEnvelopeSchema, eventTable } from '../protocol/events.ts';
import {
  approvalViewSchema,
  createSessionSchema,
  inputAcceptedSchema,
  problemSchema,
  processViewSchema,
  resolveApprovalSchema,
  sendInputSchema,
  sessionViewSchema,
  statusViewSchema,
} from '../protocol/resources.ts';
import { BODY_BYTES_MAX } from './body.ts';
import type { Route } from './route.ts';

type Json = Readonly<Record<string, unknown>>;

/** Schemas with a name of their own in the document. */
const named: Readonly<Record<string, z.ZodType>> = {
  Approval: approvalViewSchema,
  CreateSession: createSessionSchema,
  Event: eventEnvelopeSchema,
  InputAccepted: inputAcceptedSchema,
  Problem: problemSchema,
  Process: processViewSchema,
  ResolveApproval: resolveApprovalSchema,
  SendInput: sendInputSchema,
  Session: sessionViewSchema,
  Status: statusViewSchema,
};

const openaiErrorSchema: Json = {
  type: 'object',
  required: ['error'],
  properties: {
    error: {
      type: 'object',
      required: ['message', 'type', 'param', 'code'],
      properties: {
        message: { type: 'string' },
        type: { type: 'string' },
        param: { type: ['string', 'null'] },
        code: { type: ['string', 'null'] },
      },
    },
  },
};

export function createOpenapi(routes: readonly Route[], version: string): Json {
  const registry = createRegistry(named);
  const paths: Record<string, Record<string, Json>> = {};
  for (const route of routes) {
    const path = paths[route.path] ?? {};
    path[route.method.toLowerCase()] = toOperation(route, registry);
    paths[route.path] = path;
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'prx-supervisor',
      version,
      description:
        'Crash-only hosting for LLM agents. On the unix socket no token is needed; on TCP a ' +
        `bearer token with the scope of the operation. A body has at most ${BODY_BYTES_MAX} bytes.`,
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    security: [{ bearer: [] }],
    paths,
    components: {
      schemas: { ...toComponents(registry), ...toEventSchemas() },
      securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } },
      responses: {
        Problem: {
          description: 'RFC 9457 problem; `code` is of a closed table',
          content: { 'application/problem+json': { schema: toRef('Problem') } },
        },
        OpenaiError: {
          description: 'As that API has it; `code` is of the same table, in lower case',
          content: { 'application/json': { schema: openaiErrorSchema } },
        },
      },
    },
  };
}

type Registry = z.core.$ZodRegistry<{ id: string }>;

/** Names from `schemas`; descriptions and the like from the schemas themselves, which zod keeps
 *  in its global registry and looks up in one registry only. */
function createRegistry(schemas: Readonly<Record<string, z.ZodType>>): Registry {
  const registry = z.registry<{ id: string }>();
  for (const [id, schema] of Object.entries(schemas)) registry.add(schema, { id });
  const getName = registry.get.bind(registry);
  registry.get = (schema) => {
    const [own, name] = [z.globalRegistry.get(schema), getName(schema)];
    return own === undefined ? name : Object.assign({}, own, name);
  };
  return registry;
}

function toOperation(route: Route, registry: Registry): Json {
  const parameters = [
    ...toParameters(route.params, 'path', registry),
    ...toParameters(route.query, 'query', registry),
  ];
  const isOpen = route.scope === 'none';
  const isOpenai = route.path.startsWith('/v1/');
  return {
    operationId: route.id,
    summary: route.summary,
    'x-scope': route.scope,
    ...(isOpen ? { security: [] } : {}),
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(route.body === undefined ? {} : { requestBody: toRequestBody(route.body, registry) }),
    responses: {
      [route.status]: toResponse(route, registry),
      ...toOtherResponses(route, registry),
      default: { $ref: `#/components/responses/${isOpenai ? 'OpenaiError' : 'Problem'}` },
    },
  };
}

function toRequestBody(body: z.ZodType, registry: Registry): Json {
  const isOptional = body.safeParse(undefined).success;
  return {
    required: !isOptional,
    content: { 'application/json': { schema: toSchema(body, registry) } },
  };
}

function toResponse(route: Route, registry: Registry): Json {
  const content = {
    ...toContent(route, registry),
    ...(route.canStream ? { 'text/event-stream': { schema: { type: 'string' } } } : {}),
  };
  const description = route.summary;
  return Object.keys(content).length === 0 ? { description } : { description, content };
}

function toOtherResponses(route: Route, registry: Registry): Json {
  const others = (route.otherStatuses ?? []).map((status) => [
    status,
    status === 304
      ? { description: 'What the client has is current' }
      : toResponse(route, registry),
  ]);
  return Object.fromEntries(others) as Json;
}

function toContent({ response, contentType }: Route, registry: Registry): Json {
  if (response !== undefined) {
    return { 'application/json': { schema: toSchema(response, registry) } };
  }
  return contentType === undefined ? {} : { [contentType]: { schema: { type: 'string' } } };
}

function toParameters(schema: z.ZodType, place: string, registry: Registry): readonly Json[] {
  const object = toSchema(schema, registry);
  const required = Array.isArray(object.required) ? object.required : [];
  return Object.entries(object.properties ?? {}).map(([name, value]) => ({
    name,
    in: place,
    required: place === 'path' || required.includes(name),
    schema: value,
  }));
}

function toRef(id: string): Json {
  return { $ref: `#/components/schemas/${id}` };
}

/** `io: input` is what crosses the wire: objects that may grow stay open, strict ones closed. */
const CONVERSION = { io: 'input', unrepresentable: 'any' } as const;

function toSchema(schema: z.ZodType, registry: Registry): Json {
  const id = registry.get(schema)?.id;
  if (id !== undefined) return toRef(id);
  const {
    $schema: _dialect,
    $defs: _shared,
    ...own
  } = z.toJSONSchema(schema, {
    ...CONVERSION,
    metadata: registry,
  });
  // Named schemas live among the components, not beside each use.
  return JSON.parse(JSON.stringify(own).replaceAll('"#/$defs/', '"#/components/schemas/')) as Json;
}

function toComponents(registry: Registry): Record<string, Json> {
  const { schemas } = z.toJSONSchema(registry, {
    ...CONVERSION,
    uri: (id) => `#/components/schemas/${id}`,
  });
  return Object.fromEntries(
    Object.entries(schemas).map(([id, { $schema: _dialect, $id: _id, ...schema }]) => [
      id,
      schema as Json,
    ]),
  );
}

/** The `data` of each event type, as `EventData.<type>`. */
function toEventSchemas(): Record<string, Json> {
  const empty = createRegistry({});
  return Object.fromEntries(
    Object.entries(eventTable).map(([type, [, schema]]) => [
      `EventData.${type}`,
      toSchema(schema, empty),
    ]),
  );
}
