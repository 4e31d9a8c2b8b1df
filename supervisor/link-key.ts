/** The key that signs links to approvals: made once, kept in the state directory, owner-only. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemCode } from '../base/errors.ts';
import type { Random } from '../base/random.ts';

/** Reads the key, or makes one; a file that was cut off is replaced, which ends older links. */
export function createLinkKey(stateDir: string, random: Random): () => string {
  const file = join(stateDir, 'link-key');
  let key: string | undefined;
  return () => {
    key ??= read(file) ?? write(file, random);
    return key;
  };
}

function read(file: string): string | undefined {
  try {
    const text = readFileSync(file, 'utf8').trim();
    return /^[0-9a-f]{64}$/.test(text) ? text : undefined;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function write(file: string, random: Random): string {
  const key = random.hex(32);
  rmSync(file, { force: true });
  writeFileSync(file, `${key}\n`, { mode: 0o600, flag: 'wx' });
  return key;
}
