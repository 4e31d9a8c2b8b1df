/** The life of a host's process, whatever it hosts: a door for a later supervisor where one may
 *  come, SIGTERM as the end of what runs, and the exit behind it. */
import { realClock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { listenOwnerSocket } from '../base/owner-socket.ts';
import { type OrphanDoorSpec, openOrphanDoor } from '../protocol/orphan-door.ts';
import { findRunDir } from '../protocol/orphan-methods.ts';

export interface LivingHost {
  readonly face: OrphanDoorSpec['face'];
  /** Settles when nothing is left to do. */
  readonly ended: Promise<unknown>;
  stop(): void;
}

/** Ends this process. */
export async function liveAsHost(
  host: LivingHost,
  { kind, logger }: { readonly kind: OrphanDoorSpec['kind']; readonly logger: Logger },
): Promise<never> {
  const runDir = findRunDir(process.argv);
  const door =
    runDir === undefined
      ? undefined
      : openOrphanDoor({
          ...{ runDir, kind, pid: process.pid, face: host.face },
          ...{ clock: realClock, logger, listen: listenOwnerSocket },
        });
  process.on('SIGTERM', () => host.stop());
  // The terminal's interrupt is the supervisor's business; it tells us what it decided.
  process.on('SIGINT', () => undefined);
  await host.ended;
  door?.close();
  process.exit(0);
}
