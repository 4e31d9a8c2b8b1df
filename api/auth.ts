/** Who may ask what. The unix socket is its owner's: whoever can open it may do everything. On TCP
 *  a request must name this server (Host: no DNS rebinding), must not come from a foreign web page
 *  (Origin), and must carry a bearer token whose scope covers the route. Pure. */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { PrxError } from '../base/errors.ts';
import type { Route, Scope } from './route.ts';

export interface ApiToken {
  /** Shown in the journal as `token:<name>`. */
  readonly name: string;
  /** SHA-256 of the token, hex: the token itself is stored nowhere. */
  readonly sha256: string;
  /** Empty: the token is valid and allows nothing. admin includes operate, operate read. */
  readonly scopes: readonly Scope[];
}

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
  hasScope(scope: Scope): boolean;
}

const includes: Readonly<Record<Scope, readonly Scope[]>> = {
  read: ['read'],
  operate: ['read', 'operate'],
  admin: ['read', 'operate', 'admin'],
};

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
export function authorize(
  door: Door,
  route: Pick<Route, 'scope'>,
  request: { headers: IncomingHttpHeaders; tokens: readonly ApiToken[] },
): Caller {
  if (door.kind === 'socket') return socketCaller;
  if (route.scope === 'none') return anonymousCaller;
  const token = findToken(request.headers.authorization, request.tokens);
  if (token === undefined) throw unauthorized(request.tokens);
  const granted = new Set(token.scopes.flatMap((scope) => includes[scope]));
  if (!granted.has(route.scope)) {
    throw new PrxError(
      'FORBIDDEN',
      `this needs the scope '${route.scope}'; the token '${token.name}' has: ` +
        `${token.scopes.join(', ') || 'none'}`,
    );
  }
  return { by: `token:${token.name}`, hasScope: (scope) => granted.has(scope) };
}

function unauthorized(tokens: readonly ApiToken[]): PrxError {
  const mend =
    tokens.length === 0
      ? 'no token is configured: add one under api.tokens, or use the unix socket'
      : 'send Authorization: Bearer TOKEN with a token of api.tokens';
  return new PrxError('UNAUTHORIZED', `the request carries no valid token; ${mend}`);
}

/** All tokens are compared, each in constant time: the answer's time says nothing of them. */
function findToken(header: string | undefined, tokens: readonly ApiToken[]): ApiToken | undefined {
  const given = /^Bearer +(\S+)$/i.exec(header ?? '')?.[1];
  if (given === undefined) return undefined;
  const digest = createHash('sha256').update(given).digest();
  const matches = tokens.filter((token) => {
    const expected = Buffer.from(token.sha256, 'hex');
    return expected.length === digest.length && timingSafeEqual(expected, digest);
  });
  return matches[0];
}
