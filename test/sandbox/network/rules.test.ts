/** What may be reached, as tables and as properties: no spelling of a private address is public,
 *  and nothing is allowed that no entry names. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { parseHost } from '../../../base/hostnames.ts';
import { type NetworkPolicy, noNetwork } from '../../../protocol/network.ts';
import { findPrivateKind } from '../../../sandbox/network/addresses.ts';
import {
  createNetworkRules,
  type NetworkQuestion,
  toDenialText,
} from '../../../sandbox/network/rules.ts';

describe('an address', () => {
  test.each([
    ...['8.8.8.8', '1.1.1.1', '172.15.255.255', '172.32.0.0', '100.63.255.255', '11.0.0.0'],
    ...['2606:4700:4700::1111', '2a00:1450::1', '::ffff:8.8.8.8'],
  ])('%s is public', (address) => {
    expect(findPrivateKind(address)).toBeUndefined();
  });

  test.each([
    ...['0.0.0.0', '10.0.0.0', '100.64.0.1', '127.0.0.1', '127.255.255.255', '169.254.169.254'],
    ...['172.16.0.1', '172.31.255.255', '192.168.1.1', '198.18.0.1', '224.0.0.1', '240.0.0.1'],
    ...['255.255.255.255', '168.63.129.16', '192.0.2.1', '::', '::1', '::127.0.0.1', 'fc00::1'],
    ...['fd00:ec2::254', 'fe80::1', 'fe80::1%eth0', 'fec0::1', 'ff02::1', '2001:db8::1', '2002::1'],
    ...['64:ff9b::7f00:1', '::ffff:127.0.0.1', '::ffff:7f00:1', '::ffff:0:127.0.0.1', '4000::1'],
    ...['0:0:0:0:0:ffff:a9fe:a9fe', '2001::1', 'localhost', ''],
  ])('%s is not', (address) => {
    expect(findPrivateKind(address)).toEqual(expect.any(String));
  });

  test('in IPv6 clothes is judged as what it is', () => {
    fc.assert(
      fc.property(fc.ipV4(), (address) => {
        expect(findPrivateKind(`::ffff:${address}`)).toBe(findPrivateKind(address));
      }),
    );
  });
});

const policy: NetworkPolicy = {
  ...noNetwork,
  mode: 'allowlist',
  allowedDomains: ['example.org', '*.example.net', 'registry.example:8443', '10.0.0.5:5000'],
};

function decide(own: Partial<NetworkPolicy>, url: string, method?: string): string {
  const { hostname, port } = new URL(url);
  const host = parseHost(hostname);
  if (host === undefined) throw new Error(`no host: ${hostname}`);
  const ofScheme = url.startsWith('https') ? 443 : 80;
  const question: NetworkQuestion = { host, port: port === '' ? ofScheme : Number(port) };
  const rules = createNetworkRules({ ...policy, ...own });
  const verdict = rules.decide({ ...question, ...(method === undefined ? {} : { method }) });
  return `${verdict.decision}: ${verdict.rule}`;
}

test('a tunnel to the port of plain HTTP is refused where methods are limited (regression)', () => {
  const allowedMethods = ['GET'];
  expect(decide({ allowedMethods }, 'http://example.org/')).toBe('deny: allowed_methods');
  expect(decide({ allowedMethods }, 'http://example.org/', 'GET')).toMatch(/^allow/);
  expect(decide({ allowedMethods }, 'https://example.org/')).toMatch(/^allow/);
  expect(decide({}, 'http://example.org/')).toMatch(/^allow/);
});

describe('a request', () => {
  test.each([
    ['https://example.org', 'allow: allowed_domains: example.org'],
    ['http://example.org', 'allow: allowed_domains: example.org'],
    ['http://example.org:8080', 'deny: port'],
    ['https://a.example.net', 'allow: allowed_domains: *.example.net'],
    ['https://example.net', 'deny: allowed_domains'],
    ['https://registry.example:8443', 'allow: allowed_domains: registry.example:8443'],
    ['https://registry.example', 'deny: port'],
    ['http://10.0.0.5:5000', 'allow: allowed_domains: 10.0.0.5:5000'],
    ['http://167772165:5000', 'allow: allowed_domains: 10.0.0.5:5000'],
    ['http://10.0.0.6:5000', 'deny: allowed_domains'],
    ['http://8.8.8.8', 'deny: allowed_domains'],
    ['https://example.org.evil.example', 'deny: allowed_domains'],
  ])('[config:security.sandbox.allowed_domains] to %s: %s', (url, expected) => {
    expect(decide({}, url)).toBe(expected);
  });

  test('[config:security.sandbox.allowed_methods] of another method is refused', () => {
    const own = { allowedMethods: ['GET', 'HEAD'] };
    expect(decide(own, 'http://example.org', 'GET')).toMatch(/^allow/);
    expect(decide(own, 'http://example.org', 'POST')).toBe('deny: allowed_methods');
    expect(decide({}, 'http://example.org', 'POST')).toMatch(/^allow/);
  });

  test('[config:security.sandbox.network] none allows nothing, full all that is public', () => {
    expect(decide({ mode: 'none' }, 'https://example.org')).toBe('deny: network = "none"');
    expect(decide({ mode: 'full' }, 'https://other.example')).toBe('allow: network = "full"');
    expect(decide({ mode: 'full' }, 'http://8.8.8.8')).toBe('allow: public address');
    expect(decide({ mode: 'full' }, 'http://127.0.0.1')).toBe('deny: private address');
  });

  test('an empty list allows nothing', () => {
    fc.assert(
      fc.property(fc.domain(), fc.constantFrom('GET', undefined), (name, method) => {
        const own = { allowedDomains: [] };
        expect(decide(own, `https://${name}`, method)).toBe('deny: allowed_domains');
      }),
    );
  });
});

describe('an address that an allowed name has', () => {
  test.each([
    ['93.184.216.34', 443, 'allow'],
    ['127.0.0.1', 443, 'deny'],
    ['10.0.0.5', 443, 'deny'],
    ['10.0.0.5', 5000, 'allow'],
    ['::ffff:10.0.0.5', 5000, 'deny'],
  ])('%s:%i %s', (address, port, decision) => {
    expect(createNetworkRules(policy).decideAddress(address, port).decision).toBe(decision);
  });

  test('is refused when it is our own, though public', () => {
    const rules = createNetworkRules(policy, (address) => address === '93.184.216.34');
    // The last two are a regression: in the clothes of IPv6 it was public.
    for (const own of ['93.184.216.34', '::ffff:93.184.216.34', '::FFFF:5db8:d822']) {
      expect(rules.decideAddress(own, 443)).toMatchObject({ rule: 'private address' });
    }
  });
});

test('a refusal says what is allowed and what to do', () => {
  const text = toDenialText('x is not listed', createNetworkRules(policy));
  expect(text).toMatch(/x is not listed/);
  expect(text).toMatch(/Allowed here: example\.org, \*\.example\.net/);
  expect(text).toMatch(/tell the user which domain/);
});
