/** Tokens for the TCP door. Those of the config, and, when the door is open and the config names
 *  none, one made at the first start and kept in the state dir (owner-only): there is never an
 *  open door without a token. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PrxError, systemCode } from '../base/errors.ts';
import type { Random } from '../base/random.ts';
import type { Scope } from '../protocol/tokens.ts';
import type { Config } from './config.ts';

export interface Token {
  readonly name: string;
  readonly sha256: string;
  readonly scopes: readonly Scope[];
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
  const token = keepToken(file, random);
  const sha256 = createHash('sha256').update(token).digest('hex');
  return { tokens: [{ name: 'local', sha256, scopes: ['admin'] }], file };
}

function keepToken(file: string, random: Random): string {
  try {
    return readToken(file) ?? writeToken(file, random);
  } catch (cause) {
    const reason = systemCode(cause) ?? String(cause);
    const message = `the token of the TCP door cannot be kept in ${file} (${reason})`;
    const mend = 'mend that, or name your own in [[api.tokens]]';
    throw new PrxError('STATE_DIR_UNUSABLE', `${message}; ${mend}`, { cause });
  }
}

/** Undefined: there is none, or one that a full disk or a crash left cut off: half a token would
 *  be a weak one, and an empty one none at all. */
function readToken(file: string): string | undefined {
  if (!existsSync(file)) return undefined;
  const token = readFileSync(file, 'utf8').trim();
  return /^[0-9a-f]{64}$/.test(token) ? token : undefined;
}

function writeToken(file: string, random: Random): string {
  const token = random.hex(32);
  rmSync(file, { force: true });
  writeFileSync(file, `${token}\n`, { mode: 0o600, flag: 'wx' });
  return token;
}
