/** One spelling for each host, and patterns that mean what they say. */
import { isIPv4 } from 'node:net';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  matchesHost,
  parseAuthority,
  parseHost,
  parseHostPattern,
  toHostText,
} from '../../base/hostnames.ts';

describe('a host', () => {
  test.each([
    ['example.org', 'example.org'],
    ['EXAMPLE.Org.', 'example.org'],
    ['bücher.example', 'xn--bcher-kva.example'],
    ['example。org', 'example.org'],
    ['my_host', 'my_host'],
    ['127.1', '127.0.0.1'],
    ['0x7f.1', '127.0.0.1'],
    ['0177.0.0.1', '127.0.0.1'],
    ['2130706433', '127.0.0.1'],
    ['1.2.3.4.', '1.2.3.4'],
    ['[0:0:0:0:0:0:0:1]', '::1'],
    ['::FFFF:10.0.0.1', '::ffff:a00:1'],
  ])('%s is %s', (text, host) => {
    expect(parseHost(text)?.host).toBe(host);
  });

  test.each([
    ...['', '.', 'a..b', '-a.example', 'a-.example', 'a b', 'a\tb', 'a\0.example', 'ex%61mple.org'],
    ...['user@example.org', 'example.org/x', 'example.org?x', 'example.org#x', 'a\\b', '256.1.1.1'],
    ...[
      '1.2.3.4.5',
      '[example.org]',
      '[127.0.0.1]',
      'example.org:80',
      '::1%eth0',
      'exam\u00adple.org',
    ],
    ...['a\r\nb', '\u202eexample.org', `${'a'.repeat(64)}.example`, `${'a.'.repeat(127)}example`],
  ])('%j is none', (text) => {
    expect(parseHost(text)).toBeUndefined();
  });

  test('its form is a fixed point', () => {
    fc.assert(
      fc.property(fc.oneof(fc.domain(), fc.ipV4(), fc.ipV6(), fc.string()), (text) => {
        const host = parseHost(text);
        if (host !== undefined) expect(parseHost(toHostText(host))).toEqual(host);
      }),
    );
  });

  test('every way to write an IPv4 address is that address', () => {
    fc.assert(
      fc.property(fc.ipV4(), fc.constantFrom(10, 8, 16), (address, base) => {
        const prefix = { 8: '0', 10: '', 16: '0x' }[base] ?? '';
        const parts = address.split('.').map(Number);
        const number = parts.reduce((sum, part) => sum * 256 + part, 0);
        const dotted = parts.map((part) => prefix + part.toString(base)).join('.');
        for (const text of [dotted, prefix + number.toString(base)]) {
          expect(parseHost(text)).toEqual({ kind: 'address', host: address, family: 4 });
        }
        expect(isIPv4(address)).toBe(true);
      }),
    );
  });
});

test('an authority has a port, and nothing after it', () => {
  expect(parseAuthority('example.org:443')).toMatchObject({ port: 443 });
  expect(parseAuthority('[::1]:8080')).toMatchObject({ host: { host: '::1' }, port: 8080 });
  for (const text of ['example.org', 'example.org:', 'example.org:0', 'example.org:65536']) {
    expect(parseAuthority(text)).toBeUndefined();
  }
  for (const text of ['::1:80', 'example.org:80/', 'a@example.org:80', 'example.org:8 0']) {
    expect(parseAuthority(text)).toBeUndefined();
  }
});

const matches = (pattern: string, host: string): boolean => {
  const [parsed, name] = [parseHostPattern(pattern), parseHost(host)];
  return parsed !== undefined && name !== undefined && matchesHost(parsed, name);
};

describe('a pattern', () => {
  test.each([
    ['example.org', 'example.org', true],
    ['example.org', 'EXAMPLE.ORG.', true],
    ['example.org', 'www.example.org', false],
    ['*.example.org', 'www.example.org', true],
    ['*.example.org', 'a.b.example.org', true],
    ['*.example.org', 'example.org', false],
    ['*.example.org', 'badexample.org', false],
    ['*.example.org', 'example.org.evil.example', false],
    ['10.0.0.5', '10.0.0.5', true],
    ['10.0.0.5', '167772165', true],
    ['10.0.0.5', '::ffff:10.0.0.5', false],
    ['[::1]', '0:0::1', true],
  ])('%s on %s: %s', (pattern, host, expected) => {
    expect(matches(pattern, host)).toBe(expected);
  });

  test.each([
    '*',
    '*.com',
    '**.example.org',
    'a.*.example',
    'www*.example.org',
    '*.10.0.0.1',
    'x y',
    '*.localhost',
  ])('%s is none', (text) => expect(parseHostPattern(text)).toBeUndefined());

  test('with a port', () => {
    expect(parseHostPattern('*.example.org:8443')).toMatchObject({ port: 8443, isWildcard: true });
    expect(parseHostPattern('[::1]:80')).toMatchObject({ port: 80 });
    expect(parseHostPattern('example.org')?.port).toBeUndefined();
  });

  test('a wildcard means exactly the names with whole labels in front', () => {
    const label = fc.stringMatching(/^[a-z][a-z0-9]{0,8}$/);
    const name = fc.array(label, { minLength: 2, maxLength: 4 }).map((parts) => parts.join('.'));
    fc.assert(
      fc.property(name, name, (base, other) => {
        const expected = other !== base && other.endsWith(`.${base}`);
        expect(matches(`*.${base}`, other)).toBe(expected);
        expect(matches(`*.${base}`, `${other}.${base}`)).toBe(true);
        expect(matches(`*.${base}`, `x${base}`)).toBe(false);
        expect(matches(base, other)).toBe(base === other);
      }),
    );
  });
});
