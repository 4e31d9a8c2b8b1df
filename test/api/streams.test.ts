/** Server-sent events: replay, then live; where a client goes on; a slow reader; the end. */
import { readdirSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { createSseParser, type SseFrame } from '../../api/client/sse-parser.ts';
import { createStreams } from '../../api/streams.ts';
import { PrxError } from '../../base/errors.ts';
import { createSteppedClock, type SteppedClock } from '../supervisor/stepped-clock.ts';
import { ask, open, openRig, parseProblem, type Rig, readUntil } from './harness.ts';

const path = '/api/v1/sessions/a/events';
const sse = { accept: 'text/event-stream' };

let clock: SteppedClock;
let rig: Rig;
beforeEach(async () => {
  clock = createSteppedClock();
  rig = await openRig({ clock });
  await rig.client.createSession({ name: 'a' });
  for (let n = 2; n <= 5; n += 1) rig.supervisor.append('a', 'turn.started', { n });
});
afterEach(() => rig.close());

const idsOf = (text: string): string[] =>
  createSseParser()
    .push(text)
    .map(({ id }) => id ?? '');

describe('a stream of a session', () => {
  test('replays, then goes on live, and frees its place when the client leaves', async () => {
    const stream = await open(rig, { path, headers: sse });
    expect(stream.headers).toMatchObject({
      'content-type': 'text/event-stream; charset=utf-8',
      'x-prx-last-seq': '5',
      'x-request-id': expect.any(String),
    });
    const text = readUntil(stream, 'id: 6\n');
    rig.supervisor.append('a', 'model.delta', { text: 'line\nnext' });
    const [first, ...rest] = createSseParser().push(`${await text}\n\n`);
    expect(first).toMatchObject({ id: '1', event: 'session.created' });
    expect(rest.map(({ id }) => id)).toEqual(['2', '3', '4', '5', '6']);
    expect(JSON.parse(rest.at(-1)?.data ?? '')).toMatchObject({ seq: 6, type: 'model.delta' });
    stream.destroy();
    await rig.supervisor.unfollowed();
  });

  test.each([
    ['since', `${path}?follow=true&since=3`, {}, ['4', '5']],
    ['Last-Event-ID', path, { ...sse, 'last-event-id': '4' }, ['5']],
    ['both: the header wins', `${path}?since=1`, { ...sse, 'last-event-id': '3' }, ['4', '5']],
    ['an empty header', `${path}?since=4`, { ...sse, 'last-event-id': '' }, ['5']],
  ])('starts behind %s', async (_name, url, headers, ids) => {
    const stream = await open(rig, { path: url, headers });
    const text = await readUntil(stream, 'id: 5\n');
    expect(idsOf(`${text}\n\n`)).toEqual(ids);
    stream.destroy();
  });

  test('has only the types asked for', async () => {
    rig.supervisor.append('a', 'tool.requested', {});
    const url = `${path}?follow=true&types=session.created,tool.requested`;
    const stream = await open(rig, { path: url });
    expect(idsOf(`${await readUntil(stream, 'id: 6\n')}\n\n`)).toEqual(['1', '6']);
    stream.destroy();
  });

  test('is there for the system, which is no session that could be looked up', async () => {
    await rig.supervisor.createSession({ name: 'system' }, 'test');
    rig.supervisor.calls.length = 0;
    const url = '/api/v1/sessions/system/events?follow=true';
    const stream = await open(rig, { path: url });
    expect(stream.headers['x-prx-last-seq']).toBe('1');
    expect(idsOf(`${await readUntil(stream, 'id: 1\n')}\n\n`)).toEqual(['1']);
    expect(rig.supervisor.calls.filter((call) => call.startsWith('getSession'))).toEqual([]);
    stream.destroy();
  });

  test('is a page when follow is false, whatever is accepted', async () => {
    const answer = await ask(rig, { path: `${path}?follow=false`, headers: sse });
    expect(JSON.parse(answer.text)).toHaveLength(5);
  });

  test.each([
    ['a position in the future', '99', 409, 'CURSOR_SUPERSEDED', { epoch: 1, last_good_seq: 5 }],
    ['a removed position', '1', 410, 'CURSOR_GONE', { first_seq: 4 }],
  ])('refuses %s before it starts', async (_name, since, status, code, data) => {
    rig.supervisor.retainFrom('a', 4);
    const answer = await ask(rig, { path: `${path}?since=${since}`, headers: sse });
    expect(answer.status).toBe(status);
    expect(parseProblem(answer)).toMatchObject({ code, data, ...data });
  });

  test('refuses a Last-Event-ID that is no number', async () => {
    const answer = await ask(rig, { path, headers: { ...sse, 'last-event-id': 'x' } });
    expect(parseProblem(answer).detail).toMatch(/last-event-id/);
  });

  test('says that it lives, each 15 seconds', async () => {
    const stream = await open(rig, { path: `${path}?since=5`, headers: sse });
    clock.advance(15_000);
    expect(await readUntil(stream, ': ping\n\n')).toMatch(/^retry: 1000\n\n: ping\n\n$/);
    stream.destroy();
  });

  test('ends when the session is deleted', async () => {
    const stream = await open(rig, { path, headers: sse });
    await rig.client.deleteSession('a');
    expect(await readUntil(stream, 'never')).toContain('id: 5\n');
  });

  test('ends when the server closes, and no further one starts', async () => {
    const stream = await open(rig, { path, headers: sse });
    const [text] = await Promise.all([readUntil(stream, 'never'), rig.api.close()]);
    expect(text).toContain('id: 5\n');
    expect(rig.supervisor.followerCount).toBe(0);
  });

  test('tells what broke it', async () => {
    const stream = await open(rig, { path: '/api/v1/events', headers: sse });
    await readUntil(stream, 'id: c5\n').catch(() => undefined);
    stream.destroy();
    rig.supervisor.followEvents = async () => breakAfterOne();
    const broken = await open(rig, { path, headers: sse });
    const frames = createSseParser().push(await readUntil(broken, 'never'));
    expect(frames.map(({ event }) => event)).toEqual(['turn.started', 'problem']);
    expect(JSON.parse(frames[1]?.data ?? '')).toMatchObject({ code: 'STORE_CORRUPT' });
  });
});

async function* breakAfterOne() {
  const session = 'system' as const;
  yield { session, seq: 1, epoch: 1, time: '', type: 'turn.started', data: {} };
  throw new PrxError('STORE_CORRUPT', 'record 2 is damaged');
}

/** Lets everything that is ready happen: turns of the event loop, not time. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 300; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

describe('a slow reader', () => {
  const COUNT = 5000;
  const fill = (): void => {
    const text = 'x'.repeat(4096);
    for (let n = 0; n < COUNT; n += 1) rig.supervisor.append('a', 'tool.output', { text });
  };

  test('pulls no more than buffers of the system take, and later all of it (FAULTS 38)', async () => {
    fill();
    const stream = await open(rig, { path, headers: sse });
    await settle();
    // 20 MB wait in the journal; the kernel's buffers hold some hundred kilobytes of them.
    expect(rig.supervisor.pulledCount).toBeLessThan(COUNT / 4);
    clock.advance(60_000); // Heartbeats do not pile up either.
    const parser = createSseParser();
    const seqs: number[] = [];
    for await (const chunk of stream) {
      const frames: readonly SseFrame[] = parser.push(String(chunk));
      seqs.push(...frames.map(({ id }) => Number(id)));
      if (seqs.at(-1) === COUNT + 5) break;
    }
    expect(seqs).toEqual(Array.from({ length: COUNT + 5 }, (_, index) => index + 1));
  });

  test('that takes nothing for minutes is dropped (FAULTS 38)', async () => {
    fill();
    const stream = await open(rig, { path, headers: sse });
    await settle();
    clock.advance(300_000);
    await rig.supervisor.unfollowed();
    const drain = async (): Promise<void> => {
      for await (const _chunk of stream);
    };
    await expect(drain()).rejects.toMatchObject({ code: 'ECONNRESET' });
  });
});

describe('clients that die while they are attached', () => {
  const COUNT = 500;

  test('leave no descriptor, follower or place behind, five hundred times (FAULTS 65)', async () => {
    const countDescriptors = (): number => readdirSync('/proc/self/fd').length;
    const attachAndDie = async (): Promise<void> => {
      const stream = await open(rig, { path, headers: sse });
      // The socket goes as it does when its owner is killed: without a word.
      stream.socket.destroy();
      stream.on('error', () => undefined);
    };
    await attachAndDie();
    await rig.supervisor.unfollowed();
    await settle();
    const before = countDescriptors();
    for (let count = 0; count < COUNT; count += 10) {
      await Promise.all(Array.from({ length: 10 }, attachAndDie));
    }
    await rig.supervisor.unfollowed();
    await settle();
    expect(countDescriptors()).toBeLessThanOrEqual(before);
    expect(rig.supervisor.followerCount).toBe(0);
    // Its heartbeat went with each of them.
    expect(clock.waiting()).toBe(0);
    const last = await open(rig, { path, headers: sse });
    expect(await readUntil(last, 'id: 5\n')).toContain('id: 5');
    last.destroy();
  });
});

describe('the stream of all sessions', () => {
  const all = '/api/v1/events';

  test('has the cursor as id, from which a client goes on', async () => {
    await rig.client.createSession({ name: 'b' });
    const stream = await open(rig, { path: all, headers: sse });
    const text = await readUntil(stream, 'id: c6\n');
    expect(idsOf(`${text}\n\n`)).toEqual(['c1', 'c2', 'c3', 'c4', 'c5', 'c6']);
    stream.destroy();
    const headers = { ...sse, 'last-event-id': 'c4' };
    const again = await open(rig, { path: `${all}?cursor=c1`, headers });
    expect(idsOf(`${await readUntil(again, 'id: c6\n')}\n\n`)).toEqual(['c5', 'c6']);
    again.destroy();
  });

  test('refuses a cursor that is none, before it starts', async () => {
    const answer = await ask(rig, { path: `${all}?cursor=x`, headers: sse });
    expect([answer.status, parseProblem(answer).code]).toEqual([400, 'INVALID_REQUEST']);
  });

  test('is paged without follow', async () => {
    const page = await rig.client.readAllEvents({ cursor: 'c1', limit: 2 });
    expect([page.events.map(({ seq }) => seq), page.cursor]).toEqual([[2, 3], 'c3']);
  });
});

describe('the places for streams', () => {
  test('are bounded, and free again when released', () => {
    const streams = createStreams(2);
    const first = streams.take();
    streams.take();
    expect(() => streams.take()).toThrow(/the limit is 2/);
    first.release();
    first.release();
    expect([first.signal.aborted, streams.count()]).toEqual([true, 1]);
    streams.take();
    streams.endAll();
    expect(() => streams.take()).toThrow(/stopping/);
  });
});
