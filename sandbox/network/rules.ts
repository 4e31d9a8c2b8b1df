/** What a session's tools may reach, decided by pure functions: once by the name that is asked
 *  for, and once more by each address that the name turned out to have. Never: a decision by a
 *  name alone, because whoever owns a name decides what it resolves to. */
import {
  type CanonicalHost,
  type HostPattern,
  matchesHost,
  parseHost,
  parseHostPattern,
  toBareHost,
  toHostText,
} from '../../base/hostnames.ts';
import type { NetworkPolicy } from '../../protocol/network.ts';
import { findPrivateKind } from './addresses.ts';

export interface NetworkQuestion {
  readonly host: CanonicalHost;
  readonly port: number;
  /** Absent: what goes through a tunnel cannot be seen. */
  readonly method?: string;
}

export type NetworkVerdict =
  | { readonly decision: 'allow'; readonly rule: string }
  | { readonly decision: 'deny'; readonly rule: string; readonly reason: string };

export interface NetworkRules {
  readonly mode: NetworkPolicy['mode'];
  /** Not every method: then a tunnel is for TLS only, because plain HTTP in one is not seen. */
  readonly limitsMethods: boolean;
  decide(question: NetworkQuestion): NetworkVerdict;
  /** For an address that an allowed host has. */
  decideAddress(address: string, port: number): NetworkVerdict;
  /** For the model: what it may reach. */
  readonly allowed: string;
}

const HTTP_PORT = 80;
const DEFAULT_PORTS: readonly number[] = [HTTP_PORT, 443];
const SHOWN_MAX = 40;

/** Entries that are no pattern are ignored: the configuration was checked when it was read, and an
 *  entry less allows less. `isOwnAddress`: what answers there is this machine itself. */
export function createNetworkRules(
  policy: NetworkPolicy,
  isOwnAddress: (address: string) => boolean = () => false,
): NetworkRules {
  const { mode, allowedDomains, allowedMethods } = policy;
  const entries = allowedDomains.flatMap((text) => {
    const pattern = parseHostPattern(text);
    return pattern === undefined ? [] : [{ text, pattern }];
  });
  const allowed = describe(
    mode,
    entries.map((entry) => entry.text),
  );

  const limitsMethods = allowedMethods.length > 0;

  function decide({ host, port, method }: NetworkQuestion): NetworkVerdict {
    const where = `${toHostText(host)}:${port}`;
    if (mode === 'none') return deny('network = "none"', `${where}: tools have no network here`);
    if (method !== undefined && limitsMethods && !allowedMethods.includes(method)) {
      const reason = `${method} is not one of ${allowedMethods.join(', ')}`;
      return deny('allowed_methods', `${where}: ${reason}`);
    }
    if (method === undefined && limitsMethods && port === HTTP_PORT) {
      const reason = 'a tunnel would hide the method; ask the proxy for the URL itself';
      return deny('allowed_methods', `${where}: ${reason}`);
    }
    const named = entries.filter(({ pattern }) => matchesHost(pattern, host));
    const entry = named.find(({ pattern }) => isPortOf(pattern, port));
    if (entry !== undefined) return { decision: 'allow', rule: `allowed_domains: ${entry.text}` };
    // An address that is listed nowhere is judged as an address, whatever the mode.
    if (mode === 'full') return host.kind === 'name' ? full : decideAddress(host.host, port);
    if (named.length > 0) return deny('port', `${where}: ${toPortReason(named, port)}`);
    return deny('allowed_domains', `${where} is not in the list of allowed domains`);
  }

  function decideAddress(address: string, port: number): NetworkVerdict {
    const host = parseHost(address);
    const bare = host === undefined ? address : toBareHost(host).host;
    const own = isOwnAddress(bare) ? 'of this machine' : undefined;
    const kind = findPrivateKind(address) ?? own;
    if (kind === undefined) return { decision: 'allow', rule: 'public address' };
    const isListed = entries.some(
      ({ pattern }) => host !== undefined && matchesHost(pattern, host) && isPortOf(pattern, port),
    );
    if (isListed) return { decision: 'allow', rule: `allowed_domains: ${address}` };
    const reason = `${address} is not a public address (${kind}), and not listed itself`;
    return deny('private address', reason);
  }

  return { mode, limitsMethods, decide, decideAddress, allowed };
}

const full: NetworkVerdict = { decision: 'allow', rule: 'network = "full"' };

function deny(rule: string, reason: string): NetworkVerdict {
  return { decision: 'deny', rule, reason };
}

function isPortOf(pattern: HostPattern, port: number): boolean {
  return pattern.port === undefined ? DEFAULT_PORTS.includes(port) : pattern.port === port;
}

function toPortReason(named: readonly { readonly pattern: HostPattern }[], port: number): string {
  const ports = named.flatMap(({ pattern }) => pattern.port ?? DEFAULT_PORTS);
  return `port ${port} is not one of ${[...new Set(ports)].join(', ')}`;
}

function describe(mode: NetworkPolicy['mode'], names: readonly string[]): string {
  if (mode === 'none') return 'nothing';
  const shown = names.slice(0, SHOWN_MAX).join(', ');
  const more = names.length > SHOWN_MAX ? ` and ${names.length - SHOWN_MAX} more` : '';
  if (mode === 'full') return `every public address${shown === '' ? '' : `; also ${shown}${more}`}`;
  return shown === '' ? 'nothing' : `${shown}${more}`;
}

/** What a refused request is answered with, for whoever reads it; mostly a model. */
export function toDenialText(reason: string, rules: Pick<NetworkRules, 'allowed'>): string {
  return (
    `prx-supervisor refused this request: ${reason}.\n` +
    `Allowed here: ${rules.allowed}.\n` +
    'Trying again, or another way to the same place, is refused as well. Go on without it, or ' +
    'tell the user which domain you need and what for: it can be added to ' +
    'security.sandbox.allowed_domains.\n'
  );
}
