/** A tool call whose supervisor died when it had reserved it, before its host heard of it. */
import type { EventEnvelope } from '../../../protocol/events.ts';
import type { SessionId } from '../../../protocol/ids.ts';
import type { Store } from '../../../store/contract.ts';
import { createHouse, type House } from '../house.ts';
import { overStore } from '../over-store.ts';
import { answers, call, createLatch, say } from '../script.ts';

/** Calls `then` when an append with an event of this type is stored, before anybody hears of it. */
export const behind =
  (type: EventEnvelope['type'], then: () => Promise<void>) =>
  (store: Store): Store =>
    overStore(store, {
      async append(request) {
        const answer = await store.append(request);
        if (request.events.some((event) => event.type === type)) await then();
        return answer;
      },
    });

export async function reserved(): Promise<{ readonly house: House; readonly id: SessionId }> {
  const [isReserved, isDead] = [createLatch(), createLatch()];
  const house = await createHouse({
    script: { gateway: answers({ '1.1': say('', [call('a', 'touch x')]) }) },
    wrapStore: behind('tool.started', () => {
      isReserved.open();
      return isDead.opened;
    }),
  });
  const id = await house.create();
  await house.send(id, 'hello');
  await isReserved.opened;
  const crashed = house.crash();
  isDead.open();
  await crashed;
  return { house, id };
}
