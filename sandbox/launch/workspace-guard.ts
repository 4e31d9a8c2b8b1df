/** Keeps a workspace from starting something at its user's: watches the guarded names during a
 *  call, and looks for repositories that became active. What is found is renamed, not removed: it
 *  may be wanted, and then its user renames it back. */
import { closeSync } from 'node:fs';
import type { Clock } from '../../base/clock.ts';
import type { Random } from '../../base/random.ts';
import type { Backend } from './backend.ts';
import { scanGit } from './git-scan.ts';
import { createWatcher, type GuardWatch, openFolder, putAside, type Withheld } from './guards.ts';

export interface WorkspaceGuard {
  /** For one call; undefined where there is nothing we could guard. */
  watch(): GuardWatch | undefined;
  /** Puts aside what has become active in repositories since the guard was made. */
  scan(): Promise<readonly Withheld[]>;
}

/** What would make git run something before the first call: that is its user's. */
export type Known = ReadonlySet<string>;

export interface WorkspaceGuardSpec {
  readonly backend: Pick<Backend, 'level' | 'workspace'>;
  readonly known: Known;
  readonly clock: Clock;
  readonly random: Random;
}

/** Looks through the workspace once; it may be done while the sandbox is being built.
 *  @param workspace  empty: there is none. */
export async function surveyKnown(workspace: string): Promise<Known> {
  const { findings } = workspace === '' ? { findings: [] } : await scanGit(workspace);
  return new Set(findings.map(({ identity }) => identity));
}

export function createWorkspaceGuard(spec: WorkspaceGuardSpec): WorkspaceGuard {
  const { known, clock, random } = spec;
  const { level, workspace } = spec.backend;
  // Where nothing is mounted, whoever wants to goes around it, and a user's own settings that an
  // honest tool rewrites would be put aside.
  if (level === 'none') return { watch: () => undefined, scan: async () => [] };
  return {
    watch: createWatcher(workspace, { clock, random }),
    async scan() {
      const { findings } = await scanGit(workspace);
      const fresh = findings.filter(({ identity }) => !known.has(identity));
      if (fresh.length === 0) return [];
      const fd = openFolder(workspace);
      if (fd === undefined) return [];
      try {
        return fresh.flatMap(({ path, reason }) =>
          putAside(fd, path, random).map((withheld) => ({ ...withheld, reason })),
        );
      } finally {
        closeSync(fd);
      }
    },
  };
}
