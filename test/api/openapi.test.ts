/** The OpenAPI document: every route is in it, every reference leads somewhere, and its schemas
 *  say of real answers that they are valid. */
import { describe, expect, test } from '@jest/globals';
import { createOpenapi } from '../../api/openapi.ts';
import { routeTable } from '../../api/routes/index.ts';

interface Operation {
  readonly operationId: string;
  readonly parameters?: readonly { name: string; in: string; required: boolean; schema: object }[];
  readonly requestBody?: { required: boolean; content: Record<string, { schema: object }> };
  readonly responses: Record<string, object>;
  readonly security?: readonly unknown[];
}

const json = JSON.stringify(createOpenapi(routeTable, '1.2.3'));
const document = JSON.parse(json) as {
  openapi: string;
  info: { title: string; version: string };
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, object> };
};

describe('the document', () => {
  test('is OpenAPI 3.1 of this version', () => {
    expect([document.openapi, document.info.title, document.info.version]).toEqual([
      '3.1.0',
      'prx-supervisor',
      '1.2.3',
    ]);
  });

  test('has exactly the routes of the table', () => {
    const documented = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, { operationId }]) => [operationId, method, path]),
    );
    const routes = routeTable.map(({ id, method, path }) => [id, method.toLowerCase(), path]);
    expect(documented.sort()).toEqual(routes.sort());
    expect(new Set(routeTable.map(({ id }) => id)).size).toBe(routeTable.length);
  });

  test('names only references that exist', () => {
    const references = [...json.matchAll(/"\$ref":"#\/([^"]+)"/g)].map(([, path]) => path ?? '');
    const missing = references.filter((path) => {
      let value: unknown = document;
      for (const key of path.split('/')) value = (value as Record<string, unknown>)?.[key];
      return value === undefined;
    });
    expect([references.length > 20, missing]).toEqual([true, []]);
  });

  test('has every parameter of a path, and none else', () => {
    for (const [path, methods] of Object.entries(document.paths)) {
      const names = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
      for (const operation of Object.values(methods)) {
        const inPath = (operation.parameters ?? []).filter((one) => one.in === 'path');
        expect(inPath.map(({ name }) => name)).toEqual(names);
        expect(inPath.every(({ required }) => required)).toBe(true);
      }
    }
  });

  test('has a success and a problem for every operation', () => {
    for (const { id, status, otherStatuses = [], path, method } of routeTable) {
      const responses = document.paths[path]?.[method.toLowerCase()]?.responses ?? {};
      const statuses = [status, ...otherStatuses].map(String).sort();
      expect({ id, keys: Object.keys(responses) }).toEqual({ id, keys: [...statuses, 'default'] });
      const shape = path.startsWith('/v1/') ? 'OpenaiError' : 'Problem';
      expect(responses['default']).toEqual({ $ref: `#/components/responses/${shape}` });
    }
  });

  test.each([
    ['a session that the key made before', '/api/v1/sessions', 'post', '200'],
    ['a supervisor that takes no work', '/readyz', 'get', '503'],
    ['a part of an artifact', '/api/v1/sessions/{id}/artifacts/{artifact_id}', 'get', '206'],
  ])('%s is no problem: as the usual answer', (_name, path, method, status) => {
    const { default: _problem, ...own } = document.paths[path]?.[method]?.responses ?? {};
    const [usual, ...others] = Object.values(own).filter((each) => 'content' in each);
    expect([status in own, others]).toEqual([true, [usual]]);
  });

  test.each([
    '/api/v1/sessions',
    '/api/v1/sessions/{id}',
    '/api/v1/sessions/{id}/artifacts/{artifact_id}',
    '/',
    '/dashboard/{name}',
  ])('%s may be what the client has, without a body', (path) => {
    const { description: _words, ...rest } = (document.paths[path]?.['get']?.responses['304'] ??
      {}) as { description?: string };
    expect([typeof _words, rest]).toEqual(['string', {}]);
  });

  test('asks for no token at the probes, the page and signed links only', () => {
    const open = Object.values(document.paths)
      .flatMap((methods) => Object.values(methods))
      .filter(({ security }) => security?.length === 0)
      .map(({ operationId }) => operationId);
    expect(open.sort()).toEqual([
      ...['answerLink', 'getHealth', 'getPage', 'getPageFile', 'getReadiness', 'readLink'],
    ]);
  });

  test('says what a body must be, and when it may be absent', () => {
    const bodyOf = (path: string) => document.paths[path]?.['post']?.requestBody;
    expect(bodyOf('/api/v1/sessions/{id}/input')).toEqual({
      required: true,
      content: { 'application/json': { schema: { $ref: '#/components/schemas/SendInput' } } },
    });
    expect(bodyOf('/api/v1/sessions')?.required).toBe(false);
    expect(bodyOf('/api/v1/reload')).toBeUndefined();
  });

  test('says of every answer what it is, a stream of events too', () => {
    const typesOf = (path: string, method: string): string[] => {
      const operation = document.paths[path]?.[method];
      const { content } = (operation?.responses['200'] ?? {}) as { content?: object };
      return Object.keys(content ?? {});
    };
    const both = ['application/json', 'text/event-stream'];
    expect(typesOf('/api/v1/sessions/{id}/events', 'get')).toEqual(both);
    expect(typesOf('/api/v1/events', 'get')).toEqual(both);
    expect(typesOf('/v1/chat/completions', 'post')).toEqual(both);
    expect(typesOf('/v1/responses', 'post')).toEqual(both);
    expect(typesOf('/v1/responses/{id}', 'get')).toEqual(both);
    expect(typesOf('/api/v1/sessions', 'get')).toEqual(['application/json']);
    const mute = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.keys(methods)
        .filter((method) => {
          const has200 = methods[method]?.responses['200'] !== undefined;
          return has200 && typesOf(path, method).length === 0;
        })
        .map((method) => `${method} ${path}`),
    );
    expect(mute).toEqual([]);
  });

  test('leaves answers open to new fields, and closes requests', () => {
    const { Session, CreateSession } = document.components.schemas;
    expect(Session).not.toHaveProperty('additionalProperties');
    expect(CreateSession).toHaveProperty('additionalProperties', false);
  });

  test('writes numbers of a query as numbers', () => {
    const events = document.paths['/api/v1/sessions/{id}/events']?.['get'];
    const since = events?.parameters?.find(({ name }) => name === 'since');
    expect(since).toMatchObject({ in: 'query', required: false, schema: { type: 'integer' } });
  });

  test('describes the data of every event', () => {
    expect(document.components.schemas).toHaveProperty(['EventData.turn.completed']);
  });
});
