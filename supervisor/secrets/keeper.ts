/** Changes to the vault, one at a time over all processes: set, remove, list, a new key. */
import { existsSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, toTimestamp } from '../../base/clock.ts';
import { isPrxError, PrxError } from '../../base/errors.ts';
import { makeFolder } from '../../base/make-folder.ts';
import type { Random } from '../../base/random.ts';
import { Database, findTrouble } from '../../store/sqlite.ts';
import { unusable } from '../../store/state-dir.ts';
import type { Environment } from '../config.ts';
import type { RawConfig } from '../config-schema.ts';
import { type Access, logAccess } from './access-log.ts';
import {
  ENTRIES_MAX,
  type Entries,
  type EntryFacts,
  readVault,
  SECRET_NAME,
  seal,
  toVaultKey,
  unseal,
  VALUE_BYTES_MAX,
  type VaultKey,
  writeVault,
} from './vault.ts';
import {
  checkKeyPlace,
  ensureVaultKey,
  findKeySource,
  type KeySource,
  readVaultKey,
  writeVaultKey,
} from './vault-key.ts';

export interface KeeperDeps {
  readonly stateDir: string;
  readonly settings: RawConfig['secrets'];
  readonly env: Environment;
  readonly clock: Clock;
  readonly random: Random;
}

export interface SecretView extends Pick<EntryFacts, 'agents' | 'created_at' | 'expires_at'> {
  readonly name: string;
  readonly expired: boolean;
}

export interface NewSecret {
  readonly name: string;
  readonly value: Buffer;
  readonly agents: readonly string[];
  /** Absent: it does not expire. */
  readonly ttlMs?: number | undefined;
}

export function toVaultPath(stateDir: string): string {
  return join(stateDir, 'vault.json');
}

/** The key in force. A rotation that was cut short left its key beside the old one; whichever the
 *  vault was written with is the one. */
export function readKey(source: KeySource, entries: Entries): VaultKey {
  const wanted = Object.values(entries)[0]?.key_id;
  if (source.kind !== 'file' || wanted === undefined) return readVaultKey(source);
  const next = { ...source, path: toNextPath(source.path) };
  if (!existsSync(next.path)) return readVaultKey(source);
  const rotated = readVaultKey(next);
  return rotated.id === wanted ? rotated : readVaultKey(source);
}

const toNextPath = (path: string): string => `${path}.next`;

/** Sets or replaces one. Throws INVALID_REQUEST, LIMIT_EXCEEDED, SECRET_UNREADABLE, and
 *  STATE_DIR_UNUSABLE when it cannot be written. */
export function setSecret(deps: KeeperDeps, secret: NewSecret): SecretView {
  const { clock, random, stateDir } = deps;
  const { name, value, agents, ttlMs } = secret;
  checkNew(name, value);
  return change(deps, { action: 'set', name }, (entries, source) => {
    const isFull = Object.keys(entries).length >= ENTRIES_MAX && !Object.hasOwn(entries, name);
    if (isFull)
      throw new PrxError('LIMIT_EXCEEDED', `a vault holds at most ${ENTRIES_MAX} secrets`);
    checkKeyPlace(source, stateDir);
    const isEmpty = Object.keys(entries).length === 0;
    const key = isEmpty ? ensureVaultKey(source, random) : readKey(source, entries);
    const expiry = ttlMs === undefined ? {} : { expires_at: toTimestamp(clock.wallMs() + ttlMs) };
    const created_at = toTimestamp(clock.wallMs());
    const facts = { agents: [...agents].sort(), created_at, ...expiry };
    const entry = seal({ key, name, value, facts, random });
    return { entries: { ...entries, [name]: entry }, answer: toView(name, entry, clock) };
  });
}

/** Throws NOT_FOUND. */
export function removeSecret(deps: KeeperDeps, name: string): void {
  change(deps, { action: 'rm', name }, (entries) => {
    if (!Object.hasOwn(entries, name)) throw unknownSecret(name, entries);
    const { [name]: _, ...rest } = entries;
    return { entries: rest, answer: undefined };
  });
}

