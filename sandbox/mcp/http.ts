/** MCP over streamable HTTP. Each answer has a bound in bytes and each request one in time, because
 *  the other end is not ours. A redirect stays within the origin (the SDK's rule) and within what
 *  is allowed. A value of the vault is asked for with each request that carries it, kept nowhere,
 *  and is taken out of the answer, so that no message, error or description can repeat it. */
import { StreamableHTTPClientTransport, type Transport } from '@modelcontextprotocol/client';
import type { Clock } from '../../base/clock.ts';
import { PrxError } from '../../base/errors.ts';
import { type Fingerprints, noFingerprints, toFingerprints } from '../../protocol/fingerprints.ts';
import type { McpReach, McpSecrets } from '../../protocol/mcp-methods.ts';
import { isBelow } from '../../protocol/mcp-urls.ts';
import { createRedactor, redactText } from '../../protocol/redactor.ts';
import { tellOfCutStreams } from './no-answer.ts';
import { createReopening, PAUSE_MS_MAX } from './reopening.ts';

/** Of one answer: as of one message over a pipe. */
const ANSWER_BYTES_MAX = 16 * 1024 * 1024;
/** The stream on which the server speaks unasked; opened again when it is cut, and tried a few
 *  times when it cannot be. */
const STREAM_BYTES_MAX = 64 * 1024 * 1024;
const RECONNECTS_MAX = 3;
/** Beside the limit of a call, which the client keeps itself. */
const MARGIN_MS = 5000;

export interface HttpSpec {
  readonly reach: Extract<McpReach, { kind: 'url' }>;
  readonly clock: Clock;
  readonly timeoutMs: number;
  /** Asked only where the reach has headers. */
  readonly readSecrets: () => Promise<McpSecrets>;
}

export function createHttpTransport(spec: HttpSpec): Transport {
  const http = new StreamableHTTPClientTransport(new URL(spec.reach.url), {
    fetch: (url, init) => fetchBounded(spec, url, init),
    reconnectionScheduler: createReopening(spec.clock),
    reconnectionOptions: {
      initialReconnectionDelay: 1000,
      maxReconnectionDelay: PAUSE_MS_MAX,
      reconnectionDelayGrowFactor: 2,
      maxRetries: RECONNECTS_MAX,
    },
  });
  return tellOfCutStreams(http);
}

/** One hop; asked again for each redirect. Throws POLICY_DENIED before anything is sent, and
 *  MCP_UNAVAILABLE where not even the head of an answer came. */
async function fetchBounded(
  spec: HttpSpec,
  url: string | URL,
  init: RequestInit = {},
): Promise<Response> {
  const { clock, timeoutMs, reach } = spec;
  checkAllowed(reach.within, String(url));
  // Before the vault is asked.
  init.signal?.throwIfAborted();
  const { headers, prints } = await takeHeaders(spec, init.headers);
  const isStream = (init.method ?? 'GET') === 'GET';
  const late = new AbortController();
  const timer = clock.setTimer(timeoutMs + MARGIN_MS, () => late.abort());
  const signals = [late.signal, ...(init.signal ? [init.signal] : [])];
  const signal = AbortSignal.any(signals);
  const response = await fetch(url, { ...init, headers, signal }).catch((error: unknown) => {
    timer.cancel();
    if (signal.aborted) throw error;
    throw new PrxError('MCP_UNAVAILABLE', 'no answer came', { cause: error });
  });
  // The stream lives as long as the server does.
  if (isStream || response.body === null) timer.cancel();
  const said = redactHead(response, prints);
  if (response.body === null) return new Response(null, said);
  const bytesMax = isStream ? STREAM_BYTES_MAX : ANSWER_BYTES_MAX;
  const body = response.body
    .pipeThrough(countBytes(bytesMax, () => timer.cancel()))
    .pipeThrough(redactBytes(prints));
  return new Response(body, said);
}

function checkAllowed(within: readonly string[], url: string): void {
  if (within.length === 0 || within.some((allowed) => isBelow(url, allowed))) return;
  const { origin, pathname } = new URL(url);
  const message = `${origin}${pathname} is not below one of mcp.allowed_urls; nothing was sent there`;
  throw new PrxError('POLICY_DENIED', message);
}

/** Without one that is configured, a request would only fail further away and say less. */
async function takeHeaders(
  { reach, readSecrets }: HttpSpec,
  own: RequestInit['headers'],
): Promise<{ readonly headers: Headers; readonly prints: Fingerprints }> {
  const headers = new Headers(own);
  if (reach.headers.length === 0) return { headers, prints: noFingerprints };
  const answer = await readSecrets();
  if (answer.kind === 'refused') throw refused(answer.reason);
  for (const { header, secret, format } of reach.headers) {
    const value = answer.values[secret];
    if (value === undefined) throw refused(`the secret ${secret} was not given`);
    // Said without the value, as the error of whoever would refuse it is not.
    if (!/^[\x20-\x7e]*$/.test(value)) {
      throw refused(`the secret ${secret} does not fit into a header: it is not one line of ASCII`);
    }
    headers.set(
      header,
      format.replaceAll('{value}', () => value),
    );
  }
  const values = Object.entries(answer.values);
  const named = values.map(([name, value]) => ({ name, value: Buffer.from(value) }));
  // Only theirs: they have no line ends, so the end of an event never waits for the next one.
  return { headers, prints: toFingerprints(named, '') };
}

function refused(reason: string): PrxError {
  return new PrxError('POLICY_DENIED', `${reason}; nothing was sent`);
}

function redactHead({ status, statusText, headers }: Response, prints: Fingerprints): ResponseInit {
  const entries = [...headers].map(([name, value]): [string, string] => [
    name,
    redactText(value, prints),
  ]);
  return { status, statusText: redactText(statusText, prints), headers: entries };
}

function redactBytes(prints: Fingerprints): TransformStream<Uint8Array, Uint8Array> {
  const redactor = createRedactor(() => prints);
  return new TransformStream({
    transform: (chunk, controller) => controller.enqueue(redactor.push(Buffer.from(chunk))),
    flush: (controller) => controller.enqueue(redactor.end()),
  });
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
