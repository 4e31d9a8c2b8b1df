/** The order of the tool calls of one step: calls that only read run side by side, a call that
 *  writes waits for all before it and is waited for by all behind it. So the effects are those of
 *  the order in which the model wrote the calls, whatever is approved first. */
import type { EffectClass } from '../../protocol/content.ts';

export interface Place {
  /** Resolves when every earlier call that this one may not overtake has ended. */
  readonly ready: Promise<void>;
  /** The call has its outcome. Idempotent. */
  leave(): void;
}

export interface CallOrder {
  /** Calls of one step enter in the order in which they were asked for. */
  enter(step: number, effect: EffectClass): Place;
}

interface Entry {
  readonly step: number;
  readonly isRead: boolean;
  readonly left: Promise<void>;
}

export function createCallOrder(): CallOrder {
  const entries = new Set<Entry>();
  return {
    enter(step, effect) {
      const isRead = effect === 'read';
      const before = [...entries].filter((each) => each.step === step && !(isRead && each.isRead));
      const { promise: left, resolve } = Promise.withResolvers<void>();
      const entry = { step, isRead, left };
      entries.add(entry);
      return {
        ready: Promise.all(before.map((each) => each.left)).then(() => undefined),
        leave() {
          entries.delete(entry);
          resolve();
        },
      };
    },
  };
}
