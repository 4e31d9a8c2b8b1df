/** The probe of the levels: what it asks, what it concludes, and that both of its arms are real. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { realRandom } from '../../base/random.ts';
import { type OfferedLevel, offeredLevels, sandboxLevels } from '../../protocol/sandbox-levels.ts';
import type { SandboxPolicy } from '../../protocol/sandbox-methods.ts';
import { checkArms, type Escape, openArena } from '../../sandbox/launch/arms.ts';
import type { Backend } from '../../sandbox/launch/backend.ts';
import { createPlainBackend } from '../../sandbox/launch/plain.ts';
import { type ProbeResult, probe, probePolicy } from '../../sandbox/launch/probe.ts';
import { findRuntimeFiles } from '../../sandbox/launch/runtime-files.ts';
import { findProgram } from '../../sandbox/launch/survey.ts';
import { programs } from '../programs.ts';
import { isRoot, startProgram } from './harness.ts';

const hasPerl = findProgram('perl') !== undefined;
const lower = offeredLevels.filter((level) => level !== 'bubblewrap');
const all: readonly Escape[] = ['read', 'write', 'connect', 'signal', 'leave'];

describe('[promise:deny-by-default] the two arms', () => {
  test.each(lower)(
    '%s: holds only when everything works without it and nothing within',
    (level) => {
      const held: readonly Escape[] = level === 'limits-only' ? ['leave'] : all;
      expect(() => checkArms(level, all, [])).not.toThrow();
      for (const name of held) {
        expect(() => checkArms(level, all, [name])).toThrow(`did not hold: ${name}`);
        const without = all.filter((each) => each !== name);
        expect(() => checkArms(level, without, [])).toThrow(`not succeed either: ${name}`);
      }
    },
  );

  (hasPerl ? test : test.skip)('without a sandbox every one of the escapes succeeds', async () => {
    const scratchDir = mkdtempSync(join(tmpdir(), 'prx-ladder-test-'));
    const arena = await openArena(realRandom.hex(8));
    const policy: SandboxPolicy = { ...probePolicy, backend: 'none', workspace: arena.workspace };
    const files = findRuntimeFiles({ mainPath: '/nowhere.ts', nodePath: process.execPath });
    const own = { files, scratchDir, random: realRandom, keeping: undefined };
    const backend = await createPlainBackend({ ...own, policy, level: 'none', isProved: true });
    expect(await arena.attack(backend)).toEqual(all);
    await backend.close();
    arena.close();
    rmSync(scratchDir, { recursive: true });
  });
});

describe('the ladder', () => {
  const ports = { uid: 5, mark: realRandom.hex(8), clean: () => undefined };

  test('is gone down; the reason is that of the first that was asked for', async () => {
    const asked: string[] = [];
    const create = async ({ backend }: SandboxPolicy): Promise<Backend> => {
      asked.push(backend);
      throw new Error(`no ${backend}`);
    };
    const found = await probe(offeredLevels, { ...ports, create });
    const why = { reason: 'no bubblewrap', mend: 'see the reason' };
    expect(found).toEqual({ level: 'none', uid: 5, ...why });
    // Each of the lower ones begins with the arm that has no sandbox.
    expect(asked).toEqual(['bubblewrap', 'none', 'none', 'none']);
  });

  test('is not entered at all when nothing is asked for', async () => {
    const create = () => Promise.reject(new Error('must not be asked'));
    expect(await probe([], { ...ports, create })).toEqual({ level: 'none', uid: 5 });
  });
});

const users = isRoot ? [undefined, 1500] : [undefined];
const toolUid = (uid: number | undefined) => uid ?? (isRoot ? 60_800 : process.getuid?.());

async function ask(levels: readonly OfferedLevel[], prefix: readonly string[]) {
  const own = [process.execPath, programs.sandbox, '--probe', '--levels', levels.join(',')];
  return JSON.parse(await startProgram([...prefix, ...own])) as ProbeResult;
}

(hasPerl ? describe : describe.skip).each(users)('this machine, asked as %s', (uid) => {
  const prefix =
    uid === undefined
      ? []
      : ['/usr/bin/setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups'];

  test.each(lower)('gives %s when that alone is meant', async (level) => {
    expect(await ask([level], prefix)).toEqual({ level, uid: toolUid(uid) });
  });
});

test('a name that is no level is not one to ask about', async () => {
  const own = [process.execPath, programs.sandbox, '--probe', '--levels', 'none,sudo'];
  const found = JSON.parse(await startProgram(own)) as ProbeResult;
  expect(found).toEqual({ level: 'none', uid: process.getuid?.() });
  expect(sandboxLevels).toContain(found.level);
});
