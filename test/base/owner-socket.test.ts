/** Sockets that only their owner reaches, at any path. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import {
  connectOwnerSocket,
  listenOwnerSocket,
  type OwnerSocket,
} from '../../base/owner-socket.ts';

let folder = '';
const open: OwnerSocket[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'prx-socket-'));
});
afterEach(() => {
  for (const socket of open.splice(0)) socket.close();
  rmSync(folder, { recursive: true, force: true });
});

async function listen(path: string): Promise<OwnerSocket> {
  const onConnection = (socket: { end(text: string): void }): void => socket.end('hello');
  const socket = await listenOwnerSocket({ path, connectionsMax: 2, onConnection });
  open.push(socket);
  return socket;
}

async function hear(path: string): Promise<string> {
  const socket = await connectOwnerSocket(path, new AbortController().signal);
  let text = '';
  for await (const chunk of socket) text += String(chunk);
  return text;
}

describe('a socket of ours', () => {
  const longName = 'x'.repeat(100);

  test.each([
    ['a short path', 'run'],
    ['a path longer than the kernel takes', join(longName, longName, 'run')],
  ])('at %s is reached, has owner modes, and leaves nothing', async (_name, place) => {
    const path = join(folder, place, 'a-1.sock');
    const socket = await listen(path);
    expect(await hear(path)).toBe('hello');
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(join(folder, place)).mode & 0o777).toBe(0o700);
    socket.close();
    socket.close();
    expect(readdirSync(join(folder, place))).toEqual([]);
  });

  test('replaces what a dead process left under its name', async () => {
    mkdirSync(join(folder, 'run'));
    const path = join(folder, 'run', 'a-1.sock');
    writeFileSync(path, '');
    await listen(path);
    expect(await hear(path)).toBe('hello');
  });

  test('that nobody has answers PEER_CLOSED, also without its folder', async () => {
    const { signal } = new AbortController();
    for (const place of ['none', join('none', longName, longName)]) {
      const asked = connectOwnerSocket(join(folder, place, 'a-1.sock'), signal);
      await expect(asked).rejects.toMatchObject({ code: 'PEER_CLOSED' });
    }
  });

  test('is not waited for behind the signal', async () => {
    const path = join(folder, 'a-1.sock');
    await listen(path);
    await expect(connectOwnerSocket(path, AbortSignal.abort())).rejects.toMatchObject({
      code: 'PEER_CLOSED',
    });
  });
});
