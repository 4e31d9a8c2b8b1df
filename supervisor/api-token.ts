/** Tokens for the TCP door. Those of the config, and, when the door is open and the config names
 *  none, one made at the first start and kept in the state dir (owner-only): there is never an
 *  open door without a token. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Random } from '../base/random.ts';
import type { Config } from './config.ts';

export interface Token {
  readonly name: string;
  readonly sha256: string;
  readonly scopes: readonly ('read' | 'operate' | 'admin')[];
}

export interface Tokens {
  readonly tokens: readonly Token[];
  /** The file with the token we made; undefined: none was needed. */
  readonly file: string | undefined;
}

export function ensureToken(config: Config, random: Random): Tokens {
  const { listen, tokens } = config.raw.api;
  if (listen === undefined || tokens.length > 0) return { tokens, file: undefined };
  const file = join(config.stateDir, 'api-token');
  if (!existsSync(file)) writeFileSync(file, `${random.hex(32)}\n`, { mode: 0o600, flag: 'wx' });
  const token = readFileSync(file, 'utf8').trim();
  const sha256 = createHash('sha256').update(token).digest('hex');
  return { tokens: [{ name: 'local', sha256, scopes: ['admin'] }], file };
}
