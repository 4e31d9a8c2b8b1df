/** What a running effect says: in order, and never behind a gap. */
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { openAppendLog } from '../../../base/append-log.ts';
import { PrxError } from '../../../base/errors.ts';
import type { Store } from '../../../store/contract.ts';
import { createLiveFeed } from '../../../supervisor/effects/live-feed.ts';
import { createHouse, demolish } from '../house.ts';
import { overStore } from '../over-store.ts';
import { answers, call, createLatch, dataOf, result, runsEverything, say } from '../script.ts';

afterEach(demolish);

describe('the feed', () => {
  test('has one batch under way; what comes meanwhile is the next one', async () => {
    const batches: (readonly string[])[] = [];
    const latches = [createLatch(), createLatch()];
    const feed = createLiveFeed<string>(async (batch) => {
      batches.push(batch);
      await latches[batches.length - 1]?.opened;
    });
    void feed.push('a');
    void feed.push('b');
    void feed.push('c');
    expect(batches).toEqual([['a']]);
    latches[0]?.open();
    latches[1]?.open();
    expect(await feed.settle()).toBe(true);
    expect(batches).toEqual([['a'], ['b', 'c']]);
  });

  test('takes nothing more once a piece could not be written', async () => {
    const tried: (readonly string[])[] = [];
    const feed = createLiveFeed<string>(async (batch) => {
      tried.push(batch);
      if (batch.includes('b')) throw new Error('the disk is full');
    });
    await feed.push('a');
    await Promise.all([feed.push('b'), feed.push('c')]);
    await feed.push('d');
    expect(await feed.settle()).toBe(false);
    expect(tried).toEqual([['a'], ['b']]);
  });
});

describe('[promise:resource-runs-out] a disk that is full for a moment', () => {
  const PIECES = ['one ', 'two ', 'three ', 'four'];

  /** The journal refuses the second piece, once; the spool has them all. */
  function refuseSecond(type: string): (store: Store) => Store {
    let isRefused = false;
    return (store) =>
      overStore(store, {
        async append(request) {
          const isSecond = request.events.some(
            ({ type: own, data }) => own === type && (data as { text?: string }).text === 'two ',
          );
          if (!isSecond || isRefused) return store.append(request);
          isRefused = true;
          throw new PrxError('STORE_DEGRADED', 'the disk is full');
        },
      });
  }

  /** As a gateway or a host does: to the spool, then reported. */
  function sayAll(
    spoolPath: string,
    toRecord: (text: string) => object,
    end: object,
    report: (text: string, offset: number) => void,
  ): void {
    mkdirSync(dirname(spoolPath), { recursive: true });
    const log = openAppendLog(spoolPath);
    for (const text of PIECES) report(text, log.append(toRecord(text)));
    log.append(end);
    log.close();
  }

  test('a model: the text is whole and in order, and paid for once', async () => {
    const outcome = say(PIECES.join(''));
    const gateway = answers({
      '1.1': ({ spoolPath }, { delta }) => {
        const toRecord = (text: string) => ({ kind: 'delta', delta: 'text', text });
        sayAll(spoolPath, toRecord, { kind: 'end', outcome }, delta);
        return outcome;
      },
    });
    const house = await createHouse({
      script: { gateway },
      wrapStore: refuseSecond('model.delta'),
    });
    const id = await house.create();
    await house.send(id, 'hello');
    expect((await house.turnDone(id)).data).toMatchObject({ outcome: 'completed' });
    const deltas = dataOf<{ text: string }>(await house.events(id), 'model.delta');
    expect(deltas.map(({ text }) => text)).toEqual(PIECES);
    expect(gateway.requests).toEqual(['1.1#1']);
  });

  test('a tool: its output is whole and in order, and it ran once', async () => {
    const outcome = result(PIECES.join(''));
    const host = runsEverything({
      '1.1.1': ({ spoolPath }, { output }) => {
        const toRecord = (text: string) => ({ kind: 'output', stream: 'stdout', text });
        sayAll(spoolPath, toRecord, { kind: 'end', outcome }, output);
        return outcome;
      },
    });
    const gateway = answers({ '1.1': say('', [call('c', 'echo')]) });
    const script = { gateway, host };
    const house = await createHouse({ script, wrapStore: refuseSecond('tool.output') });
    const id = await house.create();
    await house.send(id, 'hello');
    expect((await house.turnDone(id)).data).toMatchObject({ outcome: 'completed' });
    const outputs = dataOf<{ text: string }>(await house.events(id), 'tool.output');
    expect(outputs.map(({ text }) => text)).toEqual(PIECES);
    expect(host.runs).toEqual(['1.1.1']);
  });
});
