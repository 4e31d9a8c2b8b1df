import { describe, expect, test } from '@jest/globals';
import {
  formatAge,
  formatBytes,
  formatCost,
  formatCount,
  formatDuration,
  parseDuration,
  toShortId,
} from '../../cli/text/format.ts';
import { renderMarkdown, splitBlocks } from '../../cli/text/markdown.ts';
import { createStyle, wantsColor } from '../../cli/text/style.ts';
import { renderFields, renderTable } from '../../cli/text/table.ts';
import { sanitize, sanitizeLine, truncate, widthOf, wrapLine } from '../../cli/text/width.ts';

const plain = createStyle(false);
const color = createStyle(true);

describe('text that reaches a terminal', () => {
  test.each([
    ['plain text and newlines stay', 'a\nb', 'a\nb'],
    ['a colour sequence', 'a\u001b[31mb\u001b[0m', 'ab'],
    ['a cursor move and a clear', '\u001b[2J\u001b[1;1Hx', 'x'],
    ['a title with its bell', '\u001b]0;title\u0007x', 'x'],
    ['a link with its string terminator', '\u001b]8;;http://e\u001b\\x', 'x'],
    ['an unfinished sequence', 'x\u001b', 'x'],
    ['a C1 control', 'a\u009bb', 'ab'],
    ['bell, backspace and delete', 'a\u0007\b\u007fb', 'ab'],
    ['a lone carriage return is a new line', 'safe\rrm -rf', 'safe\nrm -rf'],
    ['text that reorders itself', 'a\u202eb\u2066c', 'abc'],
    ['a tab is four blanks', 'a\tb', 'a    b'],
  ])('sanitize: %s', (_name, input, output) => {
    expect(sanitize(input)).toBe(output);
  });

  test('on one line a newline is a visible mark', () => {
    expect(sanitizeLine('a\nb\n')).toBe('a ⏎ b');
  });

  test.each([
    ['ASCII', 'abc', 3],
    ['a colour takes nothing', '\u001b[1mab\u001b[22m', 2],
    ['CJK is wide', '日本', 4],
    ['an emoji of several code points is one', '👩‍👩‍👧', 2],
    ['a flag', '🇩🇪', 2],
    ['a combining mark adds nothing', 'e\u0301', 1],
  ])('widthOf: %s', (_name, text, width) => {
    expect(widthOf(text)).toBe(width);
  });

  test.each([
    ['fits exactly', 'abcde', 5, 'abcde'],
    ['one too many', 'abcdef', 5, 'abcd…'],
    ['no room', 'abc', 0, ''],
    ['never half a wide character', '日本語', 4, '日…'],
  ])('truncate: %s', (_name, text, columns, shown) => {
    expect(truncate(text, columns)).toBe(shown);
  });

  test.each([
    ['fits', 'one two', 7, ['one two']],
    ['at a blank', 'one two', 6, ['one', 'two']],
    ['inside a long word', 'abcdefgh', 3, ['abc', 'def', 'gh']],
    ['empty', '', 5, ['']],
    ['colours are kept whole', '\u001b[1mabcd\u001b[22m', 2, ['\u001b[1mab', 'cd\u001b[22m']],
  ])('wrapLine: %s', (_name, line, columns, lines) => {
    expect(wrapLine(line, columns)).toEqual(lines);
  });
});

describe('formats', () => {
  test.each([
    [0, '0ms'],
    [999, '999ms'],
    [1000, '1.0s'],
    [9_949, '9.9s'],
    [10_000, '10s'],
    [59_999, '59s'],
    [60_000, '1m00s'],
    [3_599_999, '59m59s'],
    [3_600_000, '1h00m'],
    [86_400_000, '1d00h'],
  ])('%d ms lasts %s', (ms, text) => {
    expect(formatDuration(ms)).toBe(text);
  });

  test.each([
    [59_999, '59s'],
    [60_000, '1m'],
    [3_600_000, '1h'],
    [172_800_000, '2d'],
    [-5, '0s'],
  ])('%d ms is an age of %s', (ms, text) => {
    expect(formatAge(ms)).toBe(text);
  });

  test('cost, count, bytes and short ids', () => {
    expect([0, 0.0012, 0.5, 12].map(formatCost)).toEqual(['$0', '$0.0012', '$0.50', '$12.00']);
    expect([0, 999, 1000, 1234, 12_345, 1_500_000].map(formatCount)).toEqual([
      '0',
      '999',
      '1k',
      '1.2k',
      '12k',
      '1.5M',
    ]);
    expect([0, 1023, 1024, 1536, 1024 ** 3].map(formatBytes)).toEqual([
      '0 B',
      '1023 B',
      '1 KiB',
      '1.5 KiB',
      '1 GiB',
    ]);
    expect(toShortId('s_0123456789abcdef')).toBe('01234567');
  });

  test.each([
    ['90s', 90_000],
    ['1.5m', 90_000],
    ['2h', 7_200_000],
    ['1d', 86_400_000],
    ['10', undefined],
    ['x', undefined],
  ])('the age %s', (text, ms) => {
    expect(parseDuration(text)).toBe(ms);
  });
});

