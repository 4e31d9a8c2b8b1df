/** Reads what the tests of the documents need of Markdown: fenced blocks, tables, links. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export const root = join(import.meta.dirname, '..', '..');

export function readText(path: string): string {
  return readFileSync(join(root, path), 'utf8');
}

export interface FencedBlock {
  /** What stands behind the opening fence, for example `sh tour`. */
  readonly info: string;
  readonly lines: readonly string[];
  /** Line of the opening fence, from 1. */
  readonly line: number;
}

export function findBlocks(text: string): FencedBlock[] {
  const blocks: FencedBlock[] = [];
  let open: { info: string; lines: string[]; line: number } | undefined;
  for (const [index, line] of text.split('\n').entries()) {
    const info = /^```(.*)$/.exec(line)?.[1];
    if (info === undefined) {
      open?.lines.push(line);
    } else if (open === undefined) {
      open = { info: info.trim(), lines: [], line: index + 1 };
    } else {
      blocks.push(open);
      open = undefined;
    }
  }
  return blocks;
}

/** Cells of all table rows, headings and rules left out. `\|` is a bar within a cell. */
export function findRows(text: string): string[][] {
  const lines = text.split('\n');
  return lines.flatMap((line, index) => {
    const isRow = line.startsWith('|') && !/^\|[-| :]+\|$/.test(line);
    const isHeading = /^\|[-| :]+\|$/.test(lines[index + 1] ?? '');
    if (!isRow || isHeading) return [];
    const cells = line.slice(1, -1).split(/(?<!\\)\|/);
    return [cells.map((cell) => cell.trim().replaceAll('\\|', '|'))];
  });
}

/** The text between the first pair of backquotes. */
export function findCode(cell: string): string | undefined {
  return /`([^`]+)`/.exec(cell)?.[1];
}

/** The part of a document below a heading, up to the next heading of the same or a higher level. */
export function findSection(text: string, heading: string): string {
  const lines = text.split('\n');
  const start = lines.indexOf(heading);
  if (start < 0) throw new Error(`there is no heading '${heading}'`);
  const level = heading.indexOf(' ');
  const length = lines
    .slice(start + 1)
    .findIndex((line) => /^#+ /.test(line) && line.indexOf(' ') <= level);
  return lines.slice(start + 1, length < 0 ? undefined : start + 1 + length).join('\n');
}

/** Targets of links that point into the repository, without their anchors. */
export function findLocalLinks(text: string): string[] {
  return [...text.matchAll(/\]\(([^)\s]+)\)/g)].flatMap(([, target = '']) => {
    const [path = ''] = target.split('#');
    return path === '' || /^[a-z]+:/.test(path) ? [] : [path];
  });
}
