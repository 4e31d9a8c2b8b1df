/** MCP over streamable HTTP. Redirects stay within the origin (the SDK's rule); each answer has a
 *  bound in bytes and each request one in time, because the other end is not ours. */
import { StreamableHTTPClientTransport, type Transport } from '@modelcontextprotocol/client';
import type { Clock } from '../../base/clock.ts';

/** Of one answer: as of one message over a pipe. */
const ANSWER_BYTES_MAX = 16 * 1024 * 1024;
/** The stream on which the server speaks unasked; opened again, a few times, when it is cut. */
const STREAM_BYTES_MAX = 64 * 1024 * 1024;
const RECONNECTS_MAX = 3;
/** Beside the limit of a call, which the client keeps itself. */
const MARGIN_MS = 5000;

export interface HttpSpec {
  readonly url: string;
  readonly clock: Clock;
  readonly timeoutMs: number;
}

export function createHttpTransport(spec: HttpSpec): Transport {
  return new StreamableHTTPClientTransport(new URL(spec.url), {
    fetch: (url, init) => fetchBounded(spec, url, init),
    reconnectionOptions: {
      initialReconnectionDelay: 1000,
      maxReconnectionDelay: 30_000,
      reconnectionDelayGrowFactor: 2,
      maxRetries: RECONNECTS_MAX,
    },
  });
}

async function fetchBounded(
  { clock, timeoutMs }: HttpSpec,
  url: string | URL,
  init: RequestInit = {},
): Promise<Response> {
  const isStream = (init.method ?? 'GET') === 'GET';
  const late = new AbortController();
  const timer = clock.setTimer(timeoutMs + MARGIN_MS, () => late.abort());
  const signals = [late.signal, ...(init.signal ? [init.signal] : [])];
  const response = await fetch(url, { ...init, signal: AbortSignal.any(signals) }).catch(
    (error: unknown) => {
      timer.cancel();
      throw error;
    },
  );
  // The stream lives as long as the server does.
  if (isStream || response.body === null) timer.cancel();
  if (response.body === null) return response;
  const bytesMax = isStream ? STREAM_BYTES_MAX : ANSWER_BYTES_MAX;
  const body = response.body.pipeThrough(countBytes(bytesMax, () => timer.cancel()));
  const { status, statusText, headers } = response;
  return new Response(body, { status, statusText, headers });
}

function countBytes(bytesMax: number, onEnd: () => void): TransformStream<Uint8Array, Uint8Array> {
  let bytes = 0;
  return new TransformStream({
    transform(chunk, controller) {
      bytes += chunk.length;
      if (bytes <= bytesMax) controller.enqueue(chunk);
      else controller.error(new Error(`the answer has more than ${bytesMax} bytes`));
    },
    flush: onEnd,
  });
}
