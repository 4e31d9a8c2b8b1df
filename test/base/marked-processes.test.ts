/** Marks in real environments: who has one, who is whose child, and who is killed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { afterEach, expect, test } from '@jest/globals';
import { realMarks } from '../../base/marked-processes.ts';
import { findIdentity, isAlive, type ProcessIdentity } from '../../base/process.ts';
import { eventually } from '../integration/processes.ts';

const MARK = 'PRX_TEST_MARK';
const started: ChildProcess[] = [];
afterEach(() => {
  for (const { pid } of started.splice(0)) {
    try {
      // With what it started, which holds its pipe.
      if (pid !== undefined) process.kill(-pid, 'SIGKILL');
    } catch {
      // Its test has killed it.
    }
  }
});

async function start(script: string, env: Readonly<Record<string, string>>): Promise<number> {
  const child = spawn('/bin/sh', ['-c', `echo up; ${script}`], {
    ...{ env, detached: true, stdio: ['ignore', 'pipe', 'ignore'] },
  });
  started.push(child);
  await new Promise((resolve) => child.stdout?.once('data', resolve));
  return child.pid ?? 0;
}

const toIdentity = (pid: number): ProcessIdentity =>
  findIdentity(pid) ?? { pid, startTicks: 0, bootId: '' };

test('a mark is found with its value, inherited or not; what has none is not', async () => {
  const value = `v${process.pid}`;
  const marked = await start('sleep 3000 & wait', { [MARK]: value });
  const plain = await start('sleep 3000 & wait', {});
  const find = (): number[] => {
    const found = realMarks.find(MARK).filter(({ mark }) => mark === value);
    return found.map(({ identity }) => identity.pid);
  };
  // The second is being started when the first says that it is up.
  await eventually(() => find().length > 1);
  const pids = find();
  expect(pids).toContain(marked);
  expect(pids).not.toContain(plain);
  expect(pids).toHaveLength(2);
  for (const pid of pids) {
    const ancestors = realMarks.listAncestors(pid);
    expect(ancestors).toContain(process.pid);
    if (pid !== marked) expect(ancestors[0]).toBe(marked);
  }
  expect(realMarks.read(plain, MARK)).toBeUndefined();
});

test('a kill takes the group with it, and spares whoever has the pid now (FAULTS 28)', async () => {
  const pid = await start('sleep 3000 & wait', { [MARK]: 'group' });
  const identity = toIdentity(pid);
  const other = { ...identity, startTicks: identity.startTicks + 1 };
  expect(realMarks.kill(other)).toBe(false);
  expect(isAlive(identity)).toBe(true);
  const family = realMarks.find(MARK).filter(({ mark }) => mark === 'group');
  expect(realMarks.kill(identity)).toBe(true);
  for (const each of family) await eventually(() => !isAlive(each.identity));
  expect(realMarks.kill(identity)).toBe(false);
});

test('the largest pid is one that this machine gives', () => {
  expect(realMarks.pidMax()).toBeGreaterThanOrEqual(process.pid);
});
