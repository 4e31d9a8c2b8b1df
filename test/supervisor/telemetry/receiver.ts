/** An OTLP/HTTP receiver: decodes the JSON form as the protocol says, keeps every span, and can
 *  refuse or hang. */
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { z } from 'zod';

const valueSchema = z.strictObject({
  stringValue: z.string().optional(),
  intValue: z.union([z.string(), z.number()]).optional(),
  doubleValue: z.number().optional(),
  boolValue: z.boolean().optional(),
  arrayValue: z.object({ values: z.array(z.object({ stringValue: z.string() })) }).optional(),
});
const attributesSchema = z.array(z.strictObject({ key: z.string(), value: valueSchema }));
const spanSchema = z.object({
  traceId: z.string().regex(/^[0-9a-f]{32}$/),
  spanId: z.string().regex(/^[0-9a-f]{16}$/),
  parentSpanId: z
    .string()
    .regex(/^[0-9a-f]{16}$/)
    .optional(),
  name: z.string(),
  kind: z.number(),
  startTimeUnixNano: z.string().regex(/^\d+$/),
  endTimeUnixNano: z.string().regex(/^\d+$/),
  attributes: attributesSchema,
  status: z.object({ code: z.number() }),
});
const requestSchema = z.object({
  resourceSpans: z.array(
    z.object({
      resource: z.object({ attributes: attributesSchema }),
      scopeSpans: z.array(
        z.object({ scope: z.object({ name: z.string() }), spans: z.array(spanSchema) }),
      ),
    }),
  ),
});

type OtlpSpan = Omit<z.infer<typeof spanSchema>, 'attributes'> & {
  readonly attributes: Readonly<Record<string, unknown>>;
};

export interface Receiver {
  readonly url: string;
  /** In the order of arrival. */
  readonly spans: OtlpSpan[];
  /** Bodies as they came. */
  readonly bodies: string[];
  readonly requests: { readonly path: string; readonly headers: IncomingHttpHeaders }[];
  readonly resources: Readonly<Record<string, unknown>>[];
  /** What the next requests are answered with; 0: nothing, ever. */
  status: number;
  /** Resolves when `count` requests have come. */
  asked(count: number): Promise<void>;
  /** Resolves when the span of a whole turn is there. */
  turnEnded(count?: number): Promise<void>;
  close(): Promise<void>;
}

export async function startReceiver(): Promise<Receiver> {
  const waiting = new Set<() => void>();
  const until = (isThere: () => boolean): Promise<void> =>
    new Promise((resolve) => {
      const look = (): void => {
        if (!isThere()) return;
        waiting.delete(look);
        resolve();
      };
      waiting.add(look);
      look();
    });
  const receiver: Omit<Receiver, 'url' | 'close'> = {
    spans: [],
    bodies: [],
    requests: [],
    resources: [],
    status: 200,
    asked: (count) => until(() => receiver.requests.length >= count),
    turnEnded: (count = 1) => until(() => roots(receiver.spans).length >= count),
  };
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += String(chunk);
    receiver.requests.push({ path: request.url ?? '', headers: request.headers });
    const { status } = receiver;
    if (status === 200) take(receiver, body);
    if (status !== 0) {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end('{}');
    }
    for (const look of waiting) look();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return Object.assign(receiver, {
    url: `http://127.0.0.1:${port}`,
    close: () => closeServer(server),
  });
}

/** Spans without a parent. */
export function roots(spans: readonly OtlpSpan[]): readonly OtlpSpan[] {
  return spans.filter(({ parentSpanId }) => parentSpanId === undefined);
}

function take(receiver: Pick<Receiver, 'spans' | 'bodies' | 'resources'>, body: string): void {
  receiver.bodies.push(body);
  for (const { resource, scopeSpans } of requestSchema.parse(JSON.parse(body)).resourceSpans) {
    receiver.resources.push(toValues(resource.attributes));
    for (const span of scopeSpans.flatMap(({ spans }) => spans)) {
      receiver.spans.push({ ...span, attributes: toValues(span.attributes) });
    }
  }
}

function toValues(attributes: z.infer<typeof attributesSchema>): Readonly<Record<string, unknown>> {
  return Object.fromEntries(
    attributes.map(({ key, value }) => {
      const { arrayValue, intValue, ...rest } = value;
      if (arrayValue) return [key, arrayValue.values.map(({ stringValue }) => stringValue)];
      return [key, intValue === undefined ? Object.values(rest)[0] : Number(intValue)];
    }),
  );
}

function closeServer(server: Server): Promise<void> {
  server.closeAllConnections();
  return new Promise((resolve) => {
    server.close(() => resolve());
  });
}
