/** The fetch tool: one page or file by HTTP, as text. Made by the host under the session's own
 *  rules, each redirect judged and recorded like the first request. What comes is a stranger's:
 *  it is bounded, decoded and handed on as data. */
import { type IncomingMessage, request } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import type { z } from 'zod';
import type { Clock } from '../../base/clock.ts';
import { systemCode } from '../../base/errors.ts';
import { type CanonicalHost, parseHost } from '../../base/hostnames.ts';
import type { Fingerprints } from '../../protocol/fingerprints.ts';
import type { EffectId } from '../../protocol/ids.ts';
import { redactBeginning, redactText } from '../../protocol/redactor.ts';
import type { fetchArgumentsSchema } from '../../protocol/tools.ts';
import { createCollector } from '../collect.ts';
import { type OpenRequest, openRequest, type RequestDeps } from '../network/requests.ts';
import { joinSentence, type ToolResult, toFailure, toShown } from '../outcome.ts';
import { ARTIFACT_BYTES_MAX, createSpill } from '../spill.ts';
import type { ToMarkdown } from './html.ts';
import {
  type ContentType,
  decodeText,
  isBinary,
  parseContentType,
  type ReadBody,
  readBody,
} from './web-body.ts';

export interface FetchCall {
  readonly requests: RequestDeps;
  readonly toMarkdown: ToMarkdown;
  readonly clock: Clock;
  readonly effect: EffectId;
  readonly arguments: z.infer<typeof fetchArgumentsSchema>;
  readonly limits: { readonly timeoutMs: number; readonly maxOutputBytes: number };
  readonly artifact: { readonly id: string; readonly path: string };
  readonly fingerprints: () => Fingerprints;
  readonly signal: AbortSignal;
}

const REDIRECTS_MAX = 5;
const BYTES_DEFAULT = 1024 * 1024;
const HEADER_BYTES_MAX = 64 * 1024;
const BODILESS = [204, 205, 304];
const noBody: ReadBody = { bytes: Buffer.alloc(0), isCut: false };
const USER_AGENT = 'prx-supervisor (fetch tool)';

/** Every end is a result. */
export async function runFetch(call: FetchCall): Promise<ToolResult> {
  const { clock, limits, signal } = call;
  const stop = new AbortController();
  const cancel = (): void => stop.abort('cancelled');
  const timer = clock.setTimer(limits.timeoutMs, () => stop.abort('timeout'));
  signal.addEventListener('abort', cancel, { once: true });
  if (signal.aborted) cancel();
  try {
    return await follow(call, stop.signal);
  } catch (error) {
    if (!stop.signal.aborted) return toFailure(describeFailure(error));
    const seconds = limits.timeoutMs / 1000;
    const isLate = stop.signal.reason === 'timeout';
    const ended = isLate ? `not answered within ${seconds} s` : 'cancelled';
    return toFailure(`The request was ${ended}.`, isLate ? 'timeout' : 'cancelled');
  } finally {
    timer.cancel();
    signal.removeEventListener('abort', cancel);
  }
}

/** Asks, and asks again where it is sent, a bounded number of times. */
async function follow(call: FetchCall, signal: AbortSignal): Promise<ToolResult> {
  let target = call.arguments.url;
  for (let hops = 0; hops <= REDIRECTS_MAX; hops += 1) {
    const answer = await ask(call, target, signal);
    if (answer.kind === 'refused') return answer.result;
    if (answer.kind === 'answered') return await show({ ...call, signal }, answer);
    target = answer.location;
  }
  const message = `More than ${REDIRECTS_MAX} redirects; the last one went to ${toPublic(target)}.`;
  return toFailure(`${message} Ask for that place itself if it is the right one.`);
}

interface Answered {
  readonly kind: 'answered';
  readonly url: URL;
  readonly response: IncomingMessage;
  readonly body: ReadBody;
}

type Answer =
  | Answered
  | { readonly kind: 'refused'; readonly result: ToolResult }
  | { readonly kind: 'redirect'; readonly location: string };

