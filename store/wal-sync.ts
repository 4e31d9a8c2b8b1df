/** The sync behind power-durable events. SQLite commits with synchronous=NORMAL: a commit is
 *  written to the WAL, not synced. We then sync the WAL file ourselves, through a descriptor of
 *  our own, off this thread, and answer power-durable appends after that.
 *
 *  Why this equals synchronous=FULL: FULL is NORMAL plus one sync of the WAL after each commit,
 *  before COMMIT returns; here it is before the *answer*. What a checkpoint needs (WAL synced
 *  before pages move into the database, the database synced before the WAL is reused) NORMAL does
 *  itself, and so does the header and directory sync of a new WAL. A torn tail after a power loss
 *  is cut at the last valid frame either way. https://sqlite.org/wal.html#performance
 *
 *  At most one sync is under way; whoever comes meanwhile shares the next one. So a
 *  process-durable append never waits for a sync, and a power-durable one for at most two.
 *
 *  What nobody waits for is written back a moment later all the same: else the next sync would have
 *  seconds of streams to write, and a power loss as much to take. */
import { close, fdatasync, openSync } from 'node:fs';
import { promisify } from 'node:util';
import { realClock, type Timer } from '../base/clock.ts';
import { PrxError, systemCode } from '../base/errors.ts';
import type { WriterFaults } from './thread-protocol.ts';

/** Beside seven streams an input was accepted after 4.6 to 22 ms (median 16, n = 10), and with this
 *  after 2.9 to 6.6 (3.5), in turns. */
const WRITE_BACK_MS = 250;

export class WalSync {
  readonly #fd: number;
  readonly #faults: WriterFaults;
  readonly #committedId: () => number;
  #syncedId = 0;
  #count = 0;
  #current: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  #timer: Timer | undefined;
  #writingBack: Promise<void> | undefined;
  /** Set once, for good: the kernel reports a failed write-back to one sync only and then
   *  forgets it, so a second try would succeed although the data is gone. */
  #failure: PrxError | undefined;

  /** @param committedId  the newest committed event at the time of the call. */
  constructor(walPath: string, committedId: () => number, faults: WriterFaults) {
    this.#fd = openSync(walPath, 'r+');
    this.#committedId = committedId;
    this.#faults = faults;
  }

  /** Everything committed up to this id is synced. */
  get syncedId(): number {
    return this.#syncedId;
  }

  /** Throws when a sync failed: nothing may be written any more. */
  assertUsable(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Resolves when all that is committed now is synced. Throws STORE_DEGRADED, then for ever. */
  async run(): Promise<number> {
    this.assertUsable();
    this.#next ??= this.#queue();
    await this.#next;
    return this.#syncedId;
  }

  /** Something was committed. */
  writeBackSoon(): void {
    if (this.#timer !== undefined) return;
    this.#timer = realClock.setTimer(WRITE_BACK_MS, () => {
      this.#timer = undefined;
      if (this.#syncedId < this.#committedId()) this.#writingBack = this.#writeBack();
    });
  }

  async close(): Promise<void> {
    this.#timer?.cancel();
    await this.#writingBack;
    await this.#next?.catch(() => undefined); // Its callers heard of the failure.
    await this.#current?.catch(() => undefined); // Same.
    await promisify(close)(this.#fd);
  }

  /** Whoever commits or syncs next hears of its failure. Never beside a sync: the kernel would tell
   *  one of the two, and the other would take what is lost for written. */
  async #writeBack(): Promise<void> {
    const current = this.#current;
    await current?.catch(() => undefined); // Its callers heard of the failure.
    // Somebody asked meanwhile: that one covers it.
    if (this.#current !== current || this.#next !== undefined) return;
    try {
      await promisify(fdatasync)(this.#fd);
    } catch (cause) {
      this.#fail(cause);
    }
  }

  async #queue(): Promise<void> {
    // The one under way may have started before the newest commit: it does not count.
    await this.#current?.catch(() => undefined); // Same.
    this.#current = this.#next;
    this.#next = undefined;
    await this.#sync();
  }

  async #sync(): Promise<void> {
    await this.#writingBack;
    this.assertUsable();
    const id = this.#committedId();
    this.#count += 1;
    try {
      await this.#applyFaults();
      await promisify(fdatasync)(this.#fd);
      this.#syncedId = id;
    } catch (cause) {
      throw this.#fail(cause);
    }
  }

  #fail(cause: unknown): PrxError {
    const reason = systemCode(cause) ?? String(cause);
    this.#failure ??= new PrxError(
      'STORE_DEGRADED',
      `the journal could not be synced (${reason}), so what reached the disk is unknown; ` +
        'check the disk, then restart prx-supervisor',
      { data: { reason, trouble: 'fatal' }, cause },
    );
    return this.#failure;
  }

  async #applyFaults(): Promise<void> {
    const { syncDelayMs, syncsAllowed, failSyncAt } = this.#faults;
    const count = this.#count;
    if (syncDelayMs !== undefined) await realClock.sleep(syncDelayMs);
    if (syncsAllowed !== undefined) await untilAllowed(new Int32Array(syncsAllowed), count);
    if (failSyncAt === count) throw Object.assign(new Error('injected'), { code: 'EIO' });
  }
}

async function untilAllowed(allowed: Int32Array<SharedArrayBuffer>, count: number): Promise<void> {
  for (;;) {
    const seen = Atomics.load(allowed, 0);
    if (seen >= count) return;
    await Atomics.waitAsync(allowed, 0, seen).value;
  }
}
