/** A secret is found however it is cut and in every form that is looked for, and nothing else is
 *  changed. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  addFingerprints,
  hashWindow,
  noFingerprints,
  rollHash,
  toFingerprints,
  WINDOW_BYTES,
} from '../../protocol/fingerprints.ts';
import {
  createRedactor,
  redactAround,
  redactBeginning,
  redactText,
} from '../../protocol/redactor.ts';

const value = 'sw0rd/fish+"é% 42';
const prints = toFingerprints([{ name: 'KEY', value: Buffer.from(value) }], 'seed');

function redactInPieces(pieces: readonly Buffer[], of = prints): string {
  const redactor = createRedactor(() => of);
  return Buffer.concat([...pieces.map((piece) => redactor.push(piece)), redactor.end()]).toString();
}

describe('[promise:no-secret-leaves] a value is made unreadable', () => {
  test.each([
    ['as it is', value],
    ['in a URL', encodeURIComponent(value)],
    ['in a form', new URLSearchParams({ v: value }).toString().slice(2)],
    ['in JSON', JSON.stringify(value).slice(1, -1)],
    ['in a URL, as Python writes it', 'sw0rd/fish%2B%22%C3%A9%25%2042'],
    ['in a form, as Python writes it', 'sw0rd%2Ffish%2B%22%C3%A9%25+42'],
    ['in a URL in small letters', 'sw0rd%2ffish%2b%22%c3%a9%25%2042'],
    ['in JSON of ASCII', 'sw0rd/fish+\\"\\u00e9% 42'],
    ['in JSON without slashes', 'sw0rd\\/fish+\\"\\u00e9% 42'],
    ['in hex', Buffer.from(value).toString('hex')],
    ['in HEX', Buffer.from(value).toString('hex').toUpperCase()],
  ])('%s', (_form, text) => {
    expect(redactText(`before ${text} after`, prints)).toBe('before [secret KEY] after');
  });

  test.each([
    ["a'b(c)*!<&>x", 'a%27b%28c%29%2A%21%3C%26%3Ex'],
    ["a'b(c)*!<&>x", "a'b(c)*!\\u003c\\u0026\\u003ex"],
  ])('with other marks: %s', (secret, text) => {
    const of = toFingerprints([{ name: 'KEY', value: Buffer.from(secret) }], 'seed');
    expect(redactText(text, of)).toBe('[secret KEY]');
  });

  test.each([
    ['base64', 76],
    ['base64', 64],
    ['hex', 60],
  ] as const)('in %s broken at %i characters (regression)', (encoding, chars) => {
    const long = Buffer.from(Array.from({ length: 150 }, (_, i) => 33 + ((i * 37) % 90)));
    const of = toFingerprints([{ name: 'KEY', value: long }], 'seed');
    const lines = long.toString(encoding).replaceAll(new RegExp(`.{${chars}}`, 'g'), '$&\n');
    const left = redactText(lines, of).replaceAll('[secret KEY]', '');
    // What is shorter than a window ends the last line.
    expect(left.replaceAll('\n', '').length).toBeLessThan(WINDOW_BYTES);
  });

  test.each([
    ['numbered', (line: string, i: number) => `${String(i + 1).padStart(6)}\t${line}`],
    ['set in, with CR', (line: string) => `    ${line}\r`],
    ['in a diff', (line: string) => `+${line}`],
  ])('of several lines, %s (regression)', (_, show) => {
    const body = Array.from({ length: 3 }, (_, i) => `line${i}/${'aB3+'.repeat(14)}`);
    const pem = ['-----BEGIN PRIVATE KEY-----', ...body, '-----END PRIVATE KEY-----', ''].join(
      '\n',
    );
    const of = toFingerprints([{ name: 'KEY', value: Buffer.from(pem) }], 'seed');
    const text = pem.split('\n').map(show).join('\n');
    const shown = redactText(text, of);
    expect(shown).toBe(body.reduce((left, line) => left.replace(line, '[secret KEY]'), text));
    expect(redactText(pem, of)).toBe('[secret KEY]');
  });

  test('of which a text has only the beginning', () => {
    const words = ' and more'.repeat(9);
    expect(redactBeginning(`x ${value.slice(0, -1)}`, prints)).toBe('x ');
    expect(redactBeginning(`x ${value}${words}`, prints)).toBe(`x [secret KEY]${words}`);
    expect(redactBeginning('x sw0rd', prints)).toBe('x sw0rd');
    expect(redactBeginning('x sw', noFingerprints)).toBe('x sw');
  });

  test('of which each line that is cut has only the beginning (regression)', () => {
    const mark = /( \[cut\]$)/m;
    const text = `a ${value.slice(0, 12)} [cut]\nb sw0rd [cut]\nc ${value} d [cut] ${value}`;
    const expected = 'a  [cut]\nb sw0rd [cut]\nc [secret KEY] d [cut] [secret KEY]';
    expect(redactAround(mark, text, prints)).toBe(expected);
    expect(redactAround(mark, text, noFingerprints)).toBe(text);
  });

  test('in base64, wherever it begins', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), fc.boolean(), (before, after, isUrl) => {
        const whole = Buffer.from(`${before}${value}${after}`);
        const shown = redactText(whole.toString(isUrl ? 'base64url' : 'base64'), prints);
        expect(shown).toContain('[secret KEY]');
        // At most the three characters at each end, of which only a part is the value's.
        const left = Buffer.from(shown.replace('[secret KEY]', '\n'), 'base64').toString('latin1');
        expect(left).not.toContain(value.slice(2, -2));
      }),
    );
  });

  test('however the stream is cut', () => {
    const text = `a${value}${value}b sw0rd/fis ${value.slice(0, -1)}! ${value}`;
    const expected = text.replaceAll(value, '[secret KEY]');
    const bytes = Buffer.from(text);
    fc.assert(
      fc.property(fc.array(fc.nat(bytes.length), { maxLength: 20 }), (cuts) => {
        const at = [0, ...cuts.sort((a, b) => a - b), bytes.length];
        const pieces = at.slice(1).map((end, i) => bytes.subarray(at[i], end));
        expect(redactInPieces(pieces)).toBe(expected);
      }),
    );
  });

  test('that is set while the stream is open, and of which the beginning waits', () => {
    let of = prints;
    const redactor = createRedactor(() => of);
    const next = value.replace('% 42', '% 43');
    const first = redactor.push(Buffer.from(`old ${value} new ${next.slice(0, 10)}`));
    const values = [value, next].map((each) => ({ name: 'KEY', value: Buffer.from(each) }));
    of = toFingerprints(values, 'seed');
    const second = [redactor.push(Buffer.from(next.slice(10))), redactor.end()];
    expect(Buffer.concat([first, ...second]).toString()).toBe('old [secret KEY] new [secret KEY]');
  });

  test('of which there was nothing to look for when the stream was opened', () => {
    let of = noFingerprints;
    const redactor = createRedactor(() => of);
    const first = redactor.push(Buffer.from('before '));
    of = prints;
    const rest = [redactor.push(Buffer.from(value)), redactor.end()];
    expect(Buffer.concat([first, ...rest]).toString()).toBe('before [secret KEY]');
  });

  test('as well as the newest of those that were replaced', () => {
    const former = toFingerprints([{ name: 'OLD', value: Buffer.from('old-value-1') }], 'seed');
    const both = addFingerprints(former, prints, former.prints.length);
    expect(redactText(`old-value-1 ${value}`, both)).toBe('[secret OLD] [secret KEY]');
    expect(addFingerprints(both, prints, 0)).toBe(both);
    const next = toFingerprints([{ name: 'KEY', value: Buffer.from('new-value-2') }], 'seed');
    const few = addFingerprints(both, next, prints.prints.length);
    expect(redactText(`old-value-1 ${value} new-value-2`, few)).toBe(
      'old-value-1 [secret KEY] [secret KEY]',
    );
  });

  test('and of two that begin alike the whole longer one', () => {
    const both = toFingerprints(
      [
        { name: 'SHORT', value: Buffer.from('swordfish') },
        { name: 'LONG', value: Buffer.from('swordfish-and-chips') },
      ],
      'seed',
    );
    const text = 'swordfish-and-chips swordfish-and swordfish';
    const expected = '[secret LONG] [secret SHORT]-and [secret SHORT]';
    const bytes = [...text].map((char) => Buffer.from(char));
    expect(redactInPieces(bytes, both)).toBe(expected);
    expect(redactText(text, both)).toBe(expected);
  });
});

test('what holds no secret passes unchanged, in any pieces', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 40 })), (pieces) => {
      const all = Buffer.concat(pieces);
      const redactor = createRedactor(() => prints);
      const out = Buffer.concat([
        ...pieces.map((piece) => redactor.push(Buffer.from(piece))),
        redactor.end(),
      ]);
      expect(out.equals(all)).toBe(true);
    }),
  );
});

test('at most a window waits while nothing looks like the beginning of one', () => {
  const redactor = createRedactor(() => prints);
  expect(redactor.push(Buffer.from('0123456789')).toString()).toBe('012');
  // A byte that is in no form of any value ends the wait.
  expect(redactor.push(Buffer.from('a\n')).toString()).toBe('3456789a\n');
  expect(redactor.push(Buffer.from('\n~ab')).toString()).toBe('\n~');
  expect(
    createRedactor(() => noFingerprints)
      .push(Buffer.from('0123456789'))
      .toString(),
  ).toBe('0123456789');
});

test('a value below the window is not looked for, and one at it is', () => {
  const of = (text: string) => toFingerprints([{ name: 'N', value: Buffer.from(text) }], 's');
  expect(redactText('1234567', of('1234567'))).toBe('1234567');
  expect(redactText('x12345678', of('12345678'))).toBe('x[secret N]');
  // Six letters, twelve bytes.
  expect(redactText('пароль', of('пароль'))).toBe('[secret N]');
});

test('the fingerprints do not hold the value, and differ from seed to seed', () => {
  expect(JSON.stringify(prints)).not.toContain('fish');
  const other = toFingerprints([{ name: 'KEY', value: Buffer.from(value) }], 'other');
  expect(other.prints[0]?.digest).not.toBe(prints.prints[0]?.digest);
});

test('the rolling hash is the hash of each window', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: WINDOW_BYTES, maxLength: 64 }), (bytes) => {
      let hash = hashWindow(bytes, 0);
      for (let at = 0; at + WINDOW_BYTES < bytes.length; at += 1) {
        hash = rollHash(hash, bytes[at] ?? 0, bytes[at + WINDOW_BYTES] ?? 0);
        expect(hash).toBe(hashWindow(bytes, at + 1));
      }
    }),
  );
});
