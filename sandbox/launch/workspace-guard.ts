/** Keeps a workspace from starting something at its user's: watches the guarded names during a
 *  call, and looks for repositories that became active. What is found is renamed, not removed: it
 *  may be wanted, and then its user renames it back. */
import { closeSync } from 'node:fs';
import type { Clock } from '../../base/clock.ts';
import type { Random } from '../../base/random.ts';
import type { Backend } from './backend.ts';
import { scanGit } from './git-scan.ts';
import { type GuardWatch, openFolder, putAside, type Withheld, watchGuarded } from './guards.ts';

export interface WorkspaceGuard {
  /** For one call; undefined where there is nothing we could guard. */
  watch(): GuardWatch | undefined;
  /** Puts aside what has become active in repositories since the last scan (the first: since the
   *  guard was made). */
  scan(): Promise<readonly Withheld[]>;
}

export interface WorkspaceGuardSpec {
  readonly backend: Pick<Backend, 'level' | 'workspace'>;
  readonly clock: Clock;
  readonly random: Random;
}

/** The kernel stamps files by a clock that may be a tick behind. */
const STAMP_SLACK_MS = 20;

export function createWorkspaceGuard(spec: WorkspaceGuardSpec): WorkspaceGuard {
  const { clock, random } = spec;
  const { level, workspace } = spec.backend;
  // Where nothing is mounted, whoever wants to goes around it, and a user's own settings that an
  // honest tool rewrites would be put aside.
  if (level === 'none') return { watch: () => undefined, scan: async () => [] };
  let sinceMs = clock.wallMs() - STAMP_SLACK_MS;
  return {
    watch: () => watchGuarded(workspace, { clock, random }),
    async scan() {
      const startedMs = clock.wallMs() - STAMP_SLACK_MS;
      const { findings } = await scanGit(workspace, sinceMs);
      sinceMs = startedMs;
      if (findings.length === 0) return [];
      const fd = openFolder(workspace);
      if (fd === undefined) return [];
      try {
        return findings.flatMap(({ path, reason }) =>
          putAside(fd, path, random).map((withheld) => ({ ...withheld, reason })),
        );
      } finally {
        closeSync(fd);
      }
    },
  };
}
