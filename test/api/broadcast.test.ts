/** Live readers share one follower: who may come in, who goes, and that each gets every event
 *  once; by itself, and through the server with clients of all kinds. */
import { connect, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { type Batch, createBroadcasts, type LiveReader } from '../../api/broadcast.ts';
import { createSseParser } from '../../api/client/sse-parser.ts';
import type { LiveSource, StreamFrame } from '../../api/route.ts';
import { open, openRig, type Rig, readUntil } from './harness.ts';

interface Tap {
  readonly source: LiveSource;
  readonly opened: { readonly since: number; readonly signal: AbortSignal }[];
  push(...seqs: readonly number[]): Promise<void>;
  end(error?: Error): void;
}

/** A session's events, as the test says when. */
function createTap(lastSeq: number, chars = 0): Tap {
  const opened: Tap['opened'] = [];
  let queue: readonly number[] = [];
  let isOver = false;
  let broken: Error | undefined;
  let wake = (): void => undefined;
  async function* follow(): AsyncGenerator<StreamFrame> {
    while (!isOver) {
      const [seq, ...rest] = queue;
      queue = rest;
      if (seq !== undefined) yield { id: String(seq), data: 'x'.repeat(chars) };
      else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
    if (broken !== undefined) throw broken;
  }
  const turn = (): Promise<unknown> => new Promise((resolve) => setImmediate(resolve));
  return {
    opened,
    source: {
      session: 's',
      lastSeq,
      async open(since, signal) {
        opened.push({ since, signal });
        return follow();
      },
    },
    async push(...seqs) {
      queue = [...queue, ...seqs];
      await turn();
      wake();
      await turn();
    },
    end(error) {
      isOver = true;
      broken = error;
      wake();
    },
  };
}

function createReader(seq: number, takesUpTo = Number.POSITIVE_INFINITY) {
  const leaver = new AbortController();
  const got: number[] = [];
  const batches: Batch[] = [];
  const reader: LiveReader = {
    seq,
    signal: leaver.signal,
    take: (batch) => {
      batches.push(batch);
      got.push(...batch.map(({ id }) => Number(id)));
      return Number(got.at(-1)) < takesUpTo;
    },
  };
  return { reader, got, batches, leave: () => leaver.abort() };
}

describe('a broadcast', () => {
  test('has one follower, and gives each reader what it has not', async () => {
    const { join } = createBroadcasts();
    const tap = createTap(5);
    const [first, ahead] = [createReader(5), createReader(7)];
    expect(join(tap.source, first.reader)).toBeInstanceOf(Promise);
    expect(join(tap.source, ahead.reader)).toBeInstanceOf(Promise);
    await tap.push(6, 7, 8);
    expect([first.got, ahead.got]).toEqual([[6, 7, 8], [8]]);
    expect(tap.opened.map(({ since }) => since)).toEqual([5]);
  });

  test('takes nobody in who is behind what it has kept, or gone', async () => {
    const { join } = createBroadcasts();
    const tap = createTap(5);
    expect(join(tap.source, createReader(4).reader)).toBeUndefined();
    void join(tap.source, createReader(5).reader);
    await tap.push(6);
    expect(join(tap.source, createReader(4).reader)).toBeUndefined();
    const gone = createReader(6);
    gone.leave();
    expect(join(tap.source, gone.reader)).toBeUndefined();
    expect(tap.opened).toHaveLength(1);
  });

  test.each([
    ['as many frames as it keeps', 64, 1, 5],
    ['one frame more', 65, 1, 6],
    ['as many characters as it keeps', 4, 64 * 1024, 5],
    ['one frame of them more', 5, 64 * 1024, 6],
  ])('gives who comes back at once what it missed: %s', async (_name, count, chars, oldest) => {
    const { join } = createBroadcasts();
    const tap = createTap(5, chars);
    void join(tap.source, createReader(5).reader);
    const seqs = Array.from({ length: count }, (_, at) => 6 + at);
    await tap.push(...seqs);
    const [back, late] = [createReader(oldest), createReader(oldest - 1)];
    expect(join(tap.source, late.reader)).toBeUndefined();
    expect(join(tap.source, back.reader)).toBeInstanceOf(Promise);
    expect([back.got, late.got]).toEqual([seqs.filter((seq) => seq > oldest), []]);
    const full = createReader(oldest, oldest + 1);
    expect(await join(tap.source, full.reader)).toBe('full');
    expect([full.got, full.reader.seq]).toEqual([[oldest + 1], oldest + 1]);
  });

  test.each([
    ['what is there at once', 3, 1, [3]],
    ['as many frames as it keeps', 64, 1, [64]],
    ['one frame more', 65, 1, [64, 1]],
    ['as many characters as a batch may have', 2, 32 * 1024, [2]],
    ['one frame of them more', 3, 32 * 1024, [2, 1]],
    ['a frame that is larger', 2, 65 * 1024, [1, 1]],
  ])('gives together, and to all the same array: %s', async (_name, count, chars, sizes) => {
    const { join } = createBroadcasts();
    const tap = createTap(5, chars);
    const [one, other, ahead] = [createReader(5), createReader(5), createReader(6)];
    for (const { reader } of [one, other, ahead]) void join(tap.source, reader);
    await tap.push(...Array.from({ length: count }, (_, at) => 6 + at));
    expect(one.batches.map(({ length }) => length)).toEqual(sizes);
    for (const [at, batch] of one.batches.entries()) expect(other.batches[at]).toBe(batch);
    expect([one.got, ahead.got]).toEqual([other.got, one.got.slice(1)]);
  });

  test('lets go who takes no more, and goes on with the others', async () => {
    const { join } = createBroadcasts();
    const tap = createTap(5);
    const [slow, fast] = [createReader(5, 6), createReader(5)];
    const left = join(tap.source, slow.reader);
    void join(tap.source, fast.reader);
    await tap.push(6);
    await tap.push(7);
    expect(await left).toBe('full');
    expect([slow.got, slow.reader.seq, fast.got]).toEqual([[6], 6, [6, 7]]);
  });

  test('ends with its last reader, and begins anew with the next', async () => {
    const { join } = createBroadcasts();
    const tap = createTap(5);
    const only = createReader(5);
    const left = join(tap.source, only.reader);
    await tap.push(6);
    only.leave();
    expect(await left).toBe('full');
    expect(tap.opened[0]?.signal.aborted).toBe(true);
    void join(tap.source, createReader(6).reader);
    expect(tap.opened.map(({ since }) => since)).toEqual([5, 6]);
  });

  test.each([
    ['over', undefined],
    ['failed', new Error('damaged')],
  ])('tells all that it is %s', async (how, error) => {
    const { join } = createBroadcasts();
    const tap = createTap(5);
    const left = [createReader(5), createReader(5)].map(({ reader }) => join(tap.source, reader));
    await tap.push(6);
    tap.end(error);
    expect(await Promise.all(left)).toEqual([how, how]);
  });
});

describe('through the server', () => {
  const path = '/api/v1/sessions/a/events?follow=true';
  let rig: Rig;
  let sockets: Socket[];
  beforeEach(async () => {
    sockets = [];
    rig = await openRig();
    await rig.client.createSession({ name: 'a' });
  });
  afterEach(async () => {
    for (const socket of sockets) socket.destroy();
    await rig.close();
  });

  const seqsOf = (text: string): number[] =>
    createSseParser()
      .push(text)
      .map(({ id }) => Number(id));
  const upTo = (count: number): number[] => Array.from({ length: count }, (_, at) => at + 1);

  async function ask(...heads: readonly string[]): Promise<string> {
    const socket = connect(rig.socketPath).setEncoding('utf8');
    sockets.push(socket);
    socket.write(heads.map((head) => `${head}\r\nhost: localhost\r\n\r\n`).join(''));
    let text = '';
    for await (const chunk of socket) {
      text += chunk;
      if (text.includes('id: 3\n')) return text;
    }
    return text;
  }

  /** Its followers come and go as clients catch up. */
  async function followers(count: number): Promise<void> {
    while (rig.supervisor.followerCount !== count) await new Promise(setImmediate);
  }

  test('many live clients are one follower of the session', async () => {
    const streams = await Promise.all(Array.from({ length: 20 }, () => open(rig, { path })));
    await followers(1);
    const texts = streams.map((stream) => readUntil(stream, 'id: 40\n'));
    for (let n = 2; n <= 40; n += 1) rig.supervisor.append('a', 'turn.started', { n });
    for (const text of await Promise.all(texts)) {
      expect(seqsOf(`${text}\n\n`)).toEqual(upTo(40));
    }
    expect(rig.supervisor.followerCount).toBe(1);
    for (const stream of streams) stream.destroy();
    await rig.supervisor.unfollowed();
  });

  test('a client of HTTP/1.0 is sent no chunks, one of 1.1 is', async () => {
    rig.supervisor.append('a', 'turn.started', {});
    const asked = [ask(`GET ${path} HTTP/1.0`), ask(`GET ${path} HTTP/1.1`)];
    await followers(1);
    rig.supervisor.append('a', 'turn.started', {});
    const [old = '', today = ''] = await Promise.all(asked);
    expect(old).toContain('\r\n\r\nretry: 1000\n\nid: 1\n');
    expect(old).not.toContain('transfer-encoding');
    expect(today).toContain('\r\n\r\nd\r\nretry: 1000\n\n\r\n');
  });

  test('an answer that waits for the one before it comes whole, and behind it', async () => {
    const ended = `/api/v1/sessions/b/events?follow=true`;
    await rig.client.createSession({ name: 'b' });
    const both = ask(`GET ${ended} HTTP/1.1`, `GET ${path} HTTP/1.1`);
    rig.supervisor.append('a', 'turn.started', {});
    rig.supervisor.append('a', 'turn.started', {});
    await followers(2);
    await rig.client.deleteSession('b');
    const [first = '', second = ''] = (await both).split('HTTP/1.1 200').slice(1);
    expect(first).toMatch(/\r\n0\r\n\r\n$/);
    expect([...second.matchAll(/^id: (\d)/gm)].map(([, id]) => id)).toEqual(['1', '2', '3']);
  });

  test('one that stops reading while it is live gets the rest later, each once', async () => {
    const COUNT = 200;
    const [slow, fast] = await Promise.all([open(rig, { path }), open(rig, { path })]);
    const all = readUntil(fast, `id: ${COUNT}\n`);
    const text = 'x'.repeat(20_000);
    for (let n = 2; n <= COUNT; n += 1) {
      rig.supervisor.append('a', 'tool.output', { text });
      await new Promise(setImmediate);
    }
    expect(seqsOf(`${await all}\n\n`)).toEqual(upTo(COUNT));
    expect(seqsOf(`${await readUntil(slow, `id: ${COUNT}\n`)}\n\n`)).toEqual(upTo(COUNT));
    slow.destroy();
    fast.destroy();
  });
});
