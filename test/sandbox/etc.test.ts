/** What is shown of /etc: copied onto the stage where it is little, else mounted there. */
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { fillEtc, planEtc } from '../../sandbox/launch/etc.ts';
import { findPath } from '../../sandbox/launch/survey.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'prx-etc-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

/** A setting whose folder stands in the test's own place. */
function plan(fill: (folder: string) => void) {
  const source = join(dir, 'fonts');
  mkdirSync(source);
  fill(source);
  const found = findPath(source);
  if (found === undefined) throw new Error('the folder is there');
  return planEtc([{ ...found, path: '/etc/fonts' }], []);
}

function fillTo(count: number) {
  return (folder: string): void => {
    for (let i = 0; i < count; i += 1) writeFileSync(join(folder, `${i}`), '');
  };
}

describe('a folder of settings', () => {
  test('that is small is copied with its links, folders and modes', () => {
    const planned = plan((folder) => {
      mkdirSync(join(folder, 'conf.d'));
      writeFileSync(join(folder, 'conf.d', 'run'), 'a setting', { mode: 0o755 });
      symlinkSync('conf.d/run', join(folder, 'link'));
    });
    expect(planned.items).toEqual([]);
    const stage = join(dir, 'stage');
    fillEtc(stage, planned, { uid: 7, gid: 7, drops: false });
    const copied = join(stage, 'etc/fonts');
    expect(readFileSync(join(copied, 'link'), 'utf8')).toBe('a setting');
    expect(readlinkSync(join(copied, 'link'))).toBe('conf.d/run');
    expect(statSync(join(copied, 'conf.d/run')).mode & 0o777).toBe(0o755);
  });

  test('is mounted from its 64th entry on', () => {
    const mounted = [{ kind: 'read-only', source: join(dir, 'fonts'), name: 'etc/fonts' }];
    expect(plan(fillTo(63)).items).toEqual([]);
    rmSync(join(dir, 'fonts'), { recursive: true });
    expect(plan(fillTo(64))).toEqual({ items: mounted, copies: [], places: [] });
  });

  test.each<[string, (folder: string) => void]>([
    [
      'more than half a megabyte',
      (folder) => writeFileSync(join(folder, 'large'), Buffer.alloc(512 * 1024)),
    ],
    [
      'a file that not everybody may read',
      (folder) => writeFileSync(join(folder, 'closed'), '', { mode: 0o600 }),
    ],
    [
      'a folder that not everybody may enter',
      (folder) => {
        mkdirSync(join(folder, 'closed'));
        chmodSync(join(folder, 'closed'), 0o700);
      },
    ],
  ])('is mounted with %s in it', (_, fill) => {
    expect(plan(fill)).toMatchObject({ items: [{ name: 'etc/fonts' }], copies: [] });
  });
});
