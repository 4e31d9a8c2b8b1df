import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';

const root = join(import.meta.dirname, '..', '..');

test.each([
  ['bench', 'bench/main.ts', ['--help']],
  ['bench', 'bench/main.ts', ['tokn']],
  ['prove', 'prove/main.ts', ['--help']],
  ['prove', 'prove/main.ts', ['stop', '--runs', '0']],
  ['simulate', 'test/simulation/main.ts', ['--help']],
  ['simulate', 'test/simulation/main.ts', ['--runs', 'many']],
  ['simulate', 'test/simulation/main.ts', ['--trace', '1', '--at', 'x']],
  ['mutate', 'test/mutation/main.ts', ['--help']],
  ['mutate', 'test/mutation/main.ts', ['--only', 'nothing']],
  ['screenshots', 'test/screenshots/main.ts', ['--help']],
])('npm run %s: %s %j is answered with how to call it, exit 2', (name, file, args) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(root, file), ...args], {
    encoding: 'utf8',
  });
  expect([status, stdout]).toEqual([2, '']);
  expect(stderr).toContain(`\nusage: npm run ${name} -- [`);
  expect(stderr).not.toMatch(/^ +at /m);
});