async function ask(call: FetchCall, text: string, signal: AbortSignal): Promise<Answer> {
  const target = parseTarget(text);
  if (typeof target === 'string') return { kind: 'refused', result: toFailure(target) };
  const { url, host, port } = target;
  const method = call.arguments.method ?? 'GET';
  const asked = { via: 'fetch', call: call.effect, method, host, port } as const;
  const opened = await openRequest(call.requests, asked);
  if (opened.kind === 'refused') {
    const status = opened.status === 403 ? 'denied' : 'error';
    return { kind: 'refused', result: toFailure(opened.text.trim(), status) };
  }
  const { socket } = opened.request;
  const abort = (): void => void socket.destroy(new Error('stopped'));
  signal.addEventListener('abort', abort, { once: true });
  if (signal.aborted) abort();
  let status = 502;
  try {
    const response = await exchange(opened.request, { method, url, host });
    status = response.statusCode ?? status;
    const location = toLocation(response, url);
    if (location !== undefined) return { kind: 'redirect', location };
    const bytesMax = call.arguments.max_bytes ?? BYTES_DEFAULT;
    // What describes a body is there without one, too: of an empty gzip nothing can be unpacked.
    const isEmpty = method === 'HEAD' || BODILESS.includes(status);
    const body = isEmpty ? noBody : await readBody(response, response.headers, bytesMax);
    return { kind: 'answered', url, response, body };
  } finally {
    signal.removeEventListener('abort', abort);
    socket.destroy();
    await opened.request.finish(status);
  }
}

interface FetchTarget {
  readonly url: URL;
  readonly host: CanonicalHost;
  readonly port: number;
}

function parseTarget(text: string): FetchTarget | string {
  const url = URL.parse(text);
  if (url === null) return `${JSON.stringify(text)} is no URL; write it whole: https://host/path.`;
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    return `${url.protocol} is not fetched, only http: and https:.`;
  }
  if (url.username !== '' || url.password !== '') {
    return 'A URL with a user or a password in it is not fetched. Leave them out; a secret for a domain is configured, and then sent as a header.';
  }
  const host = parseHost(url.hostname);
  if (host === undefined) return `${JSON.stringify(url.hostname)} is no valid host name.`;
  const ofScheme = url.protocol === 'https:' ? 443 : 80;
  return { url, host, port: url.port === '' ? ofScheme : Number(url.port) };
}

/** One request on the connection that was opened for it. Rejects with the system's error. */
async function exchange(
  { socket, headers }: OpenRequest,
  asked: { readonly method: string; readonly url: URL; readonly host: CanonicalHost },
): Promise<IncomingMessage> {
  const { method, url, host } = asked;
  const stream = url.protocol === 'https:' ? await secure(socket, host) : socket;
  return await new Promise((resolve, reject) => {
    const outgoing = request({
      createConnection: () => stream,
      method,
      path: `${url.pathname}${url.search}`,
      maxHeaderSize: HEADER_BYTES_MAX,
      headers: {
        host: url.host,
        'user-agent': USER_AGENT,
        accept: 'text/html, application/json, text/*;q=0.9, */*;q=0.5',
        'accept-encoding': 'gzip, br',
        connection: 'close',
        ...headers,
      },
    });
    outgoing.once('response', resolve);
    outgoing.once('error', reject);
    socket.once('close', () => reject(new Error('the server closed the connection')));
    outgoing.end();
  });
}

/** The certificate must be valid for the name that was asked for, not for the address. */
function secure(socket: Socket, host: CanonicalHost): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const name = host.kind === 'name' ? { servername: host.host } : { host: host.host };
    const stream = connectTls({ socket, ...name, ALPNProtocols: ['http/1.1'] });
    stream.once('secureConnect', () => resolve(stream));
    stream.on('error', reject);
    socket.once('close', () => reject(new Error('the server closed the connection')));
  });
}

