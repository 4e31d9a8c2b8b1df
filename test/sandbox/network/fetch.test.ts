/** The fetch tool against servers on the loopback: what is shown of which answer, redirects,
 *  charsets, bounds, and the same refusals as through the proxy. */
import { readFileSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { z } from 'zod';
import { realClock } from '../../../base/clock.ts';
import { realRandom } from '../../../base/random.ts';
import { toFingerprints } from '../../../protocol/fingerprints.ts';
import { effectIdSchema } from '../../../protocol/ids.ts';
import { type Injection, type NetworkRequest, noNetwork } from '../../../protocol/network.ts';
import type { fetchArgumentsSchema } from '../../../protocol/tools.ts';
import type { RequestDeps } from '../../../sandbox/network/requests.ts';
import { createNetworkRules } from '../../../sandbox/network/rules.ts';
import { runFetch } from '../../../sandbox/tools/fetch.ts';
import { createToMarkdown } from '../../../sandbox/tools/html.ts';
import { createCertificate } from '../../api/self-signed.ts';

type Handler = (request: IncomingMessage, answer: ServerResponse) => void;
type Arguments = Partial<z.infer<typeof fetchArgumentsSchema>>;

let handler: Handler;
let place: string;
let requests: NetworkRequest[];
const closers: (() => void)[] = [];

beforeEach(async () => {
  requests = [];
  handler = (_request, answer) => answer.end('hello');
  const server = createServer((request, answer) => handler(request, answer));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closers.push(() => server.close());
  place = `127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

const answerWith =
  (type: string, body: string | Buffer, more: Record<string, string> = {}): Handler =>
  (_request, answer) => {
    answer.writeHead(200, { 'content-type': type, ...more });
    answer.end(body);
  };

interface Options {
  readonly allowed?: readonly string[];
  readonly injections?: readonly Injection[];
  readonly maxOutputBytes?: number;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

const page = new URL('../../../sandbox/tools/html-main.ts', import.meta.url).pathname;
const toMarkdown = createToMarkdown(page, realClock);

function run(args: Arguments & { url: string }, options: Options = {}) {
  const id = `prx-fetch-test-${realRandom.hex(8)}`;
  const artifact = { id, path: join(tmpdir(), id) };
  closers.push(() => rmSync(artifact.path, { force: true }));
  const allowedDomains = [...(options.allowed ?? [place])];
  const injections = [...(options.injections ?? [])];
  const deps: RequestDeps = {
    clock: realClock,
    rules: createNetworkRules({ ...noNetwork, mode: 'allowlist', allowedDomains }),
    lookup: async () => ['127.0.0.1'],
    injections,
    readSecret: async () => ({ kind: 'value', value: 'swordfish' }),
    canRecord: () => true,
    count: () => 1,
    report: async (request) => void requests.push(request),
  };
  const prints = toFingerprints([{ name: 'KEY', value: Buffer.from('swordfish') }], 'seed');
  const limits = {
    timeoutMs: options.timeoutMs ?? 8000,
    maxOutputBytes: options.maxOutputBytes ?? 65_536,
  };
  return runFetch({
    ...{ requests: deps, toMarkdown, clock: realClock, limits, artifact, arguments: args },
    effect: effectIdSchema.parse('1.1.1'),
    fingerprints: () => prints,
    signal: options.signal ?? new AbortController().signal,
  }).then((result) => ({ ...result, path: artifact.path }));
}

const at = (path: string): string => `http://${place}${path}`;

describe('what is shown', () => {
  test('text and JSON as they are, with one line about the answer', async () => {
    handler = answerWith('application/json', '{"a":1}');
    const result = await run({ url: at('/x?key=abc') });
    expect(result).toMatchObject({ status: 'ok', truncated: false });
    expect(result.output).toBe(`200 OK from http://${place}/x (application/json)\n\n{"a":1}`);
    expect(requests).toMatchObject([
      { via: 'fetch', call_id: '1.1.1', method: 'GET', status: 200 },
    ]);
    expect(JSON.stringify(requests)).not.toContain('abc');
  });

  test('HTML as Markdown: whole links, tables, no scripts; raw on demand', async () => {
    const html =
      '<h1>Title</h1><script>evil()</script><p><a href="/next">on</a> <a href="javascript:x()">js</a>' +
      '<img src="x" alt="a cat"></p><table><tr><th>k</th><th>v</th></tr><tr><td>1</td><td>2</td></tr></table>';
    handler = answerWith('text/html; charset=utf-8', html);
    const { output } = await run({ url: at('/') });
    expect(output).toContain('(text/html), as Markdown\n\n# Title');
    expect(output).toContain(`[on](http://${place}/next)`);
    expect(output).toContain('[image: a cat]');
    expect(output).toMatch(/\| 1\s+\| 2\s+\|/);
    expect(output).not.toMatch(/evil|javascript/);
    expect((await run({ url: at('/'), raw: true })).output).toContain('<script>evil()');
  });

  test.each([
    ['a header', 'text/plain; charset=iso-8859-1', Buffer.from('café', 'latin1')],
    ['a mark', 'text/plain', Buffer.from('\ufeffcafé', 'utf16le')],
    ['the page', 'text/html', Buffer.from('<meta charset="windows-1252"><p>café', 'latin1')],
    ['nothing', 'text/plain', Buffer.from('café')],
    ['nonsense', 'text/plain; charset=x-none', Buffer.from('café')],
  ])('a charset that %s names', async (_what, type, bytes) => {
    handler = answerWith(type, bytes);
    expect((await run({ url: at('/') })).output).toContain('café');
  });

  test('what is not text is named and not shown', async () => {
    handler = answerWith('image/png', Buffer.from([1, 2, 3]));
    expect(await run({ url: at('/') })).toMatchObject({
      status: 'error',
      output: expect.stringMatching(/image\/png.*3 bytes that are not text.*shell tool/),
    });
    handler = answerWith('text/plain', Buffer.from([65, 0, 66]));
    expect((await run({ url: at('/') })).status).toBe('error');
  });

  test('an error status is an error with what the server says', async () => {
    handler = (_request, answer) => {
      answer.writeHead(404, { 'content-type': 'text/plain' });
      answer.end('no such page');
    };
    expect(await run({ url: at('/') })).toMatchObject({
      status: 'error',
      output: expect.stringMatching(/^404 Not Found.*no such page$/s),
    });
  });

  test('HEAD gives the headers', async () => {
    handler = answerWith('text/plain', '', { etag: '"e"', 'set-cookie': 'a=b' });
    const { output } = await run({ url: at('/'), method: 'HEAD' });
    expect(output).toContain('etag: "e"');
    expect(output).not.toContain('a=b');
  });

  test.each([
    ['HEAD', 200],
    ['GET', 204],
  ] as const)('an answer without a body, packed: %s %i (regression)', async (method, code) => {
    handler = (_request, answer) => {
      answer.writeHead(code, { 'content-type': 'text/plain', 'content-encoding': 'gzip' }).end();
    };
    const output = expect.stringMatching(new RegExp(`^${code} `));
    expect(await run({ url: at('/'), method })).toMatchObject({ status: 'ok', output });
  });

  test.each(['application/x-yaml', 'application/x-javascript'])('%s is text', async (type) => {
    handler = answerWith(type, 'a: 1');
    expect(await run({ url: at('/') })).toMatchObject({ status: 'ok' });
  });

  test('a server without TLS is said to be one (regression)', async () => {
    const { output } = await run({ url: at('/').replace('http:', 'https:') });
    expect(output).toMatch(/^The request failed: the server does not speak TLS .*ask for http:/);
  });
});

describe('a bound', () => {
  test('of bytes cuts, also what was packed small', async () => {
    handler = answerWith('text/plain', gzipSync(Buffer.alloc(50_000_000, 'a')), {
      'content-encoding': 'gzip',
    });
    const result = await run({ url: at('/'), max_bytes: 1000 });
    expect(result).toMatchObject({ status: 'ok', truncated: true });
    expect(result.output).toMatch(
      /a{1000}\n\[cut after 1000 bytes; ask with a larger max_bytes\]$/,
    );
  });

  test('of output: the whole is an artifact', async () => {
    handler = answerWith('text/plain', 'line\n'.repeat(2000));
    const result = await run({ url: at('/') }, { maxOutputBytes: 1024 });
    expect(result).toMatchObject({
      truncated: true,
      artifact: expect.stringContaining('prx-fetch'),
    });
    expect(result.output).toContain('the whole output is kept as artifact');
    expect(readFileSync(result.path, 'utf8')).toContain('line\n'.repeat(2000));
  });

  test('of time', async () => {
    handler = () => undefined;
    expect(await run({ url: at('/') }, { timeoutMs: 30 })).toMatchObject({
      status: 'timeout',
      output: 'The request was not answered within 0.03 s.',
    });
    expect(requests).toHaveLength(1);
  });

  test('of a person: cancelled', async () => {
    const abort = new AbortController();
    handler = () => abort.abort();
    const result = await run({ url: at('/') }, { signal: abort.signal });
    expect(result.status).toBe('cancelled');
  });

  test('of redirects', async () => {
    handler = (request, answer) => {
      answer.writeHead(302, { location: `${request.url}x?secret=1` });
      answer.end();
    };
    const { status, output } = await run({ url: at('/') });
    expect(status).toBe('error');
    expect(output).toMatch(/^More than 5 redirects/);
    expect(output).not.toContain('secret');
    expect(requests).toHaveLength(6);
  });
});

describe('a redirect', () => {
  test('is judged like the first request', async () => {
    handler = (_request, answer) => {
      answer.writeHead(307, { location: 'http://169.254.169.254/latest/' });
      answer.end();
    };
    const { status, output } = await run({ url: at('/') });
    expect(status).toBe('denied');
    expect(output).toContain('169.254.169.254:80 is not in the list of allowed domains');
    expect(requests.map(({ decision }) => decision)).toEqual(['allow', 'deny']);
  });

  test('to another domain takes no secret along', async () => {
    const seen: (string | undefined)[] = [];
    const [, port] = place.split(':');
    const other = `other.example:${port}`;
    handler = (request, answer) => {
      seen.push(request.headers['x-key']?.toString());
      if (request.headers.host === other) answer.end('there');
      else answer.writeHead(302, { location: `http://${other}/` }).end();
    };
    const injections = [
      { secret: 'KEY', domain: '127.0.0.1', header: 'X-Key', format: 'k {value}' },
    ];
    const result = await run({ url: at('/') }, { allowed: [place, other], injections });
    expect(result.output).toContain('there');
    expect(seen).toEqual(['k swordfish', undefined]);
    expect(requests.map(({ secrets }) => secrets)).toEqual([['KEY'], undefined]);
  });
});

test('an echoed secret is not shown but for its last letter (regression)', async () => {
  handler = (request, answer) => answer.end(`key: ${String(request.headers['x-key'])}`);
  const injections = [{ secret: 'KEY', domain: '127.0.0.1', header: 'X-Key', format: '{value}' }];
  const max_bytes = 'key: swordfis'.length;
  const { output } = await run({ url: at('/'), max_bytes }, { injections });
  expect(output).toContain('\n\nkey: ');
  expect(output).not.toContain('sword');
});

test.each([
  ['file:///etc/passwd', /file: is not fetched/],
  ['not a url', /is no URL/],
  ['http://user:pass@example.org/', /a user or a password/],
  ['http://a..b/', /is no valid host name/],
])('%s is refused', async (url, message) => {
  expect((await run({ url })).output).toMatch(message);
  expect(requests).toEqual([]);
});

test('a domain that is not allowed is denied, and the answer names those that are', async () => {
  const result = await run({ url: 'https://evil.example/' });
  expect(result).toMatchObject({
    status: 'denied',
    output: expect.stringContaining(`Allowed here: ${place}`),
  });
});

test('a certificate is checked for the host that was asked', async () => {
  const { cert, key } = createCertificate();
  const server = createTlsServer({ cert, key }, (_request, answer) => answer.end('sealed'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closers.push(() => server.close());
  const { port } = server.address() as AddressInfo;
  const allowed = [`127.0.0.1:${port}`, `name.example:${port}`];
  const url = `https://127.0.0.1:${port}/`;
  expect((await run({ url }, { allowed })).output).toMatch(/^The request failed: .*self-signed/);
  const before = getCACertificates('default');
  setDefaultCACertificates([...before, cert]);
  closers.push(() => setDefaultCACertificates(before));
  expect((await run({ url }, { allowed })).output).toContain('sealed');
  const wrong = await run({ url: `https://name.example:${port}/` }, { allowed });
  expect(wrong.output).toMatch(/ERR_TLS_CERT_ALTNAME_INVALID/);
});

test('a page that is made to be slow is shown as it is', async () => {
  const deep = '<div>'.repeat(200_000);
  const abort = new AbortController();
  const converting = toMarkdown({ html: deep, url: 'http://example.org/' }, abort.signal);
  abort.abort();
  expect(await converting).toBeUndefined();
});
