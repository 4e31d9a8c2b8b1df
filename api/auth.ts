/** Who may ask what. The unix socket is its owner's: whoever can open it may do everything. On TCP
 *  a request must name this server (Host: no DNS rebinding), must not come from a foreign web page
 *  (Origin), and must carry a bearer token whose scope covers the route. Pure. */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { toTimestamp } from '../base/clock.ts';
import { PrxError } from '../base/errors.ts';
import type { Scope } from '../protocol/tokens.ts';
import type { Credential } from '../supervisor/index.ts';
import type { Route } from './route.ts';

/** Through which listener a request came. */
export type Door =
  | { readonly kind: 'socket' }
  | {
      readonly kind: 'tcp';
      /** Names besides the loopback ones that this server answers to, lower case. */
      readonly hosts: readonly string[];
      /** Origins besides the server's own whose pages may call, as `https://host[:port]`. */
      readonly origins: readonly string[];
    };

export interface Caller {
  readonly by: string;
  /** Absent: it needed none. */
  readonly token?: Credential;
  hasScope(scope: Scope): boolean;
}

/** A token without scopes is valid and allows nothing. */
const includes: Readonly<Record<Scope, readonly Scope[]>> = {
  read: ['read'],
  approve: ['read', 'approve'],
  operate: ['read', 'approve', 'operate'],
  admin: ['read', 'approve', 'operate', 'admin'],
};

/** What a request is judged by, besides its route and its door. */
export interface Claim {
  readonly headers: IncomingHttpHeaders;
  readonly tokens: readonly Credential[];
  readonly wallMs: number;
}

const LOOPBACK_NAMES: readonly string[] = ['localhost', '127.0.0.1', '[::1]'];

const socketCaller: Caller = { by: 'socket', hasScope: () => true };
const anonymousCaller: Caller = { by: 'anonymous', hasScope: () => false };

/** @param localAddress  the address the request arrived at: naming it is naming this server.
 *  @throws MISDIRECTED, FORBIDDEN. */
export function checkAddress(
  door: Door,
  headers: IncomingHttpHeaders,
  localAddress: string | undefined,
): void {
  if (door.kind === 'socket') return;
  const host = headers.host?.toLowerCase() ?? '';
  const local = localAddress === undefined ? [] : [toHostName(localAddress)];
  const names = [...LOOPBACK_NAMES, ...door.hosts, ...local];
  if (!names.includes(host.replace(/:\d*$/, ''))) {
    throw new PrxError(
      'MISDIRECTED',
      `the Host header '${host}' is none of this server's names; use one of: ${names.join(', ')}`,
    );
  }
  const { origin } = headers;
  if (origin === undefined || door.origins.includes(origin)) return;
  if (URL.canParse(origin) && new URL(origin).host === host) return;
  throw new PrxError('FORBIDDEN', `requests from the web origin '${origin}' are refused`);
}

/** An address as it stands in a Host header. */
export function toHostName(address: string): string {
  const plain = address.replace(/^::ffff:(?=\d+\.)/, '').toLowerCase();
  return plain.includes(':') && !plain.startsWith('[') ? `[${plain}]` : plain;
}

/** The caller of a route. @throws UNAUTHORIZED without a valid token, FORBIDDEN without scope. */
export function authorize(door: Door, route: Pick<Route, 'scope'>, claim: Claim): Caller {
  if (door.kind === 'socket') return socketCaller;
  if (route.scope === 'none') return anonymousCaller;
  const token = findToken(claim);
  if (token === undefined) throw unauthorized(claim.tokens);
  if (isExpired(token, claim.wallMs)) {
    const message = `the token '${token.name}' expired at ${toTimestamp(token.expiresAtMs ?? 0)}`;
    throw new PrxError('UNAUTHORIZED', `${message}; create another: token create`);
  }
  const granted = new Set(token.scopes.flatMap((scope) => includes[scope]));
  if (!granted.has(route.scope)) {
    throw new PrxError(
      'FORBIDDEN',
      `this needs the scope '${route.scope}'; the token '${token.name}' has: ` +
        `${token.scopes.join(', ') || 'none'}`,
    );
  }
  return { by: `token:${token.name}`, token, hasScope: (scope) => granted.has(scope) };
}

export function isExpired({ expiresAtMs }: Credential, wallMs: number): boolean {
  return expiresAtMs !== undefined && expiresAtMs <= wallMs;
}

function unauthorized(tokens: readonly Credential[]): PrxError {
  const mend =
    tokens.length === 0
      ? 'no token is configured: make one with `token create`, or use the unix socket'
      : 'send Authorization: Bearer TOKEN; `token create` makes one';
  return new PrxError('UNAUTHORIZED', `the request carries no valid token; ${mend}`);
}

/** SHA-256 of the token that a request carries; undefined: it carries none. */
export function digestToken(headers: IncomingHttpHeaders): Buffer | undefined {
  const given = /^Bearer +(\S+)$/i.exec(headers.authorization ?? '')?.[1];
  return given === undefined ? undefined : createHash('sha256').update(given).digest();
}

/** All tokens are compared, each in constant time: the answer's time says nothing of them. */
function findToken({ headers, tokens }: Claim): Credential | undefined {
  const digest = digestToken(headers);
  if (digest === undefined) return undefined;
  const matches = tokens.filter((token) => {
    const expected = Buffer.from(token.sha256, 'hex');
    return expected.length === digest.length && timingSafeEqual(expected, digest);
  });
  return matches[0];
}
