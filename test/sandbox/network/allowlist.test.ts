/** The allow-list with a real host and real sandboxes: what is listed is reached through the
 *  proxy, nothing else is, and each request is told to the supervisor. The servers are on the
 *  machine's loopback, which is private, and so listed by address. */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { noNetwork } from '../../../protocol/network.ts';
import { hasBubblewrap, isRoot, startTestHost, type TestHost } from '../harness.ts';

const USER_UID = 1500;
const withBubblewrap = hasBubblewrap ? describe : describe.skip;
const variants = [
  { name: 'root', asRoot: true, options: {} },
  { name: 'an ordinary user', asRoot: false, options: isRoot ? { uid: USER_UID } : {} },
].filter((variant) => isRoot || !variant.asRoot);

/** The servers of this file are on a loopback, which programs would ask without the proxy. */
const curl = (args: string): string => `env -u NO_PROXY -u no_proxy curl -sS -m 8 ${args}`;

withBubblewrap.each(variants)('[config:security.sandbox.network] allowlist as $name', (variant) => {
  const hits: string[] = [];
  const open = new Set<Socket>();
  let host: TestHost;
  let server: Server;
  let port: number;
  let place: string;

  beforeAll(async () => {
    server = createServer((request, answer) => {
      hits.push(`${request.method} ${request.url} ${request.headers.host}`);
      if (request.url === '/moved') answer.writeHead(302, { location: 'http://localhost:9/' });
      request.pipe(answer);
      if (request.method === 'GET') answer.end(`hello ${request.headers.via ?? 'you'}\n`);
    });
    server.on('connection', (socket) => {
      open.add(socket);
      socket.once('close', () => open.delete(socket));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    port = (server.address() as AddressInfo).port;
    place = `127.0.0.1:${port}`;
    host = await startTestHost({
      ...variant.options,
      policy: {
        network: {
          mode: 'allowlist',
          allowedDomains: [place, '*.example.org'],
          allowedMethods: [],
          injections: [],
        },
      },
    });
    await host.initialize();
  });
  afterAll(async () => {
    await host.close();
    server.close();
  });

  test('[event:network.request] a listed server answers, recorded under its call and without path or query', async () => {
    const outcome = await host.shell(curl(`http://${place}/path?token=abc`), '3.1.4');
    expect(outcome).toMatchObject({ status: 'ok', output: 'hello you\n' });
    expect(hits).toContain(`GET /path?token=abc ${place}`);
    const request = host.requests.find(({ call_id }) => call_id === '3.1.4');
    expect(request).toMatchObject({ via: 'proxy', method: 'GET', host: '127.0.0.1', port });
    expect(request).toMatchObject({ decision: 'allow', status: 200, address: '127.0.0.1' });
    expect(request?.bytes_received).toBeGreaterThan(10);
    expect(JSON.stringify(host.requests)).not.toMatch(/token|path/);
    expect(JSON.stringify(host.readSpool('3.1.4'))).toContain('"kind":"network"');
  });

  test('a program of run_code has the same way out, under its own call', async () => {
    const command = curl(`http://${place}/`);
    const code = `console.log(require('node:child_process').execSync('${command}').toString())`;
    const ran = await host.run('run_code', { language: 'javascript', code }, '3.1.7');
    expect(ran.output).toContain('hello you');
    const request = host.requests.find(({ call_id }) => call_id === '3.1.7');
    expect(request).toMatchObject({ via: 'proxy', decision: 'allow', status: 200 });
  });

  test('a tunnel to it works, and so does a body', async () => {
    const tunnel = await host.shell(curl(`-p http://${place}/through`), '3.1.5');
    expect(tunnel.output).toBe('hello you\n');
    const posted = await host.shell(curl(`-d @/etc/passwd http://${place}/`));
    expect(posted.output).toContain('agent:x:');
    const chunked = curl(`-X DELETE -H 'Transfer-Encoding: chunked' -d abc http://${place}/`);
    expect((await host.shell(chunked)).output).toBe('abc');
    expect(host.requests.find(({ call_id }) => call_id === '3.1.5')).toMatchObject({
      ...{ method: 'CONNECT', decision: 'allow', status: 200 },
    });
  });

  test('programs are told of it in every spelling, and the loopback goes straight', async () => {
    const { output } = await host.shell('env | grep -i proxy | cut -d= -f1 | sort | tr "\\n" " "');
    expect(output).toBe(
      'ALL_PROXY HTTPS_PROXY HTTP_PROXY NODE_USE_ENV_PROXY NO_PROXY ' +
        'all_proxy http_proxy https_proxy no_proxy ',
    );
  });

  test.each([
    ['http://example.org/', 'example.org:80 (allowed_domains)'],
    ['http://evil.example/', 'evil.example:80 (allowed_domains)'],
    ['http://localhost:PORT/', 'localhost:PORT (allowed_domains)'],
    ['http://[::ffff:127.0.0.1]:PORT/', '::ffff:7f00:1:PORT (allowed_domains)'],
    ['http://169.254.169.254/latest/meta-data', '169.254.169.254:80 (allowed_domains)'],
    ['http://127.0.0.1:1/', '127.0.0.1:1 (port)'],
  ])('%s is refused, with what to do', async (url, rule) => {
    const { length } = hits;
    const [asked, named] = [url, rule].map((text) => text.replace('PORT', String(port)));
    const outcome = await host.shell(curl(`-g -o /dev/null -w '%{http_code}' '${asked}'`));
    expect(outcome.output).toMatch(/^403/);
    expect(outcome.output).toContain(`network requests were refused: ${named}; allowed: ${place}`);
    const body = await host.shell(curl(`-g '${asked}'`));
    expect(body.output).toMatch(/prx-supervisor refused this request: .*tell the user/s);
    expect(host.requests.at(-1)).toMatchObject({ decision: 'deny', status: 403 });
    expect(hits).toHaveLength(length);
  });

  test('a redirect is handed on, not followed', async () => {
    const { output } = await host.shell(
      curl(`-o /dev/null -w '%{http_code}' http://${place}/moved`),
    );
    expect(output).toBe('302');
  });

  test('what is asked of the proxy wrongly is refused', async () => {
    const plain = await host.shell(curl('--noproxy "*" http://127.0.0.1:3128/'));
    expect(plain.output).toContain('ask it for a whole URL');
    const other = await host.shell(curl(`--request-target ftp://${place}/ http://${place}/`));
    expect(other.output).toContain('only http and https');
  });

  test('there is no way but the proxy', async () => {
    const direct = await host.shell(curl(`--noproxy '*' http://${place}/`));
    expect(direct.output).toMatch(/refused|Failed to connect/);
    const unix = await host.shell(
      "perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0) or die $!'",
    );
    expect(unix.output).toMatch(/Address family not supported/);
    const { output } = await host.shell(
      'grep -c . /proc/net/dev; ls /proc/net/route && wc -l </proc/net/route',
    );
    expect(output.split('\n')[0]).toBe('3');
  });

  test('nothing inside has the door, or a way to take it', async () => {
    const { output } = await host.shell(
      'ls -l /proc/self/fd | grep -c socket; env | grep -c PRX_; echo $NODE_CHANNEL_FD; ' +
        'perl -MIO::Socket::INET -e \'IO::Socket::INET->new(Listen=>1, LocalAddr=>"127.0.0.1:3128", ReuseAddr=>1) or print "taken"\'',
    );
    expect(output).toBe('0\n0\n\ntaken');
  });

  test('fetch asks under the same rules', async () => {
    const fetched = await host.run('fetch', { url: `http://${place}/` }, '3.2.1');
    expect(fetched).toMatchObject({ status: 'ok', output: expect.stringContaining('hello you') });
    expect(host.requests.find(({ call_id }) => call_id === '3.2.1')?.via).toBe('fetch');
    const denied = await host.run('fetch', { url: 'http://evil.example/' });
    expect(denied.status).toBe('denied');
    expect(denied.output).toContain(`Allowed here: ${place}`);
  });

  test('a tunnel ends with its call', async () => {
    const script = `exec 3<>/dev/tcp/127.0.0.1/3128; printf 'CONNECT ${place} HTTP/1.1\\r\\n\\r\\n' >&3; read -r line <&3; echo "$line"`;
    const outcome = await host.shell(`bash -c '${script.replaceAll("'", `'\\''`)}'`, '3.9.9');
    expect(outcome.output).toContain('200 Connection Established');
    // Ends when the proxy has let go of the server.
    await Promise.all([...open].map((socket) => once(socket, 'close')));
  });
});

withBubblewrap('[config:security.sandbox.network] full', () => {
  test("is the machine's network, without a proxy", async () => {
    const server = createServer((_request, answer) => answer.end('straight'));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const host = await startTestHost({ policy: { network: { ...noNetwork, mode: 'full' } } });
    try {
      await host.initialize();
      const { output } = await host.shell(
        `env | grep -ic proxy; curl -sS http://127.0.0.1:${port}/`,
      );
      expect(output).toBe('0\nstraight');
      expect((await host.shell('test -s /etc/resolv.conf && echo named')).output).toBe('named\n');
    } finally {
      await host.close();
      server.close();
    }
  });
});
