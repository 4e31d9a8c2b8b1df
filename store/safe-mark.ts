/** How far the journal is safe against a power loss: every power-durable event up to this id is
 *  synced. Who must not show or answer something earlier waits here. */

interface Waiter {
  readonly id: number;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class SafeMark {
  #id: number;
  #waiters: Waiter[] = [];
  #failure: { readonly error: unknown } | undefined;

  constructor(id: number) {
    this.#id = id;
  }

  get id(): number {
    return this.#id;
  }

  advance(id: number): void {
    if (id <= this.#id) return;
    this.#id = id;
    const ready = this.#waiters.filter((waiter) => waiter.id <= id);
    this.#waiters = this.#waiters.filter((waiter) => waiter.id > id);
    for (const waiter of ready) waiter.resolve();
  }

  /** Nothing beyond the present mark will ever be safe. The first error stands. */
  fail(error: unknown): void {
    this.#failure ??= { error };
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) waiter.reject(this.#failure.error);
  }

  /** Resolves when `id` is safe. Bounded by its callers: appends and reads under way. */
  whenSafe(id: number): Promise<void> {
    if (id <= this.#id) return Promise.resolve();
    if (this.#failure !== undefined) return Promise.reject(this.#failure.error);
    return new Promise((resolve, reject) => {
      this.#waiters.push({ id, resolve, reject });
    });
  }
}
