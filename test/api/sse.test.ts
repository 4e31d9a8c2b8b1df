/** What a client that does not read costs the process that writes to it. */
import { createServer, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { createBroadcasts } from '../../api/broadcast.ts';
import type { StreamFrame } from '../../api/route.ts';
import { writeEventStream } from '../../api/sse.ts';
import { realClock } from '../../base/clock.ts';

const FRAME_CHARS = 1000;
/** More than the kernel's buffers of a connection take. */
const COUNT = 20_000;
const FIRST = 1;

let server: Server;
let client: Socket;
let response: ServerResponse;
let written: number;
let leaver: AbortController;

async function* follow(since: number): AsyncGenerator<StreamFrame> {
  for (let seq = since + 1; seq <= COUNT; seq += 1) {
    written = Math.max(written, seq);
    yield { id: String(seq), data: 'x'.repeat(FRAME_CHARS) };
    // As tokens come: each in a turn of its own.
    await new Promise((resolve) => setImmediate(resolve));
  }
}

beforeEach(async () => {
  written = 0;
  leaver = new AbortController();
  const broadcasts = createBroadcasts();
  server = createServer((_request, answer) => {
    response = answer;
    const stream = { response, headers: {}, clock: realClock, signal: leaver.signal, broadcasts };
    const open = async (since: number) => follow(since);
    const live = { session: 's', since: FIRST, lastSeq: FIRST, open };
    void writeEventStream(stream, { frames: follow(FIRST), live }, String);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  client = connect((server.address() as AddressInfo).port);
  client.write('GET / HTTP/1.1\r\nhost: localhost\r\n\r\n');
});

afterEach(async () => {
  leaver.abort();
  client.destroy();
  await new Promise((resolve) => server.close(resolve));
});

test('a live client that reads nothing holds one frame, and has all when it reads', async () => {
  client.pause();
  let before = -1;
  // Until nothing more is pulled for it.
  while (written !== before || written === 0) {
    before = written;
    for (let turn = 0; turn < 100; turn += 1) await new Promise(setImmediate);
  }
  expect(written).toBeLessThan(COUNT);
  expect(response.socket?.writableLength).toBeGreaterThan(0);
  expect(response.socket?.writableLength).toBeLessThan(2 * FRAME_CHARS);
  let text = '';
  for await (const chunk of client) {
    text = (text + String(chunk)).slice(-2 * FRAME_CHARS);
    if (text.includes(`id: ${COUNT}\n`)) break;
  }
  expect(written).toBe(COUNT);
});
