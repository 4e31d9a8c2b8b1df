/** When nothing but background processes can have written to the workspace: what a call adds to the
 *  disk is the call's, whoever else writes there meanwhile. */
import type { Clock } from '../../base/clock.ts';

export interface Writers {
  /** Wall time since when no call of the session can have written; undefined: one runs. */
  quietSinceMs(): number | undefined;
  /** A call begins; the function that is returned ends it. */
  enter(tool: string): () => void;
}

export function createWriters(clock: Clock): Writers {
  let count = 0;
  let quietMs = 0;
  return {
    quietSinceMs: () => (count === 0 ? quietMs : undefined),
    enter(tool: string): () => void {
      if (tool.startsWith('process_')) return () => undefined;
      count += 1;
      return () => {
        count -= 1;
        quietMs = clock.wallMs();
      };
    },
  };
}
