/** list_files: a tree with sizes, sorted, bounded in depth, in entries and in bytes. */
import { type Dirent, lstatSync, readdirSync, readlinkSync, type Stats, statSync } from 'node:fs';
import { join } from 'node:path';
import type { z } from 'zod';
import { systemCode } from '../../base/errors.ts';
import type { listFilesArgumentsSchema } from '../../protocol/tools.ts';
import { ToolFailure, toToolFailure } from './failure.ts';
import { resolvePath, toMissing, toShownPath } from './paths.ts';
import type { FileContext, FileResult } from './result.ts';

const DEPTH_DEFAULT = 2;
const ENTRIES_MAX = 2000;
/** A folder of thousands of names says little beyond its first ones. */
const FOLDER_ENTRIES_MAX = 300;

interface Listing {
  readonly lines: string[];
  readonly hidden: boolean;
  readonly depth: number;
  readonly bytesMax: number;
  bytes: number;
  full: boolean;
}

export function listFiles(
  args: z.infer<typeof listFilesArgumentsSchema>,
  context: FileContext,
): FileResult {
  const absolute = resolvePath(context.workspace, args.path ?? '.');
  const shown = toShownPath(context.workspace, absolute);
  const stat = statPath(absolute, shown);
  if (stat === undefined) throw toMissing(context.workspace, absolute);
  if (stat.isFile()) throw new ToolFailure(`${shown} is a file; use read_file`);
  if (!stat.isDirectory()) throw new ToolFailure(`${shown} is a pipe, a socket or a device`);
  const listing: Listing = {
    lines: [],
    hidden: args.hidden ?? false,
    depth: args.depth ?? DEPTH_DEFAULT,
    bytesMax: context.maxOutputBytes,
    bytes: 0,
    full: false,
  };
  add(listing, shown === '/' ? shown : `${shown}/`);
  try {
    walk(listing, absolute, 1);
  } catch (error) {
    throw toToolFailure(error, 'list', shown);
  }
  const note = '[there is more; list a folder below, or with a smaller depth]';
  const lines = listing.full ? [...listing.lines, note] : listing.lines;
  return { status: 'ok', output: lines.join('\n'), truncated: listing.full };
}

function statPath(absolute: string, shown: string): Stats | undefined {
  try {
    return statSync(absolute, { throwIfNoEntry: false });
  } catch (error) {
    throw toToolFailure(error, 'list', shown);
  }
}

function add(listing: Listing, line: string): void {
  listing.bytes += Buffer.byteLength(line) + 1;
  if (listing.lines.length >= ENTRIES_MAX || listing.bytes > listing.bytesMax) listing.full = true;
  else listing.lines.push(line);
}

function walk(listing: Listing, folder: string, level: number): void {
  const all = readdirSync(folder, { withFileTypes: true })
    .filter((entry) => listing.hidden || !entry.name.startsWith('.'))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  const indent = '  '.repeat(level);
  for (const entry of all.slice(0, FOLDER_ENTRIES_MAX)) {
    if (listing.full) return;
    addEntry(listing, join(folder, entry.name), entry, level);
  }
  const left = all.length - FOLDER_ENTRIES_MAX;
  if (left > 0) add(listing, `${indent}[and ${left} more here]`);
}

function addEntry(listing: Listing, path: string, entry: Dirent, level: number): void {
  const indent = '  '.repeat(level);
  const name = toVisible(entry.name);
  if (entry.isSymbolicLink()) add(listing, `${indent}${name} -> ${readTarget(path)}`);
  else if (!entry.isDirectory()) add(listing, `${indent}${name} ${readSize(path)}`);
  else {
    add(listing, `${indent}${name}/`);
    if (level < listing.depth) walkInner(listing, path, level + 1);
  }
}

function walkInner(listing: Listing, folder: string, level: number): void {
  try {
    walk(listing, folder, level);
  } catch (error) {
    const why = systemCode(error) ?? 'unreadable';
    add(listing, `${'  '.repeat(level)}[not listed: ${why}]`);
  }
}

/** A file name may hold a line break; the listing may not. */
function toVisible(name: string): string {
  return name.replaceAll(/[\n\r\t]/g, (char) => JSON.stringify(char).slice(1, -1));
}

function readTarget(path: string): string {
  try {
    return toVisible(readlinkSync(path));
  } catch {
    // Removed since the folder was read.
    return '?';
  }
}

function readSize(path: string): string {
  const size = lstatSync(path, { throwIfNoEntry: false })?.size;
  return size === undefined ? '?' : `${size}`;
}
