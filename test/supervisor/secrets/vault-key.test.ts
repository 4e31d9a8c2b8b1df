import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { realRandom } from '../../../base/random.ts';
import { ensureVaultKey } from '../../../supervisor/secrets/vault-key.ts';

test('a key that cannot be made is named, with the mend (regression)', () => {
  const dir = mkdtempSync(join(tmpdir(), 'prx-vault-key-'));
  try {
    symlinkSync(join(dir, 'nowhere'), join(dir, 'link'));
    const path = join(dir, 'link', 'key');
    expect(() => ensureVaultKey({ kind: 'file', path }, realRandom)).toThrow(
      `cannot make the vault key ${path}: ENOENT; name a file that can be written in secrets.key_file`,
    );
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
