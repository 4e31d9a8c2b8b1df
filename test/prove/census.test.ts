/** A proof that cannot fail proves nothing: each way in which survivors are found finds one, and
 *  each kind of broken promise makes an outcome fail. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, test } from '@jest/globals';
import { listDescendants } from '../../base/process.ts';
import {
  COOKIE,
  createEnclosure,
  findCookies,
  findSurvivors,
  listDoomed,
  timeUntilNone,
} from '../../prove/census.ts';
import type { Figure, Outcome } from '../../prove/proof.ts';
import { isHeld, toQuantile } from '../../prove/report.ts';
import { eventually } from '../integration/processes.ts';

let children: ChildProcess[] = [];
afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
  children = [];
});

function start(command: string, env: Readonly<Record<string, string>> = {}): number {
  const options = { env: { PATH: process.env['PATH'], ...env }, stdio: 'ignore' } as const;
  const child = spawn('/bin/sh', ['-c', command], { ...options, detached: true });
  children.push(child);
  return child.pid ?? 0;
}

describe('a survivor is found', () => {
  test('by what it was before the kill, until it is gone', async () => {
    const parent = start('sleep 300 & wait');
    await eventually(() => listDescendants(parent).length === 1);
    const [child = 0] = listDescendants(parent);
    const doomed = listDoomed(parent, undefined);
    process.kill(parent, 'SIGKILL');
    await eventually(() => !findSurvivors(doomed).includes(parent));
    expect(findSurvivors(doomed)).toEqual([child]);
    expect(await timeUntilNone(() => findSurvivors(doomed), 20)).toBeUndefined();
    process.kill(child, 'SIGKILL');
    expect(await timeUntilNone(() => findSurvivors(doomed), 5000)).toBeDefined();
  });

  test('by its cookie, although it has another session and parent', async () => {
    const cookie = `test-${process.pid}`;
    const parent = start('(setsid sleep 300 &)', { [COOKIE]: cookie });
    await once(children[0] as ChildProcess, 'exit');
    await eventually(() => findCookies(cookie).length === 1);
    const doomed = listDoomed(parent, cookie);
    const survivors = findSurvivors(doomed);
    expect(survivors).toHaveLength(1);
    for (const pid of survivors) process.kill(pid, 'SIGKILL');
    await eventually(() => findCookies(cookie).length === 0);
  });

  const enclosure = createEnclosure();
  const testWithGroups = enclosure === undefined ? test.skip : test;
  testWithGroups('by its control group, although it has neither', async () => {
    // It waits until it is in the group: what it starts before would be outside.
    const parent = start('kill -STOP $$; setsid sleep 300 &');
    await eventually(() => readFileSync(`/proc/${parent}/stat`, 'utf8').includes(') T '));
    enclosure?.enclose(parent);
    process.kill(parent, 'SIGCONT');
    await once(children[0] as ChildProcess, 'exit');
    await eventually(() => enclosure?.strangers([parent]).length === 1);
    for (const pid of enclosure?.strangers([]) ?? []) process.kill(pid, 'SIGKILL');
    await eventually(() => enclosure?.strangers([]).length === 0);
    enclosure?.close();
  });
});

describe('an outcome', () => {
  const good: Outcome = { counts: {}, figures: [], violations: [], notes: [] };
  const figure = { name: 'some', unit: 'ms', bound: 10 } as const;
  const byMedian = (samples: readonly number[]): Figure => ({
    ...figure,
    ...{ samples, judged: 'median' },
  });

  test.each([
    ['nothing to object', good, true],
    ['a violation', { ...good, violations: ['one lived on'] }, false],
    ['at its bound', { ...good, figures: [{ ...figure, samples: [1, 10] }] }, true],
    ['over its bound', { ...good, figures: [{ ...figure, samples: [1, 10.1] }] }, false],
    ['most under the bound of a median', { ...good, figures: [byMedian([1, 9, 99])] }, true],
    ['most over the bound of a median', { ...good, figures: [byMedian([1, 11, 99])] }, false],
    ['no sample where one was promised', { ...good, figures: [{ ...figure, samples: [] }] }, false],
  ])('with %s: it holds or it does not', (_name, outcome: Outcome, expected) => {
    expect(isHeld(outcome)).toBe(expected);
  });

  test('is judged by the nearest rank: the worst of twenty', () => {
    const samples = Array.from({ length: 20 }, (_, index) => index);
    expect(toQuantile(samples, 0.99)).toBe(19);
    expect(toQuantile(samples, 0.5)).toBe(9);
  });
});
