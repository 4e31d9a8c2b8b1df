/** The durable list of processes we started: (pid, start time, boot) per process, written to the
 *  store when a process starts. A later supervisor reads it, leaves alone what is not exactly
 *  ours, waits for hosts that still finish an effect, and kills what outlived its owner. */

import { background } from '../../base/background.ts';
import type { Clock } from '../../base/clock.ts';
import { toTimestamp } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import { isAlive, type ProcessIdentity, signalIdentity } from '../../base/process.ts';
import type { SessionId } from '../../protocol/ids.ts';
import type { ProcessRecord, Store } from '../../store/contract.ts';
import type { ChildKind } from './child.ts';

export interface Registry {
  add(entry: {
    readonly kind: ChildKind;
    readonly session: SessionId | undefined;
    readonly identity: ProcessIdentity;
  }): void;
  remove(identity: ProcessIdentity): void;
  /** Live processes of earlier supervisors that may still write a spool. */
  orphans(): readonly ProcessRecord[];
  /** Kills orphaned workers at once, and forgets the dead. Called once at start. */
  sweep(): Promise<void>;
}

export function createRegistry(store: Store, clock: Clock, logger: Logger): Registry {
  let orphans: ProcessRecord[] = [];
  return {
    add({ kind, session, identity }) {
      const record = { ...identity, kind, session, started_at: toTimestamp(clock.wallMs()) };
      background(store.putProcess(record), 'registry.add', logger);
    },
    remove(identity) {
      background(store.removeProcess(identity), 'registry.remove', logger);
    },
    orphans() {
      orphans = orphans.filter((record) => isAlive(record));
      return orphans;
    },
    async sweep() {
      for (const record of await store.listProcesses()) {
        if (!isAlive(record)) {
          background(store.removeProcess(record), 'registry.remove', logger);
        } else if (record.kind === 'worker') {
          // A worker without its supervisor has nobody to ask; it exits at EOF, this is the backstop.
          logger.warn('registry.killed_orphan', { pid: record.pid, kind: record.kind });
          signalIdentity(record, 'SIGKILL');
          background(store.removeProcess(record), 'registry.remove', logger);
        } else {
          orphans.push(record);
        }
      }
    },
  };
}
