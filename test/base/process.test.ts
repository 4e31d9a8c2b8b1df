import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { describe, expect, test } from '@jest/globals';
import {
  findIdentity,
  isAlive,
  type ProcessSpec,
  readBootId,
  signalIdentity,
  spawnQuick,
  startProcess,
} from '../../base/process.ts';

function shell(script: string, extra: Partial<ProcessSpec> = {}): ProcessSpec {
  return { command: '/bin/sh', args: ['-c', script], env: {}, ownSession: false, ...extra };
}

describe('startProcess', () => {
  test('gives three pipes and the exit code', async () => {
    const child = await startProcess(shell('cat; echo oops >&2; exit 7'));
    child.stdin.end('hello');
    const seen = await Promise.all([text(child.stdout), text(child.stderr), child.exited]);
    expect(seen).toEqual(['hello', 'oops\n', { code: 7, signal: undefined }]);
    expect(child.kill('SIGTERM')).toBe(false);
  });

  test('the environment is what was given and nothing else', async () => {
    const child = await startProcess({
      ...shell(''),
      command: '/usr/bin/env',
      args: [],
      env: { ONLY: 'this' },
    });
    expect(await text(child.stdout)).toBe('ONLY=this\n');
  });

  test('exited settles at the exit, though a grandchild holds the pipes', async () => {
    const child = await startProcess(shell('sleep 30 & echo $!; exit 0'));
    const [chunk] = (await child.stdout[Symbol.asyncIterator]().next()).value
      .toString()
      .split('\n');
    expect(await child.exited).toEqual({ code: 0, signal: undefined });
    const grandchild = findIdentity(Number(chunk));
    expect(grandchild).toBeDefined();
    if (grandchild !== undefined) signalIdentity(grandchild, 'SIGKILL');
  });

  test('kill names the signal in the exit', async () => {
    const child = await startProcess(shell('exec sleep 30'));
    expect(child.kill('SIGKILL')).toBe(true);
    expect(await child.exited).toEqual({ code: undefined, signal: 'SIGKILL' });
    expect(child.kill('SIGKILL')).toBe(false);
  });

  test('killGroup reaches the descendants of a session of its own', async () => {
    const child = await startProcess(shell('sleep 30 & echo $!; wait', { ownSession: true }));
    const line = (await child.stdout[Symbol.asyncIterator]().next()).value.toString();
    const grandchild = findIdentity(Number(line));
    expect(child.killGroup('SIGKILL')).toBe(true);
    await child.exited;
    while (grandchild !== undefined && isAlive(grandchild)) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  });

  test('a pipe whose reader is gone does not end us', async () => {
    const child = await startProcess(shell('exec <&-; exec sleep 30'));
    child.stdin.write('x'.repeat(1_000_000));
    child.stdin.write('x'.repeat(1_000_000));
    await new Promise((resolve) => child.stdin.once('close', resolve));
    child.kill('SIGKILL');
    await child.exited;
  });

  test.each([
    ['no such command', { command: '/no/such/command' }, 'ENOENT'],
    ['no command', { command: '/etc/passwd' }, 'EACCES'],
    ['no such folder', { cwd: '/no/such/folder' }, 'ENOENT'],
    ['arguments beyond the limit', { args: ['x'.repeat(200_000)] }, 'E2BIG'],
  ])('%s is SPAWN_FAILED with the reason', async (_, extra, reason) => {
    const spec = shell('exit 0', extra);
    const failure = { code: 'SPAWN_FAILED', data: { command: spec.command, reason } };
    await expect(startProcess(spec)).rejects.toMatchObject(failure);
    await expect(spawnQuick({ ...spec, stdio: 'ignore' })).rejects.toMatchObject(failure);
  });
});

describe('spawnQuick', () => {
  test('runs with the given descriptors', async () => {
    const quick = await spawnQuick({ ...shell('echo hi; exit 3'), stdio: ['ignore', 'pipe', 2] });
    expect(quick.child.stdout && (await text(quick.child.stdout))).toBe('hi\n');
    expect(await quick.exited).toEqual({ code: 3, signal: undefined });
  });
});

describe('identity', () => {
  test('is of a live process, and tells it from a later one', async () => {
    const child = await startProcess(shell('exec sleep 30'));
    const identity = findIdentity(child.pid);
    expect(identity).toEqual({
      pid: child.pid,
      startTicks: expect.any(Number),
      bootId: readBootId(),
    });
    if (identity === undefined) return;
    expect(isAlive(identity)).toBe(true);
    expect(isAlive({ ...identity, startTicks: identity.startTicks - 1 })).toBe(false);
    expect(isAlive({ ...identity, bootId: 'another' })).toBe(false);
    expect(signalIdentity({ ...identity, startTicks: 1 }, 'SIGKILL')).toBe(false);
    expect(signalIdentity(identity, 'SIGKILL')).toBe(true);
    await child.exited;
    expect(isAlive(identity)).toBe(false);
    expect(signalIdentity(identity, 'SIGKILL')).toBe(false);
  });

  test('a zombie is gone', async () => {
    // Nobody waits for the inner child: exec replaced the shell that would have.
    const outer = spawn('/bin/sh', ['-c', 'sleep 0 & echo $!; exec sleep 30'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const line = String(await new Promise((resolve) => outer.stdout.once('data', resolve)));
    while (findIdentity(Number(line)) !== undefined) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    const gone = new Promise((resolve) => outer.once('exit', resolve));
    outer.kill('SIGKILL');
    await gone;
  });

  test.each([0, 1, -5, 1.5, Number.NaN, 2 ** 40])('there is none for pid %d', (pid) => {
    expect(findIdentity(pid)).toBeUndefined();
  });

  test('a command with brackets and spaces in its name is read right', async () => {
    const child = await startProcess(shell('printf ") R 1 (" > /proc/self/comm; exec <&0 cat'));
    expect(findIdentity(child.pid)?.startTicks).toBeGreaterThan(0);
    child.stdin.end();
    await child.exited;
  });
});

test.each([0, -1])(
  'a test that has nobody to signal fails, and does not end its run: %i',
  (pid) => {
    expect(() => process.kill(pid, 'SIGKILL')).toThrow('nobody was found to signal');
  },
);
