/** Which input comes next, and what it says: read while the start of its turn is on its way to the
 *  disk, which is half a millisecond of the way from a prompt to its model request. */
import type { EventEnvelope } from '../../protocol/events.ts';
import type { InputId, SessionId } from '../../protocol/ids.ts';
import type { QueuedInput, Store } from '../../store/contract.ts';

export interface InputReader {
  start(input: InputId): void;
  /** The reading that was started for this input, or a new one. Rejects as the store does. */
  take(input: InputId): Promise<EventEnvelope>;
}

export function createInputReader(store: Store, session: SessionId): InputReader {
  let reading: { readonly input: InputId; readonly event: Promise<EventEnvelope> } | undefined;
  return {
    start(input) {
      const event = store.readInput(session, input);
      // Its failure is heard by whoever takes it; an interrupted turn takes nothing.
      event.catch(() => undefined);
      reading = { input, event };
    },
    take(input) {
      const started = reading?.input === input ? reading.event : undefined;
      reading = undefined;
      return started ?? store.readInput(session, input);
    },
  };
}

/** An input that interrupts goes before those that wait; among equals the oldest. */
export function pickNext(queued: readonly QueuedInput[]): QueuedInput {
  const [first] = queued;
  const urgent = queued.find((each) => each.on_busy === 'interrupt') ?? first;
  if (urgent === undefined) throw new RangeError('an empty queue has no next input');
  return urgent;
}
