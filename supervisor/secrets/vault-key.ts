/** Where the vault's key is: a file of ours, a credential that systemd hands over, or a variable
 *  where that is written. Never in the state dir, where the vault is. */
import { existsSync, readFileSync } from 'node:fs';
import { isAbsolute, join, relative } from 'node:path';
import { PrxError, systemCode } from '../../base/errors.ts';
import { homeOf } from '../../base/home.ts';
import { readPrivateFile, writePrivateFile } from '../../base/private-file.ts';
import type { Random } from '../../base/random.ts';
import type { Environment } from '../config.ts';
import type { RawConfig } from '../config-schema.ts';
import { toVaultKey, type VaultKey } from './vault.ts';

export type KeySource =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'credential'; readonly path: string | undefined; readonly name: string }
  | { readonly kind: 'env'; readonly value: string | undefined; readonly name: string };

/** What the configuration says; by default a file beside the user's own config file. Pure. */
export function findKeySource(settings: RawConfig['secrets'], env: Environment): KeySource {
  const { key_env: variable, key_credential: name, key_file: file } = settings;
  if (variable !== undefined) return { kind: 'env', value: env[variable], name: variable };
  if (name !== undefined) {
    const folder = env['CREDENTIALS_DIRECTORY'];
    return { kind: 'credential', path: folder && join(folder, name), name };
  }
  const home = env['XDG_CONFIG_HOME'] || join(homeOf(env), '.config');
  return { kind: 'file', path: file ?? join(home, 'prx-supervisor', 'vault-key') };
}

/** Throws SECRET_UNREADABLE when the source has no key. */
export function readVaultKey(source: KeySource): VaultKey {
  const text = readSource(source);
  if (text !== undefined && text.trim() !== '') return toVaultKey(parseKey(text.trim()));
  throw new PrxError('SECRET_UNREADABLE', `there is no vault key: ${toMissing(source)}`);
}

/** The key of a file, made if there is none yet. Throws as readVaultKey does. */
export function ensureVaultKey(source: KeySource, random: Random): VaultKey {
  if (source.kind === 'file' && readPrivateFile(source.path) === undefined) {
    makeVaultKey(source.path, random.hex(32));
  }
  return readVaultKey(source);
}

function makeVaultKey(path: string, hex: string): void {
  try {
    writeVaultKey(path, hex);
  } catch (cause) {
    const reason = systemCode(cause) ?? String(cause);
    const message = `cannot make the vault key ${path}: ${reason}; name a file that can be written in secrets.key_file`;
    throw new PrxError('SECRET_UNREADABLE', message, { cause });
  }
}

export function writeVaultKey(path: string, hex: string): void {
  writePrivateFile(path, `${hex}\n`);
}

/** A key beside what it opens opens nothing more than a copy of the folder does. */
export function checkKeyPlace(source: KeySource, stateDir: string): void {
  if (source.kind !== 'file') return;
  const inside = relative(stateDir, source.path);
  if (inside.startsWith('..') || isAbsolute(inside)) return;
  const message = `the vault key ${source.path} lies in the state directory, beside the vault that it opens`;
  throw new PrxError('CONFIG_INVALID', `${message}; set secrets.key_file to another place`);
}

/** systemd puts credentials where only the service can read them, with modes of its own. */
function readSource(source: KeySource): string | undefined {
  if (source.kind === 'env') return source.value;
  if (source.kind === 'file') return readPrivateFile(source.path)?.toString('utf8');
  const { path } = source;
  return path !== undefined && existsSync(path) ? readFileSync(path, 'utf8') : undefined;
}

function parseKey(text: string): Buffer {
  return /^[0-9a-fA-F]{64}$/.test(text) ? Buffer.from(text, 'hex') : Buffer.from(text, 'base64');
}

function toMissing(source: KeySource): string {
  switch (source.kind) {
    case 'file':
      return `${source.path} does not exist; \`prx-supervisor secret set\` makes it, or bring it back`;
    case 'credential':
      return `systemd gave no credential ${source.name}; add LoadCredential=${source.name}:FILE to the unit`;
    case 'env':
      return `the variable ${source.name} is not set (secrets.key_env)`;
  }
}