function toLocation(response: IncomingMessage, base: URL): string | undefined {
  const { statusCode = 0, headers } = response;
  if (![301, 302, 303, 307, 308].includes(statusCode)) return undefined;
  return headers.location === undefined ? undefined : URL.parse(headers.location, base)?.href;
}

/** The text for the model: one line about the answer, then what it holds. */
async function show(call: FetchCall, answer: Answered): Promise<ToolResult> {
  const { response, body, url } = answer;
  const type = parseContentType(response.headers['content-type']);
  const { statusCode = 0, statusMessage = '' } = response;
  const isBad = statusCode >= 400;
  const head = `${statusCode} ${statusMessage} from ${toPublic(url.href)} (${type.name})`.trim();
  const status = isBad ? 'error' : 'ok';
  if (call.arguments.method === 'HEAD') {
    return { status, output: `${head}\n${listHeaders(response)}`, truncated: false };
  }
  if (type.kind === 'binary' || isBinary(body.bytes, type)) {
    const size = response.headers['content-length'] ?? `at least ${body.bytes.length}`;
    const output = `${head}: ${size} bytes that are not text. To have the file, download it with the shell tool.`;
    return { status: 'error', output, truncated: false };
  }
  const page = await toPage(call, answer, type);
  const shown = shorten(call, `${head}${page.note}\n\n${page.text}`);
  const cut = body.isCut ? `cut after ${body.bytes.length} bytes; ask with a larger max_bytes` : '';
  const output = cut === '' ? shown.output : joinSentence(shown.output, cut);
  return { ...shown, status, output, truncated: shown.truncated || body.isCut };
}

async function toPage(
  call: FetchCall,
  { body, url }: Answered,
  type: ContentType,
): Promise<{ readonly text: string; readonly note: string }> {
  const whole = decodeText(body.bytes, type);
  // Where the model may choose the end, it would choose it one byte before the end of a value.
  const text = body.isCut ? redactBeginning(whole, call.fingerprints()) : whole;
  if (type.kind !== 'html' || call.arguments.raw === true) return { text, note: '' };
  const markdown = await call.toMarkdown({ html: text, url: url.href }, call.signal);
  if (markdown === undefined) return { text, note: ', as it is: it took too long to convert' };
  return { text: markdown, note: ', as Markdown' };
}

/** Whole in an artifact where it is too long to be shown. */
function shorten(call: FetchCall, text: string): ReturnType<typeof toShown> {
  const { limits, artifact, fingerprints } = call;
  // A server may send back what it was sent.
  const clean = redactText(text, fingerprints());
  const collector = createCollector(limits.maxOutputBytes);
  const spill = createSpill({
    path: artifact.path,
    thresholdBytes: limits.maxOutputBytes,
    bytesMax: ARTIFACT_BYTES_MAX,
  });
  collector.add(clean);
  spill.add(Buffer.from(clean));
  return toShown({ collector, spill: spill.finish(), artifact: artifact.id });
}

const SHOWN_HEADERS = [
  ...['content-type', 'content-length', 'last-modified', 'etag', 'cache-control', 'location'],
  ...['content-disposition', 'retry-after', 'server', 'link'],
];

function listHeaders({ headers }: IncomingMessage): string {
  const lines = SHOWN_HEADERS.flatMap((name) =>
    headers[name] === undefined ? [] : [`${name}: ${String(headers[name])}`],
  );
  return lines.join('\n');
}

/** Without what may be a secret: a redirect often carries one in its query. */
function toPublic(href: string): string {
  const url = URL.parse(href);
  return url === null ? 'an invalid URL' : `${url.protocol}//${url.host}${url.pathname}`;
}

function describeFailure(error: unknown): string {
  const code = systemCode(error);
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER') {
    return 'The request failed: the server does not speak TLS at this port; ask for http: there.';
  }
  const message = error instanceof Error ? error.message : String(error);
  return `The request failed: ${code === undefined ? message : `${message} (${code})`}.`;
}
