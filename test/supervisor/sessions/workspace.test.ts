/** Which folder may be a workspace: every refusal of SURFACE section 1, by name. */
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { SessionId } from '../../../protocol/ids.ts';
import {
  checkWorkspace,
  createPrivateWorkspace,
  findReason,
  type WorkspaceRules,
} from '../../../supervisor/sessions/workspace.ts';

const rules: WorkspaceRules = { stateDir: '/srv/state/prx', roots: [], homes: ['/srv/people/me'] };

describe('a real path', () => {
  test.each([
    ['/', /root of the file system/],
    ['/srv/people/me', /a home itself \(\/srv\/people\/me\)/],
    ['/srv/people', /holds the home \/srv\/people\/me/],
    ['/srv', /holds the home/],
    ['/root', /a home itself/],
    ['/home', /a home itself/],
    ['/home/someone', /a home itself/],
    ['/etc', /belongs to the system/],
    ['/etc/ssl', /lies in \/etc/],
    ['/usr', /belongs to the system/],
    ['/usr/local/src', /lies in \/usr/],
    ['/proc/self', /lies in \/proc/],
    ['/dev/shm', /lies in \/dev/],
    ['/var', /belongs to the system/],
    ['/run', /belongs to the system/],
    ['/boot', /belongs to the system/],
    ['/srv/state/prx', /lies in the state directory/],
    ['/srv/state/prx/spool', /lies in the state directory/],
    ['/srv/state', /holds the state directory/],
  ])('%s is refused', (path, reason) => {
    expect(findReason(path, rules)).toMatch(reason);
  });

  test.each([
    ['/srv/people/me/project'],
    ['/home/someone/project'],
    ['/root/project'],
    ['/var/www'],
    ['/srv/state/prx2'],
    ['/etcetera'],
    ['/usrlocal'],
    ['/opt/x'],
  ])('%s is a workspace', (path) => {
    expect(findReason(path, rules)).toBeUndefined();
  });

  test.each([
    ['/srv/jobs/a', undefined],
    ['/srv/jobs/a/deep', undefined],
    ['/srv/jobs/ab', /outside security\.sandbox\.workspace_roots \(\/srv\/jobs\/a\)/],
    ['/srv/jobs', /outside security\.sandbox\.workspace_roots/],
  ])('with roots set, %s', (path, reason) => {
    const found = findReason(path, { ...rules, roots: ['/srv/jobs/a'] });
    if (reason === undefined) expect(found).toBeUndefined();
    else expect(found).toMatch(reason);
  });
});

describe('an asked path', () => {
  let dir = '';
  beforeAll(() => {
    dir = realpathSync(mkdtempSync(join(tmpdir(), 'prx-workspace-')));
    for (const name of ['state', 'work', 'root']) mkdirSync(join(dir, name));
    mkdirSync(join(dir, 'root', 'inner'));
    writeFileSync(join(dir, 'file'), '');
    symlinkSync(join(dir, 'state'), join(dir, 'link-to-state'));
    symlinkSync(join(dir, 'root'), join(dir, 'link-to-root'));
    symlinkSync(join(dir, 'work'), join(dir, 'link-to-work'));
  });
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  const check = (name: string, own: Partial<WorkspaceRules> = {}): string =>
    checkWorkspace(join(dir, name), { ...rules, homes: [], stateDir: join(dir, 'state'), ...own });

  test('is its real path', () => {
    expect(check('link-to-work')).toBe(join(dir, 'work'));
  });

  test.each([
    ['relative', () => checkWorkspace('work', rules), /must be absolute/],
    ['missing', () => check('missing'), /does not exist; create it first/],
    ['a file', () => check('file'), /not a folder/],
    ['below a file', () => check('file/x'), /cannot be read \(ENOTDIR\)/],
    ['a link into the state directory', () => check('link-to-state'), /state directory/],
  ])('%s: refused, with the path asked for', (_, act, reason) => {
    expect(act).toThrow(reason);
    expect(act).toThrow(/may not be a workspace/);
  });

  test('a state directory named by a link is protected under its real name (regression)', () => {
    const act = (): string => check('state', { stateDir: join(dir, 'link-to-state') });
    expect(act).toThrow(/lies in the state directory/);
  });

  test('a root named by a link holds what lies behind it (regression)', () => {
    const roots = [join(dir, 'link-to-root')];
    expect(check('root/inner', { roots })).toBe(join(dir, 'root', 'inner'));
    expect(() => check('work', { roots })).toThrow(/workspace_roots/);
  });
});

test('a private one that cannot be made is named, with what to do (regression)', () => {
  const stateDir = mkdtempSync(join(tmpdir(), 'prx-private-'));
  try {
    writeFileSync(join(stateDir, 'workspaces'), 'a file');
    expect(() => createPrivateWorkspace(stateDir, 's_0123456789abcdef' as SessionId)).toThrow(
      `${stateDir}/workspaces cannot be used (ENOTDIR); a file is in its place`,
    );
  } finally {
    rmSync(stateDir, { recursive: true });
  }
});
