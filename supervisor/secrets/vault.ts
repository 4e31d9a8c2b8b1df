/** The vault: named values in one file of the state dir, each encrypted by itself (AES-256-GCM).
 *  What stands beside a value (its name, who may use it, until when) is authenticated with it, so
 *  that an edit of the file widens nothing. The value exists outside only in the memory of whom it
 *  is given to. */
import { createCipheriv, createDecipheriv, createHash } from 'node:crypto';
import { z } from 'zod';
import { PrxError } from '../../base/errors.ts';
import { readPrivateFile, writePrivateFile } from '../../base/private-file.ts';
import type { Random } from '../../base/random.ts';

export interface VaultKey {
  /** Says which key without saying it. */
  readonly id: string;
  readonly bytes: Buffer;
}

export const SECRET_NAME = /^[A-Za-z_][A-Za-z0-9_.-]{0,63}$/;

const entrySchema = z.strictObject({
  /** Agents that may use it; empty: all. */
  agents: z.array(z.string()),
  created_at: z.string(),
  /** Absent: it does not expire. */
  expires_at: z.string().optional(),
  key_id: z.string(),
  nonce: z.string(),
  data: z.string(),
  tag: z.string(),
});
const fileSchema = z.strictObject({
  version: z.literal(1),
  entries: z.record(z.string(), entrySchema),
});
export type Entry = z.infer<typeof entrySchema>;
export type EntryFacts = Pick<Entry, 'agents' | 'created_at' | 'expires_at' | 'key_id'>;
export type Entries = Readonly<Record<string, Entry>>;

export const ENTRIES_MAX = 1000;
export const VALUE_BYTES_MAX = 64 * 1024;
const CIPHER = 'aes-256-gcm';
const KEY_BYTES = 32;
const NONCE_BYTES = 12;

/** The entries; none when there is no vault. Throws STATE_DIR_UNUSABLE for a file that is none. */
export function readVault(path: string): Entries {
  const bytes = readPrivateFile(path);
  if (bytes === undefined) return {};
  try {
    return fileSchema.parse(JSON.parse(bytes.toString('utf8'))).entries;
  } catch (cause) {
    const message = `${path} is no vault of this version; restore a backup of it, or move it`;
    throw new PrxError('STATE_DIR_UNUSABLE', message, { cause });
  }
}

export function writeVault(path: string, entries: Entries): void {
  writePrivateFile(path, `${JSON.stringify({ version: 1, entries }, undefined, 1)}\n`);
}

/** Throws INVALID_REQUEST for bytes that are no key of 256 bits. */
export function toVaultKey(bytes: Buffer): VaultKey {
  if (bytes.length !== KEY_BYTES) {
    const message = `a vault key has ${KEY_BYTES} bytes, and this one ${bytes.length}`;
    throw new PrxError('INVALID_REQUEST', `${message}; make one: openssl rand -hex ${KEY_BYTES}`);
  }
  const id = createHash('sha256').update('prx-supervisor vault key').update(bytes).digest('hex');
  return { id: id.slice(0, 16), bytes };
}

export interface Sealing {
  readonly key: VaultKey;
  readonly name: string;
  readonly value: Buffer;
  readonly facts: Omit<EntryFacts, 'key_id'>;
  readonly random: Random;
}

/** A fresh nonce each time: the same value twice is not seen to be the same. */
export function seal({ key, name, value, facts, random }: Sealing): Entry {
  const nonce = Buffer.from(random.hex(NONCE_BYTES), 'hex');
  const known = { ...facts, key_id: key.id };
  const cipher = createCipheriv(CIPHER, key.bytes, nonce);
  cipher.setAAD(toContext(name, known));
  const data = Buffer.concat([cipher.update(value), cipher.final()]);
  const texts = { nonce, data, tag: cipher.getAuthTag() };
  const { nonce: n, data: d, tag: t } = texts;
  return { ...known, nonce: toText(n), data: toText(d), tag: toText(t) };
}

/** Throws SECRET_UNREADABLE for another key, or for an entry that was changed. */
export function unseal(key: VaultKey, name: string, entry: Entry): Buffer {
  if (entry.key_id !== key.id) {
    const message = `the secret ${name} was encrypted with the key ${entry.key_id}, and the vault key is ${key.id}`;
    throw new PrxError('SECRET_UNREADABLE', `${message}; bring the former back, or set it anew`);
  }
  const decipher = createDecipheriv(CIPHER, key.bytes, fromText(entry.nonce), {
    authTagLength: 16,
  });
  decipher.setAAD(toContext(name, entry));
  try {
    decipher.setAuthTag(fromText(entry.tag));
    return Buffer.concat([decipher.update(fromText(entry.data)), decipher.final()]);
  } catch (cause) {
    const message = `the secret ${name} does not pass its check: the vault file was changed by hand or damaged`;
    throw new PrxError('SECRET_UNREADABLE', `${message}; set it anew`, { cause });
  }
}

function toContext(name: string, facts: EntryFacts): Buffer {
  const { agents, created_at, expires_at, key_id } = facts;
  return Buffer.from(JSON.stringify([1, name, agents, created_at, expires_at ?? null, key_id]));
}

const toText = (bytes: Buffer): string => bytes.toString('base64');
const fromText = (text: string): Buffer => Buffer.from(text, 'base64');
