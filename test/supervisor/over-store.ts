/** A store with some of its methods replaced; the others are those of the real one. */
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
