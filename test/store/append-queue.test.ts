import { describe, expect, it } from '@jest/globals';
import { realClock } from '../../base/clock.ts';
import { AppendQueue } from '../../store/append-queue.ts';
import { SafeMark } from '../../store/safe-mark.ts';
import type { WireRequest } from '../../store/thread-protocol.ts';
import type { WriterThread } from '../../store/threads.ts';
import { renamed } from './setup-events.ts';

/** A writer whose tasks are answered by hand: what is under way is the subject here. */
function createWriter() {
  const underWay = { commit: 0, sync: 0 };
  const most = { commit: 0, sync: 0 };
  const batches: number[] = [];
  let lastId = 0;
  const answers: { readonly kind: 'commit' | 'sync'; readonly answer: () => void }[] = [];
  const run = (kind: 'commit' | 'sync', input: readonly WireRequest[] | null) =>
    new Promise((resolve) => {
      underWay[kind] += 1;
      most[kind] = Math.max(most[kind], underWay[kind]);
      const outcomes = (input ?? []).map(() => {
        lastId += 1;
        return { kind: 'appended', seqs: [lastId], id: lastId };
      });
      if (kind === 'commit') batches.push(outcomes.length);
      const value = kind === 'commit' ? { outcomes, safeId: 0, writtenBytes: 0 } : lastId;
      const answer = (): void => {
        underWay[kind] -= 1;
        resolve({ ok: true, value });
      };
      answers.push({ kind, answer });
    });
  // Only these two tasks are run here.
  const writer = { run, stop: async () => undefined } as unknown as WriterThread;
  const answerNext = (kind: 'commit' | 'sync'): boolean => {
    const index = answers.findIndex((each) => each.kind === kind);
    const [found] = index < 0 ? [] : answers.splice(index, 1);
    found?.answer();
    return found !== undefined;
  };
  return { writer, most, batches, answerNext };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe('the append queue', () => {
  it('has two syncs under way at most, however slow they are, and answers in order', async () => {
    const { writer, most, batches, answerNext } = createWriter();
    const queue = new AppendQueue({
      writer,
      mark: new SafeMark(0),
      clock: realClock,
      epoch: 1,
      onTrouble: () => undefined,
      onCommit: () => undefined,
    });
    const order: number[] = [];
    const appends: Promise<unknown>[] = [];
    for (let i = 0; i < 500; i += 1) {
      appends.push(queue.append({ events: [renamed('x')] }).then(() => order.push(i)));
      await turn();
      answerNext('commit');
    }
    expect(order).toEqual([]);
    while (order.length < 500) {
      answerNext('commit');
      await turn();
      answerNext('sync');
      await turn();
    }
    await Promise.all(appends);
    expect(order).toEqual(Array.from({ length: 500 }, (_, i) => i));
    expect(most.sync).toBe(2);
    expect(batches.reduce((sum, size) => sum + size, 0)).toBe(500);
  });

  it('makes one batch of what comes while two are under way', async () => {
    const { writer, most, batches, answerNext } = createWriter();
    const queue = new AppendQueue({
      writer,
      mark: new SafeMark(1000),
      clock: realClock,
      epoch: 1,
      onTrouble: () => undefined,
      onCommit: () => undefined,
    });
    const appends: Promise<unknown>[] = [];
    for (let i = 0; i < 10; i += 1) {
      appends.push(queue.append({ events: [renamed('x')] }));
      await turn();
    }
    while (answerNext('commit')) await turn();
    await Promise.all(appends);
    expect(batches).toEqual([1, 1, 8]);
    expect(most.commit).toBe(2);
  });
});
