/** Spans to an OTLP/HTTP receiver as JSON, with OpenTelemetry's own exporter. Loaded by import()
 *  only: a supervisor without telemetry never reads these packages. */
import { type HrTime, SpanKind, SpanStatusCode, TraceFlags } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { resourceFromAttributes } from '@opentelemetry/resources';
import type { ReadableSpan } from '@opentelemetry/sdk-trace';
import type { Span } from './spans.ts';
import type { SpanExporter } from './telemetry.ts';

export interface OtlpOptions {
  /** Of the traces, whole. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly version: string;
}

/** One request with all its retries, ms. */
const EXPORT_MS = 10_000;
const NAME = 'prx-supervisor';

export function openOtlpExporter({ url, headers, version }: OtlpOptions): SpanExporter {
  const exporter = new OTLPTraceExporter({
    url,
    headers: { ...headers },
    timeoutMillis: EXPORT_MS,
    concurrencyLimit: 1,
  });
  const resource = resourceFromAttributes({ 'service.name': NAME, 'service.version': version });
  const scope = { resource, instrumentationScope: { name: NAME, version } };
  return {
    export: (spans) =>
      new Promise((resolve, reject) => {
        exporter.export(
          spans.map((span) => ({ ...toReadable(span), ...scope })),
          ({ code, error }) => {
            // 0: accepted.
            if (code === 0) resolve();
            else reject(error ?? new Error('the receiver did not accept the spans'));
          },
        );
      }),
    close: () => exporter.shutdown(),
  };
}

type OwnFields = Omit<ReadableSpan, 'resource' | 'instrumentationScope'>;

function toReadable(span: Span): OwnFields {
  const { traceId, spanId, parentSpanId, startMs, endMs } = span;
  const toContext = (id: string) => ({ traceId, spanId: id, traceFlags: TraceFlags.SAMPLED });
  return {
    name: span.name,
    kind: span.kind === 'client' ? SpanKind.CLIENT : SpanKind.INTERNAL,
    spanContext: () => toContext(spanId),
    ...(parentSpanId === undefined ? {} : { parentSpanContext: toContext(parentSpanId) }),
    startTime: toHrTime(startMs),
    endTime: toHrTime(endMs),
    duration: toHrTime(endMs - startMs),
    ended: true,
    status: { code: span.isError ? SpanStatusCode.ERROR : SpanStatusCode.UNSET },
    attributes: toAttributes(span),
    links: [],
    events: [],
    droppedAttributesCount: 0,
    droppedEventsCount: 0,
    droppedLinksCount: 0,
  };
}

function toAttributes({ attributes }: Span): ReadableSpan['attributes'] {
  return Object.fromEntries(
    Object.entries(attributes).map(([name, value]) => [
      name,
      typeof value === 'object' ? [...value] : value,
    ]),
  );
}

function toHrTime(ms: number): HrTime {
  const seconds = Math.trunc(ms / 1000);
  return [seconds, Math.round((ms - seconds * 1000) * 1e6)];
}