describe('colour', () => {
  test.each([
    ['a terminal', {}, true, false, true],
    ['a pipe', {}, false, false, false],
    ['NO_COLOR', { NO_COLOR: '1' }, true, false, false],
    ['NO_COLOR empty means nothing', { NO_COLOR: '' }, true, false, true],
    ['FORCE_COLOR into a pipe', { FORCE_COLOR: '1' }, false, false, true],
    ['FORCE_COLOR=0', { FORCE_COLOR: '0' }, true, false, false],
    ['FORCE_COLOR beats NO_COLOR', { FORCE_COLOR: '1', NO_COLOR: '1' }, false, false, true],
    ['a dumb terminal', { TERM: 'dumb' }, true, false, false],
    ['--plain beats all', { FORCE_COLOR: '1' }, true, true, false],
  ])('%s', (_name, env, isTty, isPlain, expected) => {
    expect(wantsColor(env, isTty, isPlain)).toBe(expected);
  });
});

describe('tables', () => {
  const columns = [
    { title: 'ID' },
    { title: 'NAME', flexible: true },
    { title: 'N', align: 'right' as const },
  ];

  test('columns are aligned; what is empty shows as a dash', () => {
    const rows = [
      ['1', 'alpha', '5'],
      ['22', '', '100'],
    ];
    const options = { layout: 'columns', width: 80, style: plain } as const;
    expect(renderTable(columns, rows, options)).toEqual([
      'ID  NAME     N',
      '1   alpha    5',
      '22  -      100',
    ]);
  });

  test.each([
    ['has room for all', 23, 'ID  NAME              N', '1   a-very-long-name  5'],
    ['takes it from the gaps', 22, 'ID NAME             N', '1  a-very-long-name 5'],
    ['then cuts the flexible column', 16, 'ID NAME        N', '1  a-very-lon… 5'],
  ])('a narrow terminal %s', (_name, width, titles, row) => {
    const options = { layout: 'columns', width, style: plain } as const;
    const rows = [['1', 'a-very-long-name', '5']];
    expect(renderTable(columns, rows, options)).toEqual([titles, row]);
  });

  test('labelled: one line a row, no escape sequence from data', () => {
    const options = { layout: 'labelled', width: 10, style: plain } as const;
    expect(renderTable(columns, [['1', 'x\u001b[31m', '5']], options)).toEqual([
      'id: 1, name: x, n: 5',
    ]);
  });

  test('fields', () => {
    const fields = [
      ['a', '1'],
      ['long', '2'],
    ] as const;
    expect(renderFields(fields, { layout: 'columns', style: plain })).toEqual([
      'a:    1',
      'long: 2',
    ]);
    expect(renderFields(fields, { layout: 'labelled', style: plain })).toEqual(['a: 1', 'long: 2']);
  });
});

describe('Markdown', () => {
  const render = (text: string, columns = 40) => renderMarkdown(text, { style: plain, columns });

  test.each([
    ['heading', '## Title', ['## Title']],
    ['paragraph, wrapped', 'a b c d', ['a b', 'c d'], 3],
    ['emphasis', '**b** *i* `c` ~~d~~', ['b i c ~d~']],
    ['a link shows its address', '[x](http://e/)', ['x (http://e/)']],
    ['a bare link once', 'http://e/', ['http://e/']],
    ['code is not wrapped', '```js\nlong code line\n```', ['  js', '  long code line'], 5],
    ['list', '- a\n- b\n  - c', ['- a', '- b', '  - c']],
    ['numbers go on from the first', '3. a\n4. b', ['3. a', '4. b']],
    ['tasks', '- [x] a\n- [ ] b', ['- [x] a', '- [ ] b']],
    ['quote', '> a\n> b', ['│ a', '│ b']],
    ['table', '|a|bb|\n|-|-|\n|1|2|', ['a │ bb', '──┼───', '1 │ 2']],
    ['a table that does not fit', '|a|bb|\n|-|-|\n|1|2|', ['a: 1', 'bb: 2'], 5],
    ['blocks are parted', 'a\n\nb', ['a', '', 'b']],
    ['escape sequences are gone', 'a\u001b[31mb', ['ab']],
    ['HTML is shown, not hidden', '<b>x</b>', ['<b>x</b>']],
    ['an unclosed fence is code', '```\nx', ['  x']],
  ])('%s', (_name, text, lines, columns = 40) => {
    expect(render(text, columns)).toEqual(lines);
  });

  test('colour on', () => {
    const lines = renderMarkdown('**b**', { style: color, columns: 40 });
    expect(lines).toEqual(['\u001b[1mb\u001b[22m']);
  });

  test.each([
    ['nothing', '', '', ''],
    ['one block is open', 'a', '', 'a'],
    ['the first is complete once a second begins', 'a\n\nb', 'a\n\n', 'b'],
    ['a list may go on behind a blank line', '- a\n\n', '', '- a\n\n'],
    ['an open fence holds all', 'a\n\n```\nx\n\ny', 'a\n\n', '```\nx\n\ny'],
  ])('splitBlocks: %s', (_name, text, complete, open) => {
    expect(splitBlocks(text)).toEqual({ complete, open });
  });
});
