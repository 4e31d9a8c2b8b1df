/** The issued tokens on disk: hashes only, owner-only, replaced as a whole and synced before it
 *  counts. A file of its own and not the journal: an append-only history, which a token of scope
 *  read may export, is no place for credentials; and a revocation must work also when the journal
 *  takes no writes. What cannot be read as a whole makes no token valid. */
import { open, readFile, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import { PrxError, systemCode } from '../base/errors.ts';
import { scopeSchema, tokenNameSchema } from '../protocol/tokens.ts';

const issuedSchema = z.strictObject({
  name: tokenNameSchema,
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  scopes: z.array(scopeSchema).min(1),
  created_at: z.iso.datetime(),
  expires_at: z.iso.datetime().optional(),
  last_used_at: z.iso.datetime().optional(),
});
export type IssuedToken = z.infer<typeof issuedSchema>;

const fileSchema = z.strictObject({ version: z.literal(1), tokens: z.array(issuedSchema) });

/** No file: no token. @throws STATE_DIR_UNUSABLE for one that is damaged or cannot be read. */
export async function readTokenFile(path: string): Promise<readonly IssuedToken[]> {
  try {
    return fileSchema.parse(JSON.parse(await readFile(path, 'utf8'))).tokens;
  } catch (cause) {
    if (systemCode(cause) === 'ENOENT') return [];
    const reason = systemCode(cause) ?? 'it is damaged';
    const message =
      `the tokens in ${path} cannot be read (${reason}), so none of them is valid; ` +
      'put the file back, or move it away and create tokens anew';
    throw new PrxError('STATE_DIR_UNUSABLE', message, { cause });
  }
}

/** @throws STATE_DIR_UNUSABLE; what was there is then there still. */
export async function writeTokenFile(path: string, tokens: readonly IssuedToken[]): Promise<void> {
  const draft = `${path}.new`;
  try {
    await writeSynced(draft, `${JSON.stringify({ version: 1, tokens }, undefined, 1)}\n`);
    await rename(draft, path);
    await syncFolder(dirname(path));
  } catch (cause) {
    // Half a file is nothing to keep; the first failure is the one to tell.
    await rm(draft, { force: true }).catch(() => undefined);
    const code = systemCode(cause) ?? 'unknown';
    throw new PrxError('STATE_DIR_UNUSABLE', `the tokens cannot be saved in ${path} (${code})`, {
      cause,
    });
  }
}

async function writeSynced(path: string, text: string): Promise<void> {
  const file = await open(path, 'w', 0o600);
  try {
    await file.chmod(0o600);
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
