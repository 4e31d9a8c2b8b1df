/** Which addresses are the public internet's. Everything else (this machine, its networks, the
 *  metadata services of clouds, what was never assigned) is reached only where it is listed as an
 *  address. Source: the special-purpose registries of IANA (RFC 6890 and its updates). */
import { BlockList, isIP } from 'node:net';
import { parseHost, toBareHost } from '../../base/hostnames.ts';

type Range = readonly [network: string, prefix: number, what: string];

const ranges4: readonly Range[] = [
  ['0.0.0.0', 8, 'this machine'],
  ['10.0.0.0', 8, 'private'],
  ['100.64.0.0', 10, 'carrier-grade NAT'],
  ['127.0.0.0', 8, 'loopback'],
  ['169.254.0.0', 16, 'link-local (and cloud metadata)'],
  ['172.16.0.0', 12, 'private'],
  ['192.0.0.0', 24, 'protocol assignments'],
  ['192.0.2.0', 24, 'documentation'],
  ['192.88.99.0', 24, '6to4 relays'],
  ['192.168.0.0', 16, 'private'],
  ['198.18.0.0', 15, 'benchmarks'],
  ['198.51.100.0', 24, 'documentation'],
  ['203.0.113.0', 24, 'documentation'],
  ['224.0.0.0', 4, 'multicast'],
  ['240.0.0.0', 4, 'reserved'],
  // The one metadata service that has a public address.
  ['168.63.129.16', 32, 'cloud metadata'],
];

/** Of IPv6 only 2000::/3 is assigned to the public; these parts of it are not, or hold an IPv4
 *  address that a gateway on the way would go to. */
const ranges6: readonly Range[] = [
  ['2001::', 23, 'protocol assignments (Teredo)'],
  ['2001:db8::', 32, 'documentation'],
  ['2002::', 16, '6to4'],
  ['3fff::', 20, 'documentation'],
];

const named6: readonly Range[] = [
  ['::', 128, 'this machine'],
  ['::1', 128, 'loopback'],
  ['64:ff9b::', 96, 'NAT64'],
  ['64:ff9b:1::', 48, 'NAT64'],
  ['fc00::', 7, 'private'],
  ['fe80::', 10, 'link-local'],
  ['ff00::', 8, 'multicast'],
];

const lists4 = ranges4.map((range) => toList(range, 'ipv4'));
const lists6 = [...ranges6, ...named6].map((range) => toList(range, 'ipv6'));
const public6 = toList(['2000::', 3, 'public'], 'ipv6');

function toList([network, prefix, what]: Range, family: 'ipv4' | 'ipv6') {
  const list = new BlockList();
  list.addSubnet(network, prefix, family);
  return { list, what };
}

/** Why this address is not public, in a word or two; undefined: it is. What is no address at all
 *  is not public either. An IPv4 address in IPv6 clothes is judged as what it is. */
export function findPrivateKind(address: string): string | undefined {
  const family = isIP(address);
  if (family === 4) return lists4.find(({ list }) => list.check(address, 'ipv4'))?.what;
  if (family !== 6) return 'not an address';
  const host = parseHost(address.replace(/%.*$/, ''));
  const bare = host === undefined ? undefined : toBareHost(host);
  if (bare?.kind === 'address' && bare.family === 4) return findPrivateKind(bare.host);
  const found = lists6.find(({ list }) => list.check(address, 'ipv6'));
  if (found !== undefined) return found.what;
  return public6.list.check(address, 'ipv6') ? undefined : 'reserved';
}
