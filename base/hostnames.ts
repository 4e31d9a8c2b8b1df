/** Names of hosts as text, and patterns over them: one canonical form, so that no spelling of a
 *  name (case, a last dot, percent signs, numbers that mean an address) passes a rule that another
 *  spelling would not. Pure; nothing is resolved here. */
import { isIP } from 'node:net';

/** A host in its one form: a lower-case ASCII name, or an address without brackets. */
export type CanonicalHost =
  | { readonly kind: 'name'; readonly host: string }
  | { readonly kind: 'address'; readonly host: string; readonly family: 4 | 6 };

export interface HostPattern {
  readonly host: CanonicalHost;
  /** True: every name below it, and not itself. */
  readonly isWildcard: boolean;
  /** undefined: the caller's default ports. */
  readonly port: number | undefined;
}

const NAME_CHARS_MAX = 253;
/** What an honest name never holds; a parser may take it for the end, or for credentials. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused.
const REFUSED = /[\u0000-\u0020\u007f%@/\\?#<>^|\u00ad\u200b-\u200f\u2028-\u202e\ufeff]/;
const LABEL = /^(?!-)[a-z0-9_-]{1,63}(?<!-)$/;

/** The canonical form, or undefined for what is no host. Decimal, octal, hexadecimal and short
 *  forms of IPv4 become the address that they mean; IPv6 loses its brackets and its zeros. */
export function parseHost(text: string): CanonicalHost | undefined {
  if (text === '' || text.length > 1000 || REFUSED.test(text)) return undefined;
  const bare = text.startsWith('[') && text.endsWith(']') ? text.slice(1, -1) : text;
  const isV6 = isIP(bare) === 6;
  if (!isV6 && (bare !== text || bare.includes(':'))) return undefined;
  const host = toUrlHost(isV6 ? `[${bare}]` : bare);
  if (host === undefined) return undefined;
  const plain = host.startsWith('[') ? host.slice(1, -1) : host.replace(/\.$/, '');
  const family = isIP(plain);
  if (family === 4 || family === 6) return { kind: 'address', host: plain, family };
  const isName = plain.length <= NAME_CHARS_MAX && plain.split('.').every((l) => LABEL.test(l));
  return isName ? { kind: 'name', host: plain } : undefined;
}

/** As the URL standard writes it: international names in ASCII, numbers as addresses. */
function toUrlHost(host: string): string | undefined {
  const url = URL.parse(`http://${host}/`);
  return url === null || url.port !== '' || url.username !== '' ? undefined : url.hostname;
}

/** What is behind IPv6 clothes (`::ffff:a.b.c.d`): for whoever refuses, since it is the same
 *  machine. Not for whoever allows: what is listed is listed as it is written. */
export function toBareHost(host: CanonicalHost): CanonicalHost {
  const match = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(host.host);
  if (match === null) return host;
  const words = [match[1], match[2]].map((word) => Number.parseInt(word ?? '0', 16));
  const bare = words.flatMap((word) => [word >> 8, word & 0xff]).join('.');
  return { kind: 'address', host: bare, family: 4 };
}

/** `HOST:PORT` with an explicit port, as CONNECT has it; undefined for anything else. */
export function parseAuthority(
  text: string,
): { readonly host: CanonicalHost; readonly port: number } | undefined {
  // Without brackets, an IPv6 address and a port could not be told apart.
  const match = /^(\[[^\]]+\]|[^:]+):(\d{1,5})$/.exec(text);
  const host = parseHost(match?.[1] ?? '');
  const port = Number(match?.[2]);
  return host === undefined || !isPort(port) ? undefined : { host, port };
}

function isPort(port: number): boolean {
  return Number.isInteger(port) && port >= 1 && port <= 65_535;
}

/** `example.org`, `*.example.org`, `192.0.2.7`, `[2001:db8::1]`, each with `:PORT` or without.
 *  A wildcard stands for whole labels in front, and leaves at least two behind it: `*` and `*.com`
 *  are no patterns. */
export function parseHostPattern(text: string): HostPattern | undefined {
  const isWildcard = text.startsWith('*.');
  const rest = isWildcard ? text.slice(2) : text;
  const whole = parseHost(rest);
  const parts = whole === undefined ? parseAuthority(rest) : { host: whole, port: undefined };
  if (parts === undefined) return undefined;
  const isBroad = parts.host.kind === 'address' || !parts.host.host.includes('.');
  return isWildcard && isBroad ? undefined : { ...parts, isWildcard };
}

/** Whether the pattern names this host. Ports are the caller's. */
export function matchesHost(pattern: HostPattern, host: CanonicalHost): boolean {
  if (pattern.host.kind !== host.kind) return false;
  if (!pattern.isWildcard) return pattern.host.host === host.host;
  return host.host.endsWith(`.${pattern.host.host}`);
}

/** As it stands in a URL. */
export function toHostText(host: CanonicalHost): string {
  return host.kind === 'address' && host.family === 6 ? `[${host.host}]` : host.host;
}
