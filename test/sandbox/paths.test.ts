import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { refuseGuarded } from '../../sandbox/inside/paths.ts';

let workspace = '';
beforeEach(() => {
  workspace = mkdtempSync(join(tmpdir(), 'prx-paths-'));
  mkdirSync(join(workspace, '.git'));
  for (const name of ['.envrc', '.git/config', 'plain']) writeFileSync(join(workspace, name), '');
  symlinkSync('.', join(workspace, 'folder'));
  symlinkSync('.envrc', join(workspace, 'file'));
  symlinkSync('file', join(workspace, 'further'));
  symlinkSync('.git/config', join(workspace, 'git'));
  symlinkSync('plain', join(workspace, 'harmless'));
});
afterEach(() => {
  rmSync(workspace, { recursive: true, force: true });
});

test.each(['.envrc', '.git/config', 'folder/.envrc', 'folder/.vscode/x', 'file', 'further', 'git'])(
  '%s is refused, by whichever of its names',
  (path) => {
    expect(() => refuseGuarded(workspace, join(workspace, path))).toThrow(/is protected/);
  },
);

test.each(['plain', 'harmless', 'folder/plain', 'new', '.git/COMMIT_EDITMSG'])(
  '%s is not',
  (path) => {
    expect(() => refuseGuarded(workspace, join(workspace, path))).not.toThrow();
  },
);
