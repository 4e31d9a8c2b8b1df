/** Where the api listens: the owner's socket, stale ones, addresses that are refused. */
import { chmod, lstat, mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { createClient } from '../../api/client.ts';
import { isLoopback } from '../../api/listeners.ts';
import { type Api, createApi } from '../../api/server.ts';
import { realClock } from '../../base/clock.ts';
import { silentLogger } from '../../base/logger.ts';
import { realRandom } from '../../base/random.ts';
import { ask } from './harness.ts';
import { MemorySupervisor } from './memory-supervisor.ts';
import { noTokens } from './no-tokens.ts';
import { createCertificate } from './self-signed.ts';

let folder: string;
let api: Api;
let socketPath: string;
const open = (): Api =>
  createApi({
    supervisor: new MemorySupervisor(),
    logger: silentLogger,
    clock: realClock,
    random: realRandom,
    version: '1',
    tokens: noTokens,
  });
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'prx-listen-'));
  socketPath = join(folder, 'api.sock');
  api = open();
});
afterEach(async () => {
  await api.close();
  await rm(folder, { recursive: true });
});

const modeOf = async (path: string): Promise<string> =>
  ((await lstat(path)).mode & 0o777).toString(8);

describe('the unix socket', () => {
  test("is its owner's alone, as is a folder made for it", async () => {
    const path = join(folder, 'a', 'b', 'api.sock');
    const before = process.umask();
    await api.listenSocket(path);
    expect([await modeOf(path), await modeOf(join(folder, 'a', 'b'))]).toEqual(['600', '700']);
    expect(process.umask()).toBe(before);
  });

  test('leaves the mode of a folder that exists alone', async () => {
    await mkdir(join(folder, 'mine'));
    await chmod(join(folder, 'mine'), 0o755);
    await api.listenSocket(join(folder, 'mine', 'api.sock'));
    expect(await modeOf(join(folder, 'mine'))).toBe('755');
  });

  test('is gone after close, which may be called twice', async () => {
    await api.listenSocket(socketPath);
    await Promise.all([api.close(), api.close()]);
    await expect(lstat(socketPath)).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(createClient({ socketPath }).getHealth()).rejects.toMatchObject({
      code: 'NOT_RUNNING',
    });
  });

  test('of a dead process is replaced', async () => {
    await leaveStaleSocket(socketPath);
    expect((await lstat(socketPath)).isSocket()).toBe(true);
    await api.listenSocket(socketPath);
    expect((await ask({ socketPath }, { path: '/healthz' })).status).toBe(200);
  });

  test('that somebody listens on is left to them', async () => {
    await api.listenSocket(socketPath);
    const second = open();
    await expect(second.listenSocket(socketPath)).rejects.toMatchObject({
      code: 'ALREADY_RUNNING',
    });
    await second.close();
    expect((await ask({ socketPath }, { path: '/healthz' })).status).toBe(200);
  });

  test.each([
    ['a file', (path: string) => writeFile(path, 'mine')],
    ['a link', (path: string) => symlink('/nowhere', path)],
    ['a folder', (path: string) => mkdir(path)],
  ])('is refused where %s is', async (_name, make) => {
    await make(socketPath);
    await expect(api.listenSocket(socketPath)).rejects.toMatchObject({
      code: 'LISTEN_REFUSED',
      message: expect.stringContaining('is not a socket'),
    });
    await lstat(socketPath); // Still there.
  });

  test('is refused with too long a path', async () => {
    const act = api.listenSocket(join(folder, 'x'.repeat(120)));
    await expect(act).rejects.toThrow(/107.*api\.socket/s);
  });

  test('is refused where its folder cannot be made', async () => {
    await writeFile(join(folder, 'file'), '');
    await expect(api.listenSocket(join(folder, 'file', 'api.sock'))).rejects.toMatchObject({
      code: 'LISTEN_REFUSED',
    });
  });
});

/** A bound socket that was moved is not unlinked when its server closes: what a kill leaves. */
async function leaveStaleSocket(path: string): Promise<void> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(`${path}.old`, resolve));
  await rename(`${path}.old`, path);
  await new Promise((resolve) => server.close(resolve));
}

describe('TCP', () => {
  test('gives its URL, with the port that was free', async () => {
    const { url, port } = await api.listenTcp({ host: '127.0.0.1', port: 0 });
    expect(url).toBe(`http://127.0.0.1:${port}`);
    expect((await ask({ port }, { path: '/healthz' })).status).toBe(200);
  });

  test.each(['0.0.0.0', '::', '192.0.2.1', 'host.example', '127.evil.example'])(
    'refuses %s without TLS, saying what to write',
    async (host) => {
      await expect(api.listenTcp({ host, port: 0 })).rejects.toMatchObject({
        code: 'LISTEN_REFUSED',
        message: expect.stringContaining('allow_insecure = true'),
      });
    },
  );

  test('with TLS is open to others, and speaks HTTPS only', async () => {
    const tls = createCertificate();
    const { url, port } = await api.listenTcp({ host: '0.0.0.0', port: 0, tls });
    expect(url).toBe(`https://0.0.0.0:${port}`);
    const status = await new Promise((resolve, reject) => {
      const options = { host: '127.0.0.1', port, path: '/healthz', ca: tls.cert, agent: false };
      request(options, (head) => resolve(head.resume().statusCode))
        .on('error', reject)
        .end();
    });
    expect(status).toBe(200);
    await expect(ask({ port }, { path: '/healthz' })).rejects.toMatchObject({
      code: 'ECONNRESET',
    });
    // A client that was not told to trust the certificate says so, and sends nothing.
    const distrustful = createClient({ url: `https://127.0.0.1:${port}`, token: 'x' });
    await expect(distrustful.getHealth()).rejects.toMatchObject({
      code: 'PEER_CLOSED',
      message: expect.stringContaining('SELF_SIGNED'),
    });
  });

  test('is open to others when that is allowed', async () => {
    const { port } = await api.listenTcp({ host: '0.0.0.0', port: 0, allowInsecure: true });
    expect((await ask({ port }, { path: '/healthz' })).status).toBe(200);
  });

  test('names a port that is in use, and how to find out by whom', async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const address = other.address();
    const port = typeof address === 'object' ? (address?.port ?? 0) : 0;
    const act = api.listenTcp({ host: '127.0.0.1', port });
    await expect(act).rejects.toMatchObject({ code: 'LISTEN_REFUSED' });
    await expect(act).rejects.toThrow(new RegExp(`port ${port}.*ss -ltnp.*${port}`, 's'));
    await new Promise((resolve) => other.close(resolve));
  });

  test('refuses an address of another machine', async () => {
    const act = api.listenTcp({ host: '192.0.2.1', port: 0, allowInsecure: true });
    await expect(act).rejects.toThrow(/no address of this machine/);
  });

  test.each([
    ['localhost', true],
    ['127.8.9.1', true],
    ['[::1]', true],
    ['::', false],
    ['localhost.example', false],
  ])('%s is loopback: %p', (host, expected) => {
    expect(isLoopback(host)).toBe(expected);
  });
});
