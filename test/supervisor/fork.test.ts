/** A fork has all that its conversation refers to, whatever becomes of the original. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { createHouse, demolish } from './house.ts';

afterEach(demolish);

const ARTIFACT = 'tool-1.1.1';

test('a fork keeps the whole outputs that it refers to when the original is removed (regression)', async () => {
  const house = await createHouse();
  const id = await house.create();
  const folder = join(house.stateDir, 'artifacts', id);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, ARTIFACT), 'all of it');
  const fork = await house.supervisor.fork(id, undefined, undefined);
  await house.supervisor.close(id, 'test');
  await house.supervisor.deleteSession(id, 'test');
  const { path, session } = await house.supervisor.findArtifact(fork.id, ARTIFACT);
  expect([session, readFileSync(path, 'utf8')]).toEqual([fork.id, 'all of it']);
  await house.supervisor.close(fork.id, 'test');
  await house.supervisor.deleteSession(fork.id, 'test');
  expect(existsSync(path)).toBe(false);
});

test('a fork that is refused leaves no copy of them', async () => {
  const house = await createHouse();
  const id = await house.create();
  mkdirSync(join(house.stateDir, 'artifacts', id), { recursive: true });
  await expect(house.supervisor.fork(id, 999, undefined)).rejects.toMatchObject({
    code: 'INVALID_REQUEST',
  });
  expect(readdirSync(join(house.stateDir, 'artifacts'))).toEqual([id]);
  expect(readdirSync(join(house.stateDir, 'unsettled'))).toEqual([]);
});
