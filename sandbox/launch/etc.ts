/** The /etc of a session's sandboxes: one folder on the stage, filled when the cell starts and
 *  mounted as one: twenty-five mounts of their own were half of what a sandbox took to build.
 *  Small files that everybody may read are copied; the others, and folders, are mounted there
 *  once. A sandbox sees settings as they were then; so it did when each was mounted, because
 *  who changes such a file replaces it. */
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { assert } from '../../base/assert.ts';
import { isInside, type PathFact, type RuntimeMount, toAccountFiles } from './arguments.ts';
import type { Identity } from './identity.ts';
import { STAGE, type StageItem } from './prelude.ts';
import type { SurveyedPath } from './survey.ts';

const ETC = '/etc';
const COPY_BYTES_MAX = 256 * 1024;
const READABLE_BY_ALL = 0o004;

export interface EtcPlan {
  /** Mounted below it on the stage, read-only. */
  readonly items: readonly StageItem[];
  /** Copied: the source on the host, the name on the stage. */
  readonly copies: readonly { readonly source: string; readonly name: string }[];
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
  const named = settings.map((setting) => ({ setting, name: setting.path.slice(1) }));
  const isCopied = ({ setting }: (typeof named)[number]): boolean => isSmall(setting);
  return {
    items: named
      .filter((each) => !isCopied(each))
      .map(({ setting, name }) => ({ kind: 'read-only', source: setting.realPath, name })),
    copies: named.filter(isCopied).map(({ setting, name }) => ({ source: setting.realPath, name })),
    places: shown.filter(({ path }) => path !== ETC && isInside(path, ETC)),
  };
}

function isSmall({ kind, realPath }: SurveyedPath): boolean {
  if (kind === 'folder') return false;
  const { size, mode } = statSync(realPath);
  return size <= COPY_BYTES_MAX && (mode & READABLE_BY_ALL) !== 0;
}

/** Writes what is not mounted: the copies, accounts of our own, and the places. */
export function fillEtc(stagePath: string, plan: EtcPlan, { uid, gid }: Identity): void {
  const write = (name: string, content: string | Buffer): void => {
    const path = join(stagePath, name);
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    writeFileSync(path, content, { mode: 0o644 });
  };
  for (const { source, name } of plan.copies) write(name, readFileSync(source));
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
