/** Which input comes next, and what it says: the newest one is still in memory when its turn starts
 *  at once; any other is read while the start of its turn is on its way to the disk. */
import type { ContentPart } from '../../protocol/content.ts';
import type { EventData, EventEnvelope } from '../../protocol/events.ts';
import type { InputId, SessionId } from '../../protocol/ids.ts';
import type { QueuedInput, Store } from '../../store/contract.ts';

export interface InputReader {
  /** Hears of every published event: one that was just accepted need not be read. */
  onEvent(event: EventEnvelope): void;
  start(input: InputId): void;
  /** What is known of this input, or what the journal says. Rejects as the store does. */
  take(input: InputId): Promise<EventEnvelope>;
}

/** Of a larger one the copy in memory would cost more than the reading. In UTF-16 units. */
const KEPT_CHARS_MAX = 64 * 1024;

interface Known {
  readonly input: InputId;
  readonly event: Promise<EventEnvelope>;
}

export function createInputReader(store: Store, session: SessionId): InputReader {
  let newest: Known | undefined;
  let reading: Known | undefined;
  const find = (input: InputId): Known | undefined =>
    [newest, reading].find((known) => known?.input === input);
  return {
    onEvent(event) {
      if (event.type !== 'input.accepted') return;
      // Its schema was applied when it was accepted.
      const { input_id: input, content } = event.data as EventData<'input.accepted'>;
      const isSmall = countChars(content) <= KEPT_CHARS_MAX;
      newest = isSmall ? { input, event: Promise.resolve(event) } : undefined;
    },
    start(input) {
      if (find(input) !== undefined) return;
      const event = store.readInput(session, input);
      // Its failure is heard by whoever takes it; an interrupted turn takes nothing.
      event.catch(() => undefined);
      reading = { input, event };
    },
    take(input) {
      const known = find(input);
      if (known === newest) newest = undefined;
      reading = undefined;
      return known?.event ?? store.readInput(session, input);
    },
  };
}

function countChars(content: readonly ContentPart[]): number {
  return content.reduce((chars, part) => {
    return chars + (part.type === 'text' ? part.text : part.url).length;
  }, 0);
}

/** An input that interrupts goes before those that wait; among equals the oldest. */
export function pickNext(queued: readonly QueuedInput[]): QueuedInput {
  const [first] = queued;
  const urgent = queued.find((each) => each.on_busy === 'interrupt') ?? first;
  if (urgent === undefined) throw new RangeError('an empty queue has no next input');
  return urgent;
}
