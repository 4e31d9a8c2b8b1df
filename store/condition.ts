/** Whether the journal can be written. `degraded` mends itself and is probed once a second until
 *  it does; `failed` is for good: what reached the disk is unknown, and only opening the journal
 *  anew tells. The first reason stands. */
import { background } from '../base/background.ts';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { WireError } from './thread-protocol.ts';

const PROBE_INTERVAL_MS = 1000;

export interface ConditionDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  /** True when the journal takes writes again. */
  readonly probe: () => Promise<boolean>;
  /** Hears of each change; undefined: all is well again. */
  readonly onChange: (reason: string | undefined) => void;
  /** Hears of a failure that is for good. */
  readonly onFailed: (error: WireError) => void;
}

export class Condition {
  readonly #deps: ConditionDeps;
  readonly #closed = new AbortController();
  #reason: string | undefined;
  #isFailed = false;

  constructor(deps: ConditionDeps) {
    this.#deps = deps;
  }

  get reason(): string | undefined {
    return this.#reason;
  }

  get isFailed(): boolean {
    return this.#isFailed;
  }

  report(error: WireError): void {
    if (this.#isFailed || this.#closed.signal.aborted) return;
    // The task was refused, or is our bug; it was rolled back, and the file is as it was.
    if (error.trouble === undefined) return;
    // Anything but a full disk leaves open what was written.
    const isFailed = error.trouble !== 'full' && error.trouble !== 'busy';
    if (isFailed) this.#isFailed = true;
    else if (this.#reason !== undefined) return;
    this.#change(error.message);
    if (isFailed) this.#deps.onFailed(error);
    else background(this.#probeUntilWell(), 'store.probe', this.#deps.logger);
  }

  /** A write went through. */
  clear(): void {
    if (this.#reason === undefined || this.#isFailed) return;
    this.#change(undefined);
  }

  close(): void {
    this.#closed.abort();
  }

  async #probeUntilWell(): Promise<void> {
    const { clock, probe } = this.#deps;
    for (;;) {
      await clock.sleep(PROBE_INTERVAL_MS, this.#closed.signal);
      if (this.#closed.signal.aborted || this.#reason === undefined || this.#isFailed) return;
      if (await probe()) return this.clear();
    }
  }

  #change(reason: string | undefined): void {
    this.#reason = reason;
    const { logger, onChange } = this.#deps;
    if (reason === undefined) logger.info('store.repaired', {});
    else logger.error('store.degraded', { reason });
    onChange(reason);
  }
}
