/** A store in a temporary directory, and programs that use one. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { realClock } from '../../base/clock.ts';
import { silentLogger } from '../../base/logger.ts';
import { type RunningProcess, realProcesses } from '../../base/process.ts';
import type { Store } from '../../store/contract.ts';
import { openStore, type StoreOptions } from '../../store/index.ts';
import { threadFiles } from '../programs.ts';

export interface Folder {
  readonly path: string;
  remove(): void;
}

export function makeFolder(): Folder {
  const path = mkdtempSync(join(tmpdir(), 'prx-store-'));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** Without the verification in the background, unless the test is about it. */
export function open(stateDir: string, options: Partial<StoreOptions> = {}): Promise<Store> {
  return openStore({
    stateDir,
    clock: realClock,
    logger: silentLogger,
    verifyInBackground: false,
    threadFiles,
    ...options,
  });
}

/** Runs `test` with a store that is closed and removed whatever happens. */
export async function withStore(
  test: (store: Store, path: string) => Promise<void>,
  options: Partial<StoreOptions> = {},
): Promise<void> {
  const folder = makeFolder();
  const store = await open(folder.path, options);
  try {
    await test(store, folder.path);
  } finally {
    await store.close().catch(() => undefined); // A store made to fail fails to close, too.
    folder.remove();
  }
}

/** Syncs that are done when the test says so, however slow the machine is. */
export interface SyncGate {
  /** For the store's faults. */
  readonly syncsAllowed: SharedArrayBuffer;
  /** From now on `more` syncs are done beyond those that were allowed before. */
  allow(more: number): void;
}

const ALL_SYNCS = 2 ** 30;

/** Runs `test` with a store whose syncs pass the gate: the first one, that of the opening, is
 *  allowed, the next ones wait. When the test has ended all are. */
export async function withSyncGate(
  test: (store: Store, gate: SyncGate) => Promise<void>,
  options: Partial<StoreOptions> = {},
): Promise<void> {
  const syncsAllowed = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
  const allowed = new Int32Array(syncsAllowed);
  const gate: SyncGate = {
    syncsAllowed,
    allow(more) {
      Atomics.add(allowed, 0, more);
      Atomics.notify(allowed, 0);
    },
  };
  gate.allow(1);
  const faults = { ...options.faults, syncsAllowed };
  await withStore(
    async (store) => {
      try {
        await test(store, gate);
      } finally {
        gate.allow(ALL_SYNCS);
      }
    },
    { ...options, faults },
  );
}

const programs = {
  'append-loop': new URL('./fixtures/append-loop.ts', import.meta.url),
  hold: new URL('./fixtures/hold.ts', import.meta.url),
};

/** Starts a fixture program, as another user where we are root; `line` resolves with its first
 *  output. */
export async function startFixture(
  name: keyof typeof programs,
  stateDir: string,
  uid?: number,
): Promise<{ readonly program: RunningProcess; readonly line: Promise<string> }> {
  const program = await realProcesses.start({
    command: process.execPath,
    args: [fileURLToPath(programs[name]), stateDir],
    env: {},
    ...(uid === undefined || process.getuid?.() !== 0 ? {} : { uid, gid: uid }),
    ownSession: false,
  });
  program.stderr.resume();
  program.stdout.setEncoding('utf8');
  const line = new Promise<string>((resolve) => program.stdout.once('data', resolve));
  return { program, line };
}
