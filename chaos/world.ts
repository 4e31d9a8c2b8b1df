/** What the file system shows at the end: how often each counted call has acted, and what was left
 *  behind. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { EFFECTS_FILE, OUTPUT_FOLDER } from './script.ts';

/** Marks by token, over all workspaces. */
export function countEffects(workspaces: readonly string[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  const add = (token: string): void => void counts.set(token, (counts.get(token) ?? 0) + 1);
  for (const workspace of workspaces) {
    const effects = join(workspace, EFFECTS_FILE);
    const text = existsSync(effects) ? readFileSync(effects, 'utf8') : '';
    for (const line of text.split('\n')) if (line !== '') add(line);
    const written = join(workspace, OUTPUT_FOLDER);
    for (const name of existsSync(written) ? readdirSync(written) : []) add(name);
  }
  return counts;
}

/** Files that a stopped supervisor must not leave: sockets, spools, temporary folders. */
export function findLeftFiles(stateDir: string, tmpDir: string): readonly string[] {
  const listed = (dir: string): string[] =>
    existsSync(dir)
      ? readdirSync(dir, { withFileTypes: true, recursive: true })
          .filter((entry) => !entry.isDirectory())
          .map((entry) => join(entry.parentPath, entry.name))
      : [];
  const sockets = listed(stateDir).filter((path) => path.endsWith('.sock'));
  const temporary = existsSync(tmpDir) ? readdirSync(tmpDir).map((name) => join(tmpDir, name)) : [];
  return [...sockets, ...listed(join(stateDir, 'spool')), ...temporary];
}
