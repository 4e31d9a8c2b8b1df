/** The supervisor's own events: started, stopped, another sandbox. A journal that takes no writes
 *  keeps nothing from happening: then the log tells. */
import { toPrxError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { type EventData, type EventType, SYSTEM_SESSION } from '../protocol/events.ts';
import type { Store } from '../store/contract.ts';

export interface AnnounceDeps {
  readonly store: Pick<Store, 'append'>;
  readonly logger: Logger;
}

/** Never rejects. */
export async function announce<T extends EventType>(
  { store, logger }: AnnounceDeps,
  event: { readonly type: T; readonly data: EventData<T> },
): Promise<void> {
  try {
    await store.append({ events: [{ session: SYSTEM_SESSION, ...event }] });
  } catch (error) {
    const { message } = toPrxError(error);
    logger.error('supervisor.not_journaled', { type: event.type, error: message });
  }
}
