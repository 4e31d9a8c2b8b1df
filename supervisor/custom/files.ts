/** Which files the configuration names as custom tools. Looks at names only: what is in a file is
 *  for the sandbox to see. */
import { readdirSync, realpathSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { systemCode } from '../../base/errors.ts';
import type { CustomFile } from '../../protocol/custom-tools.ts';

export interface ToolFiles {
  /** Absolute, without links. */
  readonly roots: readonly string[];
  readonly files: readonly CustomFile[];
  /** What cannot be read, by its path. */
  readonly problems: readonly { readonly file: string; readonly problem: string }[];
}

/** A model chooses badly among more; each one is loaded at every start. */
export const FILES_MAX = 64;
const TOOL_FILE = /^[^._].*\.(ts|mts|cts|js|mjs|cjs)$/;
const NO_TOOL = /\.(d|test|spec)\.[cm]?[jt]s$/;

/** @param configFile  relative paths are found from its folder. */
export function listToolFiles(paths: readonly string[], configFile: string | undefined): ToolFiles {
  const roots: string[] = [];
  const files: CustomFile[] = [];
  const problems: { file: string; problem: string }[] = [];
  for (const path of paths) {
    const named = resolve(configFile === undefined ? '/' : dirname(configFile), path);
    try {
      const root = realpathSync(named);
      const found = statSync(root).isDirectory() ? listFolder(root) : [''];
      if (found.length === 0) problems.push({ file: named, problem: 'no tool file is in it' });
      const index = roots.push(root) - 1;
      files.push(...found.map((each) => ({ root: index, path: each })));
    } catch (error) {
      const code = systemCode(error);
      if (code === undefined) throw error;
      problems.push({ file: named, problem: `it cannot be read (${code})` });
    }
  }
  for (const { root, path } of files.slice(FILES_MAX)) {
    const file = toFilePath(roots, { root, path });
    problems.push({ file, problem: `it is beyond the limit of ${FILES_MAX} files` });
  }
  return { roots, files: files.slice(0, FILES_MAX), problems };
}

export function toFilePath(roots: readonly string[], { root, path }: CustomFile): string {
  const folder = roots[root] ?? '';
  return path === '' ? folder : `${folder}/${path}`;
}

/** Of the folder itself; what begins with `_` or `.` is for the others to import. */
function listFolder(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => !entry.isDirectory() && TOOL_FILE.test(entry.name))
    .map(({ name }) => name)
    .filter((name) => !NO_TOOL.test(name))
    .sort();
}
