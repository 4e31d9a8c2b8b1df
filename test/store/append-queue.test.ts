import { describe, expect, it } from '@jest/globals';
import { realClock } from '../../base/clock.ts';
import { AppendQueue } from '../../store/append-queue.ts';
import { SafeMark } from '../../store/safe-mark.ts';
import type { WireRequest } from '../../store/thread-protocol.ts';
import type { WriterThread } from '../../store/threads.ts';
import { delta, renamed } from './setup-events.ts';

type Kind = 'commit' | 'commitSynced' | 'sync';

/** A writer whose tasks are answered by hand: what is under way is the subject here. */
function createWriter() {
  const underWay = { commit: 0, commitSynced: 0, sync: 0 };
  const most = { commit: 0, commitSynced: 0, sync: 0 };
  const batches: number[] = [];
  let lastId = 0;
  const answers: { readonly kind: Kind; readonly answer: () => void }[] = [];
  const run = (kind: Kind, input: readonly WireRequest[] | null) =>
    new Promise((resolve) => {
      underWay[kind] += 1;
      most[kind] = Math.max(most[kind], underWay[kind]);
      const outcomes = (input ?? []).map(() => {
        lastId += 1;
        return { kind: 'appended', seqs: [lastId], id: lastId };
      });
      if (kind !== 'sync') batches.push(outcomes.length);
      const safeId = kind === 'commit' ? 0 : lastId;
      const value = kind === 'sync' ? lastId : { outcomes, safeId, writtenBytes: 0 };
      const answer = (): void => {
        underWay[kind] -= 1;
        resolve({ ok: true, value });
      };
      answers.push({ kind, answer });
    });
  // Only these tasks are run here.
  const writer = { run, stop: async () => undefined } as unknown as WriterThread;
  const answerNext = (kind: Kind): boolean => {
    const index = answers.findIndex((each) => each.kind === kind);
    const [found] = index < 0 ? [] : answers.splice(index, 1);
    found?.answer();
    return found !== undefined;
  };
  return { writer, most, batches, answerNext };
}

function createQueue(writer: WriterThread, safeId: number): AppendQueue {
  return new AppendQueue({
    writer,
    mark: new SafeMark(safeId),
    clock: realClock,
    epoch: 1,
    onTrouble: () => undefined,
    onCommit: () => undefined,
  });
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe('the append queue', () => {
  it('has two syncs under way at most, however slow they are, and answers in order', async () => {
    const { writer, most, batches, answerNext } = createWriter();
    const queue = createQueue(writer, 0);
    const order: number[] = [];
    const appends: Promise<unknown>[] = [];
    for (let i = 0; i < 500; i += 1) {
      appends.push(queue.append({ events: [renamed('x')] }).then(() => order.push(i)));
      await turn();
      answerNext('commit');
    }
    expect(order).toEqual([]);
    expect(most).toMatchObject({ commitSynced: 1, sync: 2 });
    while (order.length < 500) {
      for (const kind of ['commit', 'commitSynced', 'sync'] as const) {
        answerNext(kind);
        await turn();
      }
    }
    await Promise.all(appends);
    expect(order).toEqual(Array.from({ length: 500 }, (_, i) => i));
    expect(most).toMatchObject({ commitSynced: 1, sync: 2 });
    expect(batches.reduce((sum, size) => sum + size, 0)).toBe(500);
  });

  it('asks for a commit and its sync at once where nothing else is under way', async () => {
    const { writer, most, answerNext } = createWriter();
    const queue = createQueue(writer, 0);
    for (let i = 0; i < 3; i += 1) {
      const appended = queue.append({ events: [renamed('x')] });
      await turn();
      expect(answerNext('commitSynced')).toBe(true);
      await appended;
    }
    expect(most).toEqual({ commit: 0, commitSynced: 1, sync: 0 });
  });

  it('does not let a slow sync hold up who needs none', async () => {
    const { writer, answerNext } = createWriter();
    const queue = createQueue(writer, 0);
    const synced = queue.append({ events: [renamed('x')] });
    await turn();
    for (let i = 0; i < 4; i += 1) {
      const written = queue.append({ events: [delta('word')] });
      await turn();
      expect(answerNext('commit')).toBe(true);
      await written;
    }
    answerNext('commitSynced');
    await synced;
  });

  it('makes one batch of what comes while two are under way', async () => {
    const { writer, most, batches, answerNext } = createWriter();
    const queue = createQueue(writer, 1000);
    const appends: Promise<unknown>[] = [];
    for (let i = 0; i < 10; i += 1) {
      appends.push(queue.append({ events: [renamed('x')] }));
      await turn();
    }
    answerNext('commitSynced');
    while (answerNext('commit')) await turn();
    await Promise.all(appends);
    expect(batches).toEqual([1, 1, 1, 7]);
    expect(most.commit).toBe(2);
  });
});
