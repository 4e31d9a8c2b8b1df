/** A store with some of its methods replaced; the others are those of the real one. */
import type { EventType } from '../../protocol/events.ts';
import type { Store } from '../../store/contract.ts';

export function overStore(store: Store, own: Partial<Store>): Store {
  return new Proxy(store, {
    get(_, key) {
      const replaced: unknown = Reflect.get(own, key);
      if (replaced !== undefined) return replaced;
      const value: unknown = Reflect.get(store, key, store);
      return typeof value === 'function' ? value.bind(store) : value;
    },
  });
}

/** Refuses the next append of this type when the disk is full; that one gives room again. */
export const refusingOnce =
  (type: EventType, disk: { isFull: boolean }, error: Error) =>
  (store: Store): Store =>
    overStore(store, {
      append(request) {
        const isRefused = disk.isFull && request.events.some((event) => event.type === type);
        if (!isRefused) return store.append(request);
        disk.isFull = false;
        return Promise.reject(error);
      },
    });
