/**
 * One set-up a folder at a time. On Linux the lock is a listening socket in the abstract namespace:
 * the kernel frees it when its owner dies, so it is never stale. Elsewhere it is a file that names
 * its owner, and the next one takes it over when that process is gone.
 */

import { createHash } from 'node:crypto';
import { readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const waitLimitMs = 15 * 60 * 1000;
const filePollMs = 100;

export async function withLock(root, work) {
  const id = createHash('sha256').update(realpathSync(root)).digest('hex').slice(0, 32);
  const lock = process.platform === 'linux' ? abstractSocket(id) : lockFile(id);
  const deadlineMs = Date.now() + waitLimitMs;
  let release = await lock.tryTake();
  if (release === undefined) process.stderr.write('setup: waiting for another one to finish\n');
  while (release === undefined) {
    if (Date.now() > deadlineMs) {
      throw new Error(`setup: another one has held ${root} for 15 minutes; stop it and try again`);
    }
    await lock.waitForOwner(deadlineMs - Date.now());
    release = await lock.tryTake();
  }
  try {
    return await work();
  } finally {
    release();
  }
}

function abstractSocket(id) {
  const name = `\0prx-supervisor-setup-${id}`;
  return {
    tryTake: () =>
      new Promise((resolve, reject) => {
        const waiting = new Set();
        const server = createServer((socket) => {
          waiting.add(socket);
          socket.on('error', () => socket.destroy());
          socket.on('close', () => waiting.delete(socket));
        });
        const release = () => {
          server.close();
          for (const socket of waiting) socket.destroy();
        };
        server.on('error', (error) => {
          if (error.code === 'EADDRINUSE') resolve(undefined);
          else reject(error);
        });
        server.listen(name, () => resolve(release));
      }),
    // The connection ends when the owner does, whichever way.
    waitForOwner: (limitMs) =>
      new Promise((resolve) => {
        const socket = connect(name);
        socket.setTimeout(limitMs, () => socket.destroy());
        socket.on('error', () => socket.destroy());
        socket.on('close', resolve);
        socket.resume();
      }),
  };
}

function lockFile(id) {
  const path = join(tmpdir(), `prx-supervisor-setup-${id}`);
  return {
    tryTake: async () => {
      try {
        writeFileSync(path, String(process.pid), { flag: 'wx' });
        return () => rmSync(path, { force: true });
      } catch (error) {
        if (error.code === 'EEXIST') return undefined;
        throw error;
      }
    },
    waitForOwner: async () => {
      await sleep(filePollMs);
      if (!isAlive(ownerOf(path))) rmSync(path, { force: true });
    },
  };
}

function ownerOf(path) {
  try {
    return Number(readFileSync(path, 'utf8'));
  } catch {
    return undefined; // The owner took its file away between our two looks.
  }
}

function isAlive(pid) {
  if (!pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}
