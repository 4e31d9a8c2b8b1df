/** Where the supervisor is: flag, then environment, then config file, then the XDG default. The
 *  same rules as the supervisor's own configuration, read without loading its schema. */
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { PrxError } from '../base/errors.ts';
import { homeOf } from '../base/home.ts';
import type { Environment } from './machine.ts';

export type Door =
  | {
      readonly kind: 'socket';
      readonly stateDir: string;
      readonly socketPath: string;
    }
  | { readonly kind: 'url'; readonly url: string; readonly token: string | undefined };

export interface PlaceFlags {
  readonly stateDir?: string | undefined;
  readonly url?: string | undefined;
  readonly config?: string | undefined;
}

/** The values of a config file that tell where things are. */
export interface FilePlaces {
  readonly storePath: string | undefined;
  readonly socket: string | undefined;
}

/** @param readPlaces  reads [store].path and [api].socket of a config file. */
export async function locate(
  flags: PlaceFlags,
  env: Environment,
  readPlaces: (file: string) => Promise<FilePlaces> = readFilePlaces,
): Promise<Door> {
  if (flags.url !== undefined) return { kind: 'url', url: flags.url, token: tokenOf(env) };
  const url = env['PRX_URL'];
  if (flags.stateDir === undefined && url !== undefined && url !== '') {
    return { kind: 'url', url, token: tokenOf(env) };
  }
  const file = findConfigFile(flags, env);
  const places = file === undefined ? undefined : await readPlaces(file);
  const asked = flags.stateDir || env['PRX_STATE_DIR'];
  const stateDir = resolve(asked || places?.storePath || defaultStateDir(env));
  return {
    kind: 'socket',
    stateDir,
    socketPath: places?.socket ?? join(stateDir, 'api.sock'),
  };
}

/** What was read from a file ends with a line break. @throws INVALID_REQUEST for what no header
 *  can carry. */
function tokenOf(env: Environment): string | undefined {
  const token = env['PRX_TOKEN']?.trim();
  if (!/[^\x20-\x7e\x80-\xff]/.test(token ?? '')) return token || undefined;
  const message = 'PRX_TOKEN has a line break, or another character that no token has';
  throw new PrxError('INVALID_REQUEST', message);
}

/** The config file in force, if there is one. */
function findConfigFile(flags: PlaceFlags, env: Environment): string | undefined {
  const asked = flags.config || env['PRX_CONFIG'];
  if (asked) return resolve(asked);
  const base = env['XDG_CONFIG_HOME'] || join(homeOf(env), '.config');
  const file = join(base, 'prx-supervisor', 'config.toml');
  return existsSync(file) ? file : undefined;
}

function defaultStateDir(env: Environment): string {
  const base = env['XDG_STATE_HOME'] || join(homeOf(env), '.local', 'state');
  return join(base, 'prx-supervisor');
}

const NO_PLACES: FilePlaces = { storePath: undefined, socket: undefined };

/** A file that cannot be read or parsed names no place; `config check` says what is wrong. */
async function readFilePlaces(file: string): Promise<FilePlaces> {
  try {
    const text = readFileSync(file, 'utf8');
    // Most files name neither: then the parser need not be loaded at all.
    if (!/\b(path|socket)\b/.test(text)) return NO_PLACES;
    const { parse } = await import('smol-toml');
    const tree = parse(text);
    return { storePath: textAt(tree, 'store', 'path'), socket: textAt(tree, 'api', 'socket') };
  } catch {
    // Unreadable here means unreadable to the supervisor too, which says so with file and line.
    return NO_PLACES;
  }
}

function textAt(tree: Readonly<Record<string, unknown>>, table: string, key: string) {
  const section = tree[table];
  if (typeof section !== 'object' || section === null) return undefined;
  const value = Object.entries(section).find(([name]) => name === key)?.[1];
  return typeof value === 'string' ? value : undefined;
}

/** How the program is called so that another command finds the same supervisor: with what a flag
 *  said, because the next command does not have it; not with what the environment says. */
export function toSelf(program: string, door: Door, flags: PlaceFlags): string {
  if (door.kind === 'url') {
    return flags.url === undefined ? program : `${program} --url ${quoteArgument(door.url)}`;
  }
  return flags.stateDir ? `${program} --state-dir ${quoteArgument(door.stateDir)}` : program;
}

/** As a shell reads it back. */
export function quoteArgument(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
