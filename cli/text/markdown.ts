/** Markdown as terminal lines: marked's lexer, and a small renderer of ours. Anything it does not
 *  know is shown as it was written; text is made safe for the terminal before it is parsed. */
import { lexer, type Token, type Tokens } from 'marked';
import type { Style } from './style.ts';
import { padEnd, sanitize, widthOf, wrapLine } from './width.ts';

export interface MarkdownOptions {
  readonly style: Style;
  readonly columns: number;
}

/** The lines of one piece of Markdown, wrapped, with a blank line between blocks. */
export function renderMarkdown(text: string, options: MarkdownOptions): string[] {
  const blocks = lexer(sanitize(text))
    .filter((token) => token.type !== 'space')
    .map((token) => renderBlock(token, options));
  return blocks.flatMap((block, index) => (index === 0 ? block : ['', ...block]));
}

export interface SplitMarkdown {
  /** Source of the blocks that no further text can change. */
  readonly complete: string;
  /** The block that is still being written. */
  readonly open: string;
}

/** Splits a stream: all top-level blocks but the last are complete. */
export function splitBlocks(text: string): SplitMarkdown {
  const tokens = lexer(text);
  // A blank line at the end closes nothing by itself: a list goes on behind one.
  const last = tokens.findLastIndex((token) => token.type !== 'space');
  if (last <= 0) return { complete: '', open: text };
  const complete = tokens
    .slice(0, last)
    .map((token) => token.raw)
    .join('');
  // marked normalizes some input (tabs, line ends); a split that does not add up is not made.
  if (!text.startsWith(complete)) return { complete: '', open: text };
  return { complete, open: text.slice(complete.length) };
}

function renderBlock(token: Token, options: MarkdownOptions): string[] {
  const { style, columns } = options;
  switch (token.type) {
    case 'heading': {
      const text = style.bold(inline((token as Tokens.Heading).tokens, style));
      return wrapLine(`${style.dim('#'.repeat((token as Tokens.Heading).depth))} ${text}`, columns);
    }
    case 'paragraph':
      return wrapText(inline((token as Tokens.Paragraph).tokens, style), columns);
    case 'code':
      return renderCode(token as Tokens.Code, style);
    case 'list':
      return renderList(token as Tokens.List, options);
    case 'blockquote': {
      const inner = { style, columns: Math.max(10, columns - 2) };
      const blocks = (token as Tokens.Blockquote).tokens.filter((one) => one.type !== 'space');
      const lines = blocks.flatMap((one) => renderBlock(one, inner));
      return lines.map((line) => `${style.dim('│')} ${line}`);
    }
    case 'table':
      return renderTable(token as Tokens.Table, options);
    case 'hr':
      return [style.dim('─'.repeat(Math.min(columns, 40)))];
    case 'text': {
      const { tokens, text } = token as Tokens.Text;
      return wrapText(tokens === undefined ? text : inline(tokens, style), columns);
    }
    default:
      return wrapText(token.raw.trimEnd(), columns);
  }
}

function wrapText(text: string, columns: number): string[] {
  return text.split('\n').flatMap((line) => wrapLine(line, columns));
}

/** Code is never wrapped by us: it must be fit to copy. */
function renderCode(token: Tokens.Code, style: Style): string[] {
  const label = token.lang ? [style.dim(`  ${token.lang}`)] : [];
  return [...label, ...token.text.split('\n').map((line) => `  ${style.cyan(line)}`)];
}

function renderList(token: Tokens.List, options: MarkdownOptions): string[] {
  const first = typeof token.start === 'number' ? token.start : 1;
  return token.items.flatMap((item, index) => {
    const box = item.task ? (item.checked ? '[x] ' : '[ ] ') : '';
    const mark = token.ordered ? `${first + index}. ` : '- ';
    const indent = ' '.repeat(mark.length);
    const inner = { ...options, columns: Math.max(10, options.columns - mark.length) };
    const lines = item.tokens
      .filter((one) => one.type !== 'space' && one.type !== 'checkbox')
      .flatMap((one) => renderBlock(one, inner));
    return lines.map((line, at) => (at === 0 ? `${mark}${box}${line}` : `${indent}${line}`));
  });
}

function renderTable(token: Tokens.Table, { style, columns }: MarkdownOptions): string[] {
  const rows = [token.header, ...token.rows].map((row) =>
    row.map((cell) => inline(cell.tokens, style)),
  );
  const widths = token.header.map((_, index) =>
    Math.max(...rows.map((row) => widthOf(row[index] ?? ''))),
  );
  const total = widths.reduce((sum, width) => sum + width, 0) + 3 * (widths.length - 1);
  // Too wide for columns: one line a cell says the same without breaking apart.
  if (total > columns) return renderTallTable(rows, { style, columns });
  const lines = rows.map((row) =>
    row
      .map((cell, index) => padEnd(cell, widths[index] ?? 0))
      .join(style.dim(' │ '))
      .trimEnd(),
  );
  const rule = widths.map((width) => '─'.repeat(width)).join('─┼─');
  return [style.bold(lines[0] ?? ''), style.dim(rule), ...lines.slice(1)];
}

function renderTallTable(rows: readonly string[][], { style, columns }: MarkdownOptions): string[] {
  const [header = [], ...body] = rows;
  return body.flatMap((row, index) => [
    ...(index === 0 ? [] : ['']),
    ...row.flatMap((cell, at) =>
      wrapLine(`${style.bold(`${header[at] ?? ''}:`)} ${cell}`, columns),
    ),
  ]);
}

function inline(tokens: readonly Token[], style: Style): string {
  return tokens.map((token) => inlineOne(token, style)).join('');
}

function inlineOne(token: Token, style: Style): string {
  switch (token.type) {
    case 'strong':
      return style.bold(inline((token as Tokens.Strong).tokens, style));
    case 'em':
      return style.italic(inline((token as Tokens.Em).tokens, style));
    case 'del':
      return `~${inline((token as Tokens.Del).tokens, style)}~`;
    case 'codespan':
      return style.cyan((token as Tokens.Codespan).text);
    case 'br':
      return '\n';
    case 'link': {
      const { href, tokens } = token as Tokens.Link;
      const text = inline(tokens, style);
      // The address is always shown: what is clicked must be what is read.
      return text === href ? style.underline(href) : `${style.underline(text)} (${href})`;
    }
    case 'image': {
      const { href, text } = token as Tokens.Image;
      return `[image: ${text}] (${href})`;
    }
    case 'escape':
      return (token as Tokens.Escape).text;
    case 'text': {
      const { tokens, text } = token as Tokens.Text;
      return tokens === undefined ? text : inline(tokens, style);
    }
    default:
      return token.raw;
  }
}
