/** What watches the events as they are published: the counters of /metrics and, where they are
 *  configured, traces. Neither is waited for by anybody who appends. */
import { type Clock, toTimestamp } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { EventEnvelope } from '../protocol/events.ts';
import type { ProcessView, StatusView } from '../protocol/resources.ts';
import type { Store } from '../store/contract.ts';
import type { MemoryWatch } from './children/memory.ts';
import type { Config, Environment } from './config.ts';
import { createMeasures } from './measures.ts';
import { toHostMemory, toMetrics, toWorkerMemory } from './metrics.ts';
import type { Session } from './sessions/session.ts';
import { createTelemetry, type Telemetry, type TraceCounts } from './telemetry/telemetry.ts';

export interface ObservationDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly env: Environment;
  readonly version: string;
  /** Where traces go is read once, at the start. */
  readonly config: () => Config;
}

export interface Observation {
  /** When it began, RFC 3339. */
  readonly startedAt: string;
  /** On the path of a token: it does little, and throws nothing. */
  readonly observe: (event: EventEnvelope) => void;
  /** The text of /metrics. */
  metrics(live: {
    readonly status: StatusView;
    readonly sessions: readonly Session[];
    readonly processes: readonly ProcessView[];
    readonly memory: MemoryWatch;
  }): Promise<string>;
  /** Sends the traces that wait, within a bound. Never rejects. */
  stop(): Promise<void>;
}

const NO_TRACES: TraceCounts = { exported: 0, failed: 0, dropped: 0 };

export function createObservation(deps: ObservationDeps): Observation {
  const measures = createMeasures(deps.clock);
  const telemetry = openTelemetry(deps);
  return {
    startedAt: toTimestamp(deps.clock.wallMs()),
    observe:
      telemetry === undefined
        ? measures.observe
        : (event) => {
            measures.observe(event);
            telemetry.observe(event);
          },
    async metrics({ status, sessions, processes, memory }) {
      return toMetrics(status, await deps.store.readCensus(), {
        rssBytes: process.memoryUsage.rss(),
        workers: toWorkerMemory(sessions, memory),
        hosts: toHostMemory(processes),
        measured: measures.read(),
        traces: telemetry?.counts() ?? NO_TRACES,
      });
    },
    stop: async () => telemetry?.stop(),
  };
}

function openTelemetry(deps: ObservationDeps): Telemetry | undefined {
  const { config, env, version } = deps;
  const { otlp_endpoint: endpoint, headers_env: name } = config().raw.telemetry;
  if (endpoint === undefined) return undefined;
  return createTelemetry({
    ...deps,
    provider: () => config().provider.kind,
    async openExporter() {
      const { openOtlpExporter } = await import('./telemetry/otlp.ts');
      const url = `${endpoint.replace(/\/+$/, '')}/v1/traces`;
      return openOtlpExporter({ url, headers: parseHeaders(env[name] ?? ''), version });
    },
  });
}

/** `name=value,name=value`, each value percent-encoded: the form of OTEL_EXPORTER_OTLP_HEADERS. */
function parseHeaders(text: string): Readonly<Record<string, string>> {
  const pairs = text.split(',').flatMap((pair) => {
    const at = pair.indexOf('=');
    if (at < 1) return [];
    return [[pair.slice(0, at).trim().toLowerCase(), decode(pair.slice(at + 1).trim())]];
  });
  return Object.fromEntries(pairs) as Record<string, string>;
}

function decode(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    // Not encoded: a plain % in a token.
    return value;
  }
}
