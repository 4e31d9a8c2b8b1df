/** What the model wrote, as it meant it to look: marked's lexer, and elements of ours. No text ever
 *  becomes markup: it is only put between tags. What is not known, too deep or too long is shown
 *  as it was written. */
import { lexer, type Token, type Tokens } from 'marked';
import type { ComponentChildren } from 'preact';
import { useMemo } from 'preact/hooks';

/** Longer text is left as it is: the parser's time grows with the square of a hostile text, and is
 *  two seconds for this much of one. */
const CHARS_MAX = 20_000;
/** Of lists in lists, and the like. */
const DEPTH_MAX = 12;

export function Markdown({ text }: { text: string }) {
  const tokens = useMemo(() => parse(text), [text]);
  return <div class="markdown">{tokens === undefined ? <p>{text}</p> : toBlocks(tokens, 0)}</div>;
}

function parse(text: string): readonly Token[] | undefined {
  if (text.length > CHARS_MAX) return undefined;
  try {
    return lexer(text);
  } catch {
    // Nested deeper than the parser can follow.
    return undefined;
  }
}

function toBlocks(tokens: readonly Token[], depth: number): ComponentChildren {
  return tokens.map((token, at) => <Block key={at} token={token} depth={depth} />);
}

function Block({ token, depth }: { token: Token; depth: number }) {
  if (depth > DEPTH_MAX) return <p>{token.raw}</p>;
  switch (token.type) {
    case 'space':
    case 'def':
      return null;
    case 'heading':
      return (
        <p>
          <b>{toInline(token.tokens ?? [], depth)}</b>
        </p>
      );
    case 'paragraph':
      return <p>{toInline(token.tokens ?? [], depth)}</p>;
    case 'text':
      return <span>{token.tokens === undefined ? token.raw : toInline(token.tokens, depth)}</span>;
    case 'code':
      return <pre>{(token as Tokens.Code).text}</pre>;
    case 'hr':
      return <hr />;
    case 'blockquote':
      return <blockquote>{toBlocks(token.tokens ?? [], depth + 1)}</blockquote>;
    case 'list':
      return <List list={token as Tokens.List} depth={depth + 1} />;
    case 'table':
      return <Table table={token as Tokens.Table} depth={depth + 1} />;
    default:
      return <p>{token.raw}</p>;
  }
}

function List({ list, depth }: { list: Tokens.List; depth: number }) {
  const items = list.items.map((item, at) => (
    <li key={at}>
      {item.task ? (item.checked === true ? '☑ ' : '☐ ') : null}
      {toBlocks(item.tokens.filter(isShown), depth)}
    </li>
  ));
  if (!list.ordered) return <ul>{items}</ul>;
  return <ol start={Number(list.start)}>{items}</ol>;
}

/** The box of a task is drawn by the list. */
function isShown({ type }: Token): boolean {
  return type !== 'checkbox';
}

function Table({ table, depth }: { table: Tokens.Table; depth: number }) {
  return (
    <table>
      <thead>
        <tr>
          {table.header.map((cell, at) => (
            <th key={at}>{toInline(cell.tokens, depth)}</th>
          ))}
        </tr>
      </thead>
      <tbody>
        {table.rows.map((row, at) => (
          <tr key={at}>
            {row.map((cell, column) => (
              <td key={column}>{toInline(cell.tokens, depth)}</td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function toInline(tokens: readonly Token[], depth: number): ComponentChildren {
  return tokens.map((token) => toInlineOne(token, depth + 1));
}

function toInlineOne(token: Token, depth: number): ComponentChildren {
  if (depth > DEPTH_MAX) return token.raw;
  switch (token.type) {
    case 'strong':
      return <b>{toInline(token.tokens ?? [], depth)}</b>;
    case 'em':
      return <i>{toInline(token.tokens ?? [], depth)}</i>;
    case 'del':
      return <s>{toInline(token.tokens ?? [], depth)}</s>;
    case 'codespan':
      return <code>{(token as Tokens.Codespan).text}</code>;
    case 'br':
      return <br />;
    case 'escape':
      return (token as Tokens.Escape).text;
    case 'link':
      return <Link link={token as Tokens.Link} depth={depth} />;
    case 'text':
      return token.tokens === undefined
        ? (token as Tokens.Text).text
        : toInline(token.tokens, depth);
    default:
      return token.raw;
  }
}

/** The address is always shown: what is clicked must be what is read. */
function Link({ link, depth }: { link: Tokens.Link; depth: number }) {
  const { href, text, tokens, raw } = link;
  if (!/^https?:\/\//i.test(href)) return <>{raw}</>;
  return (
    <>
      {text === href ? null : <>{toInline(tokens, depth)} </>}
      <a href={href} target="_blank" rel="noopener noreferrer">
        {href}
      </a>
    </>
  );
}