export function listSecrets({ stateDir, clock }: KeeperDeps): readonly SecretView[] {
  const entries = Object.entries(readVault(toVaultPath(stateDir)));
  return entries
    .map(([name, entry]) => toView(name, entry, clock))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** A new key, and everything encrypted anew with it. The new key is on disk before the vault needs
 *  it, and the old one until it does not. @returns how many were encrypted. */
export function rotateKey(deps: KeeperDeps): number {
  const { random } = deps;
  return change(deps, { action: 'rotate', name: '*' }, (entries, source) => {
    if (source.kind !== 'file') throw notOurs(source);
    const old = readKey(source, entries);
    const hex = random.hex(32);
    const key = toVaultKey(Buffer.from(hex, 'hex'));
    const anew = Object.entries(entries).map(([name, { agents, created_at, expires_at, ...e }]) => {
      const facts = { agents, created_at, ...(expires_at === undefined ? {} : { expires_at }) };
      const value = unseal(old, name, { ...facts, ...e });
      return [name, seal({ key, name, value, facts, random })] as const;
    });
    const next = toNextPath(source.path);
    writeVaultKey(next, hex);
    return {
      entries: Object.fromEntries(anew),
      answer: anew.length,
      finish: () => renameSync(next, source.path),
    };
  });
}

interface Change<T> {
  readonly entries: Entries;
  readonly answer: T;
  readonly finish?: () => void;
}

function change<T>(
  deps: KeeperDeps,
  access: Access,
  act: (entries: Entries, source: KeySource) => Change<T>,
): T {
  const { stateDir, settings, env, clock } = deps;
  const lock = inStateDir(stateDir, () => {
    makeFolder(stateDir);
    return openLock(stateDir);
  });
  try {
    const path = toVaultPath(stateDir);
    const source = findKeySource(settings, env);
    const entries = readVault(path);
    finishRotation(source, entries);
    const { entries: changed, answer, finish } = act(entries, source);
    inStateDir(stateDir, () => {
      logAccess(stateDir, clock, access);
      writeVault(path, changed);
    });
    finish?.();
    return answer;
  } finally {
    lock.close();
  }
}

/** A full disk, a mode: named, with what to do. */
function inStateDir<T>(stateDir: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw isPrxError(error) ? error : unusable(stateDir, error);
  }
}

/** What a rotation that was killed left: its key is the one in force, or was never used. */
function finishRotation(source: KeySource, entries: Entries): void {
  if (source.kind !== 'file' || !existsSync(toNextPath(source.path))) return;
  const next = toNextPath(source.path);
  const isInForce =
    readVaultKey({ ...source, path: next }).id === Object.values(entries)[0]?.key_id;
  if (isInForce) renameSync(next, source.path);
  else rmSync(next);
}

const LOCK_WAIT_MS = 5000;

/** The kernel drops it with its owner. */
function openLock(stateDir: string): Database {
  const db = new Database(join(stateDir, 'vault-lock.db'), {
    ...{ readOnly: false, busyTimeoutMs: LOCK_WAIT_MS },
  });
  try {
    db.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE');
    return db;
  } catch (error) {
    db.close();
    if (findTrouble(error) !== 'busy') throw error;
    const message = `another process has been changing the vault for ${LOCK_WAIT_MS / 1000} s`;
    throw new PrxError('AT_CAPACITY', `${message}; try again`);
  }
}

function checkNew(name: string, value: Buffer): void {
  if (!SECRET_NAME.test(name)) {
    const message = `${JSON.stringify(name)} is no name for a secret: letters, digits, _ . -, at most 64, no digit first`;
    throw new PrxError('INVALID_REQUEST', message);
  }
  if (value.length > 0 && value.length <= VALUE_BYTES_MAX) return;
  const message = `the value has ${value.length} bytes; it may have 1 to ${VALUE_BYTES_MAX}`;
  throw new PrxError('INVALID_REQUEST', message);
}

export function unknownSecret(name: string, entries: Entries): PrxError {
  const known = Object.keys(entries).sort().join(', ');
  const message = `there is no secret ${name}; there are: ${known === '' ? 'none' : known}`;
  return new PrxError('NOT_FOUND', `${message}. \`prx-supervisor secret set ${name}\` makes it`);
}

function notOurs(source: KeySource): PrxError {
  const from = source.kind === 'env' ? 'the environment' : 'systemd';
  const message = `the vault key comes from ${from}, which is not ours to change`;
  const mend = 'remove the secrets, put a new key there, and set them again';
  return new PrxError('UNSUPPORTED', `${message}; ${mend}`);
}

function toView(name: string, entry: EntryFacts, clock: Clock): SecretView {
  const { agents, created_at, expires_at } = entry;
  const expired = isExpired(entry, clock);
  return { name, agents, created_at, ...(expires_at === undefined ? {} : { expires_at }), expired };
}

export function isExpired({ expires_at }: EntryFacts, clock: Clock): boolean {
  return expires_at !== undefined && Date.parse(expires_at) <= clock.wallMs();
}
