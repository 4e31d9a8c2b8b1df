/** The pure parts: ranges of a file, frames of a stream. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { createSseParser, FRAME_CHARS_MAX } from '../../api/client/sse-parser.ts';
import { parseRange } from '../../api/file.ts';

describe('a range of 10 bytes', () => {
  test.each([
    [undefined, undefined],
    ['bytes=0-0', { first: 0, last: 0 }],
    ['bytes=2-', { first: 2, last: 9 }],
    ['bytes=-3', { first: 7, last: 9 }],
    ['bytes=-30', { first: 0, last: 9 }],
    ['bytes=5-99', { first: 5, last: 9 }],
    ['bytes=0-1,3-4', undefined],
    ['bytes=4-2', undefined],
    ['bytes=-', undefined],
    ['items=0-1', undefined],
  ])('%s', (header, expected) => {
    expect(parseRange(header, 10)).toEqual(expected);
  });

  test.each(['bytes=10-', 'bytes=10-11', 'bytes=-0'])('%s is outside', (header) => {
    expect(() => parseRange(header, 10)).toThrow(/outside of the file's 10 bytes/);
  });

  test('an empty file has no range', () => {
    expect(() => parseRange('bytes=0-', 0)).toThrow(/outside/);
    expect(() => parseRange('bytes=-1', 0)).toThrow(/outside/);
  });
});

describe('the parser of streams', () => {
  test('reads what the standard allows', () => {
    const text = ': hi\nretry: 1\nid:7\r\nevent: a\ndata: x\ndata:  y\nodd\n\n\ndata\n\n';
    expect(createSseParser().push(text)).toEqual([
      { id: '7', event: 'a', data: 'x\n y' },
      { id: undefined, event: undefined, data: '' },
    ]);
  });

  test('does not care how its text is cut', () => {
    const frames = fc.array(fc.record({ id: fc.nat(), value: fc.jsonValue() }));
    const cuts = fc.infiniteStream(fc.integer({ min: 1, max: 9 }));
    fc.assert(
      fc.property(frames, cuts, (sent, sizes) => {
        const text = sent.map((f) => `id: ${f.id}\ndata: ${JSON.stringify(f.value)}\n\n`).join('');
        const parser = createSseParser();
        const received: unknown[] = [];
        for (let at = 0; at < text.length; ) {
          const size = sizes.next().value ?? 1;
          received.push(...parser.push(text.slice(at, at + size)));
          at += size;
        }
        expect(received).toEqual(
          sent.map((f) => ({
            id: `${f.id}`,
            event: undefined,
            data: JSON.stringify(f.value),
          })),
        );
      }),
      { numRuns: 100 },
    );
  });

  test('refuses a frame without end', () => {
    const parser = createSseParser();
    const chunk = 'x'.repeat(FRAME_CHARS_MAX / 4);
    for (let n = 0; n < 4; n += 1) parser.push(chunk);
    expect(() => parser.push('x')).toThrow(/longer than/);
  });
});
