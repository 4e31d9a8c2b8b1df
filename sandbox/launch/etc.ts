/** The /etc of a session's sandboxes: one folder on the stage, filled when the cell starts and
 *  mounted as one, because a sandbox waits for each mount: what is small and everybody may read is
 *  copied, the rest mounted there once. A sandbox sees settings as they were then; so it did when
 *  each was mounted, because who changes such a file replaces it. */
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  type Stats,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { assert } from '../../base/assert.ts';
import { isInside, type PathFact, type RuntimeMount, toAccountFiles } from './arguments.ts';
import type { Identity } from './identity.ts';
import { STAGE, type StageItem } from './prelude.ts';
import type { SurveyedPath } from './survey.ts';

const ETC = '/etc';
/** Of one setting. Copying an entry takes about 20 µs of the start of a session. */
const COPY_BYTES_MAX = 512 * 1024;
const COPY_ENTRIES_MAX = 64;

interface EtcCopy {
  readonly kind: 'file' | 'folder' | 'link';
  /** On the host. */
  readonly source: string;
  /** On the stage. */
  readonly name: string;
  readonly mode: number;
}

export interface EtcPlan {
  /** Mounted below it on the stage, read-only. */
  readonly items: readonly StageItem[];
  /** Parents before children. */
  readonly copies: readonly EtcCopy[];
  /** Mounted over by the policy: there is to be something to mount over. */
  readonly places: readonly Pick<PathFact, 'path' | 'kind'>[];
}

/** All of it, for a sandbox. */
export const etcMount: RuntimeMount = { source: `${STAGE}${ETC}`, target: ETC };

/** @param shown  what the policy mounts; only what lies below /etc counts. */
export function planEtc(
  settings: readonly SurveyedPath[],
  shown: readonly Pick<PathFact, 'path' | 'kind'>[],
): EtcPlan {
  const planned = settings.map((setting) => {
    const name = setting.path.slice(1);
    return { name, source: setting.realPath, copies: listCopies(setting.realPath, name) };
  });
  return {
    items: planned
      .filter(({ copies }) => copies === undefined)
      .map(({ source, name }) => ({ kind: 'read-only', source, name })),
    copies: planned.flatMap(({ copies }) => copies ?? []),
    places: shown.filter(({ path }) => path !== ETC && isInside(path, ETC)),
  };
}

/** Undefined: it is not small, or not for everybody. */
function listCopies(path: string, name: string): EtcCopy[] | undefined {
  const copies: EtcCopy[] = [];
  let bytes = 0;
  const found = [''];
  for (const below of found) {
    const source = `${path}${below}`;
    const stat = lstatSync(source);
    const kind = findCopyKind(stat);
    bytes += stat.size;
    if (kind === undefined || bytes > COPY_BYTES_MAX) return undefined;
    copies.push({ kind, source, name: `${name}${below}`, mode: stat.mode & 0o777 });
    if (kind === 'folder') found.push(...readdirSync(source).map((entry) => `${below}/${entry}`));
    if (found.length > COPY_ENTRIES_MAX) return undefined;
  }
  return copies;
}

function findCopyKind(stat: Stats): EtcCopy['kind'] | undefined {
  if (stat.isSymbolicLink()) return 'link';
  if (stat.isDirectory()) return (stat.mode & 0o005) === 0o005 ? 'folder' : undefined;
  return stat.isFile() && (stat.mode & 0o004) !== 0 ? 'file' : undefined;
}

/** Writes what is not mounted: the copies, accounts of our own, and the places. */
export function fillEtc(stagePath: string, plan: EtcPlan, { uid, gid }: Identity): void {
  const write = (name: string, content: string | Buffer, mode = 0o644): void => {
    const path = join(stagePath, name);
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    writeFileSync(path, content, { mode });
  };
  for (const { kind, source, name, mode } of plan.copies) {
    const path = join(stagePath, name);
    if (kind === 'folder') mkdirSync(path, { recursive: true, mode: 0o755 });
    else if (kind === 'link') symlinkSync(readlinkSync(source), path);
    else write(name, readFileSync(source), mode);
  }
  for (const [name, content] of Object.entries(toAccountFiles(uid, gid))) {
    write(`etc/${name}`, content);
  }
  for (const { path, kind } of plan.places) {
    assert(isInside(path, ETC), 'a place lies below /etc');
    if (existsSync(join(stagePath, path))) continue;
    if (kind === 'folder') mkdirSync(join(stagePath, path), { recursive: true, mode: 0o755 });
    else write(path, '');
  }
}
