/** Every token of the TCP door: those of the config (and the one made at the first start), and
 *  those that were issued while the supervisor runs. A revoked token is refused from the moment of
 *  the call, before that is durable; the value of a created one is told only once it is. Each is
 *  journaled. */
import { createHash } from 'node:crypto';
import { background } from '../base/background.ts';
import { type Clock, toTimestamp } from '../base/clock.ts';
import { PrxError, toPrxError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { Random } from '../base/random.ts';
import type { EventData } from '../protocol/events.ts';
import type { CreatedToken, CreateToken, TokenView } from '../protocol/tokens.ts';
import type { Token } from './api-token.ts';
import type { TokenBook } from './index.ts';
import { type IssuedToken, readTokenFile, writeTokenFile } from './token-file.ts';

type TokenEvent =
  | { readonly type: 'token.created'; readonly data: EventData<'token.created'> }
  | { readonly type: 'token.revoked'; readonly data: EventData<'token.revoked'> };

export interface TokenBookOptions {
  /** Of the issued tokens. */
  readonly file: string;
  readonly configured: readonly Token[];
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Journals; never rejects. */
  announce(event: TokenEvent): Promise<void>;
}

/** Issued at the same time; each is compared with what a request carries. */
const TOKENS_MAX = 1000;
/** How much of `last used` a kill may lose. */
const SAVE_MS = 60_000;

/** Never rejects: tokens that cannot be read are no tokens, and the log says so. */
export async function openTokenBook(options: TokenBookOptions): Promise<TokenBook> {
  const { file, logger } = options;
  try {
    return createTokenBook(options, await readTokenFile(file), undefined);
  } catch (error) {
    const broken = toPrxError(error);
    logger.error('token.file_unreadable', { file, error: broken.message });
    return createTokenBook(options, [], broken);
  }
}

/** Of a token's hash: enough to tell two tokens apart, useless to guess one. */
const FINGERPRINT_CHARS = 12;

function createTokenBook(
  options: TokenBookOptions,
  found: readonly IssuedToken[],
  broken: PrxError | undefined,
): TokenBook {
  const { file, clock, random, logger } = options;
  let configured = options.configured;
  let issued: readonly IssuedToken[] = found;
  /** Refused already, and in the file still: that could not be written. */
  const unsaved = new Map<string, IssuedToken>();
  const usedMs = new Map<string, number>();
  let saving: Promise<unknown> = Promise.resolve();
  let isSaveDue = false;
  const listeners = new Set<() => void>();

  const stamp = (token: IssuedToken): IssuedToken => {
    const used = usedMs.get(token.name);
    return used === undefined ? token : { ...token, last_used_at: toTimestamp(used) };
  };
  const save = (): Promise<void> => {
    const next = saving.then(async () => {
      const revoked = [...unsaved.keys()];
      await writeTokenFile(file, issued.map(stamp));
      for (const name of revoked) unsaved.delete(name);
    });
    saving = next.catch(() => undefined); // The caller is told; the next save stands by itself.
    return next;
  };
  const saveLater = (): void => {
    if (isSaveDue) return;
    isSaveDue = true;
    clock.setTimer(SAVE_MS, () => {
      isSaveDue = false;
      background(save(), 'token.save', logger);
    });
  };
  const change = (next: readonly IssuedToken[]): void => {
    issued = next;
    for (const hear of listeners) hear();
  };
  const toView = (token: IssuedToken): TokenView => {
    const { sha256: _hash, ...told } = stamp(token);
    const isExpired = Date.parse(token.expires_at ?? '') <= clock.wallMs();
    return { ...toCommonView(token, 'issued', undefined), ...told, is_expired: isExpired };
  };
  const nameOf = (asked: string | undefined): string => {
    const taken = new Set([...configured, ...issued].map(({ name }) => name));
    if (asked === undefined) return `token-${random.hex(4)}`;
    if (!taken.has(asked)) return asked;
    const message = `there is a token '${asked}' already; revoke it first, or take another name`;
    throw new PrxError('STATE_INVALID', message);
  };

  return {
    tokens: () => [...configured, ...issued.map(toCredential)],
    list: () => [
      ...configured.map((token) =>
        toCommonView(token, token.name === 'local' ? 'local' : 'config', usedMs.get(token.name)),
      ),
      ...issued.map(toView),
    ],
    async create(params: CreateToken, by: string): Promise<CreatedToken> {
      if (broken !== undefined) throw broken;
      if (issued.length >= TOKENS_MAX) {
        const message = `${issued.length} tokens are issued, the limit is ${TOKENS_MAX}`;
        throw new PrxError('LIMIT_EXCEEDED', `${message}; revoke those that nobody uses`);
      }
      const name = nameOf(params.name);
      const value = `prx_${random.hex(32)}`;
      const nowMs = clock.wallMs();
      const token: IssuedToken = {
        name,
        sha256: createHash('sha256').update(value).digest('hex'),
        scopes: params.scopes ?? ['read'],
        created_at: toTimestamp(nowMs),
        ...(params.expires_in_secs === undefined
          ? {}
          : { expires_at: toTimestamp(nowMs + params.expires_in_secs * 1000) }),
      };
      const { created_at: _now, sha256: _hash, ...told } = token;
      const data = { ...told, fingerprint: toFingerprint(token), by };
      // It is in the list at once, for its name; nobody has its value yet. Told before it is
      // saved: whatever dies between, no token exists that the journal does not name.
      issued = [...issued, token];
      await options.announce({ type: 'token.created', data });
      try {
        await save();
      } catch (error) {
        change(issued.filter((each) => each !== token));
        throw error;
      }
      logger.info('token.created', data);
      return { ...toView(token), token: value };
    },
    async revoke(name: string, by: string): Promise<void> {
      if (broken !== undefined) throw broken;
      const token = issued.find((each) => each.name === name) ?? unsaved.get(name);
      if (token === undefined) throw toNotIssued(name, configured);
      unsaved.set(name, token);
      change(issued.filter((each) => each !== token));
      usedMs.delete(name);
      const data = { name, fingerprint: toFingerprint(token), by };
      logger.info('token.revoked', data);
      try {
        await save();
      } catch (cause) {
        throw toUnsaved(name, cause);
      }
      await options.announce({ type: 'token.revoked', data });
    },
    noteUse(name) {
      usedMs.set(name, clock.wallMs());
      if (issued.some((token) => token.name === name)) saveLater();
    },
    configure(next) {
      configured = next;
      change(issued);
    },
    onChanged(hear) {
      listeners.add(hear);
    },
  };
}

function toCredential({ name, sha256, scopes, expires_at: expires }: IssuedToken) {
  const expiresAtMs = expires === undefined ? undefined : Date.parse(expires);
  return { name, sha256, scopes, ...(expiresAtMs === undefined ? {} : { expiresAtMs }) };
}

function toCommonView(
  token: Token,
  source: TokenView['source'],
  usedMs: number | undefined,
): TokenView {
  return {
    name: token.name,
    scopes: [...token.scopes],
    source,
    fingerprint: toFingerprint(token),
    is_expired: false,
    ...(usedMs === undefined ? {} : { last_used_at: toTimestamp(usedMs) }),
  };
}

function toFingerprint({ sha256 }: Pick<Token, 'sha256'>): string {
  return sha256.slice(0, FINGERPRINT_CHARS);
}

function toUnsaved(name: string, cause: unknown): PrxError {
  const { code, message } = toPrxError(cause);
  const mend = 'it would be valid again after a restart: mend that, and revoke it again';
  return new PrxError(code, `'${name}' is refused from now on, but ${message}; ${mend}`, { cause });
}

function toNotIssued(name: string, configured: readonly Token[]): PrxError {
  if (!configured.some((token) => token.name === name)) {
    const message = `there is no token '${name}'; they are listed by: token ls`;
    return new PrxError('NOT_FOUND', message);
  }
  const message = `the token '${name}' is of the configuration, not issued here`;
  const mend =
    'take it out of [[api.tokens]] (the local one: remove the file api-token) and reload';
  return new PrxError('STATE_INVALID', `${message}; ${mend}`);
}
