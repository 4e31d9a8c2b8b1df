/** Ten thousand requests made from the OpenAPI document: what it allows, and what is next to it.
 *  Whatever comes, the answer is one of its own (never a 5xx that is ours), and no stream, no
 *  connection and no follower is left. A failure prints the seed. */
import { Agent, request } from 'node:http';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { createOpenapi } from '../../api/openapi.ts';
import { routeTable } from '../../api/routes/index.ts';
import { openRig, type Rig, tokens } from './harness.ts';

const REQUESTS = 10_000;
const BATCH = 20;

interface Schema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly anyOf?: readonly Schema[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
}

interface Operation {
  readonly operationId: string;
  readonly parameters?: readonly { name: string; in: string; schema: Schema }[];
  readonly requestBody?: { content: { 'application/json': { schema: Schema } } };
}

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
}

const document = createOpenapi(routeTable, '1') as unknown as Document;

/** Values that a schema allows, and now and then one that it does not. */
function toArbitrary(schema: Schema, depth = 0): fc.Arbitrary<unknown> {
  return fc.oneof(
    { weight: 6, arbitrary: toFitting(schema, depth) },
    { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 2 }) },
  );
}

function toFitting(schema: Schema, depth: number): fc.Arbitrary<unknown> {
  const { $ref: ref, anyOf, type, properties = {} } = schema;
  if (depth > 4) return fc.constant(null);
  if (ref !== undefined) {
    return toArbitrary(document.components.schemas[ref.split('/').at(-1) ?? ''] ?? {}, depth + 1);
  }
  if (schema.const !== undefined) return fc.constant(schema.const);
  if (schema.enum !== undefined) return fc.constantFrom(...schema.enum);
  if (anyOf !== undefined) return fc.oneof(...anyOf.map((each) => toArbitrary(each, depth + 1)));
  switch (type) {
    case 'object': {
      const fields = Object.entries(properties).map(
        ([name, value]) => [name, toArbitrary(value, depth + 1)] as const,
      );
      return fc.record(Object.fromEntries(fields), { requiredKeys: [] });
    }
    case 'array':
      return fc.array(toArbitrary(schema.items ?? {}, depth + 1), { maxLength: 4 });
    case 'string':
      return fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('a', '@last', '1.1.1', ''));
    case 'integer':
    case 'number':
      return fc.oneof(fc.integer(), fc.double(), fc.nat(9));
    case 'boolean':
      return fc.boolean();
    default:
      return fc.jsonValue({ maxDepth: 2 });
  }
}

interface Made {
  readonly id: string;
  readonly method: string;
  readonly path: string;
  readonly token: string;
  readonly body: string | undefined;
}

const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
);

const requests: fc.Arbitrary<Made> = fc.constantFrom(...operations).chain((one) => {
  const { path, method, operation } = one;
  const parameters = operation.parameters ?? [];
  const values = fc.record(
    Object.fromEntries(parameters.map(({ name, schema }) => [name, toArbitrary(schema)])),
  );
  const schema = operation.requestBody?.content['application/json'].schema;
  const body = schema === undefined ? fc.constant(undefined) : toArbitrary(schema);
  const token = fc.constantFrom(...Object.values(tokens), 'wrong');
  return fc.record({ values, body, token, isCut: fc.nat(20) }).map((drawn) => {
    const encode = (name: string) => encodeURIComponent(toText(drawn.values[name]));
    const query = parameters.filter((each) => each.in === 'query' && drawn.values[each.name]);
    const pairs = query.map(({ name }) => `${name}=${encode(name)}`);
    const text = drawn.body === undefined ? undefined : JSON.stringify(drawn.body);
    return {
      id: operation.operationId,
      method: method.toUpperCase(),
      path: `${path.replaceAll(/\{(\w+)\}/g, (_, name) => encode(name))}?${pairs.join('&')}`,
      token: drawn.token,
      body: drawn.isCut === 0 ? text?.slice(0, -1) : text,
    };
  });
});

/** As a client would write it; half a surrogate pair cannot be part of a URL. */
function toText(value: unknown): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? '');
  return text.toWellFormed();
}

let rig: Rig;
let port: number;
const agent = new Agent({ keepAlive: true, maxSockets: BATCH });
beforeAll(async () => {
  rig = await openRig();
  port = (await rig.api.listenTcp({ host: '127.0.0.1', port: 0 })).port;
  await rig.client.createSession({ name: 'a' });
});
afterAll(async () => {
  agent.destroy();
  await rig.close();
});

/** The status; a stream is left as soon as it has begun. */
function send({ method, path, token, body }: Made): Promise<number> {
  const headers = {
    authorization: `Bearer ${token}`,
    ...(body === undefined ? {} : { 'content-type': 'application/json' }),
  };
  return new Promise((resolve, reject) => {
    const outgoing = request({ port, method, path, headers, agent }, (answer) => {
      const status = answer.statusCode ?? 0;
      const isStream = answer.headers['content-type']?.startsWith('text/event-stream');
      answer.on('error', () => undefined);
      answer.on('close', () => resolve(status));
      if (isStream) answer.destroy();
      else answer.resume();
    });
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

/** 503 is an answer of the probes and of a facade without its turn; the others are failures. */
const isOurs = (status: number): boolean => status >= 500 && status !== 501 && status !== 503;

test('any request has an answer that is not our failure, and leaves nothing behind', async () => {
  const seen = new Set<string>();
  await fc.assert(
    fc.asyncProperty(fc.array(requests, { minLength: BATCH, maxLength: BATCH }), async (batch) => {
      const statuses = await Promise.all(batch.map(send));
      const failed = batch.filter((_, index) => isOurs(statuses[index] ?? 500));
      for (const { id } of batch) seen.add(id);
      expect(failed).toEqual([]);
    }),
    { numRuns: REQUESTS / BATCH, endOnFailure: true },
  );
  expect(seen.size).toBe(operations.length);
  await rig.supervisor.unfollowed();
  expect((await rig.client.getHealth()).status).toBe('ok');
});
