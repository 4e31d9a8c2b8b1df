/** Many readers of one session through the real door, bus and journal: some lose their connection
 *  again and again, some stand still; all end with the same history. The figures of a thousand are
 *  those of `npm run bench -- sse`. */
import { createHash } from 'node:crypto';
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { createApi } from '../../api/server.ts';
import { realClock } from '../../base/clock.ts';
import { silentLogger } from '../../base/logger.ts';
import { createSeededRandom, realRandom } from '../../base/random.ts';
import { noTokens } from '../api/no-tokens.ts';
import { createHouse, demolish } from './house.ts';

afterEach(demolish);

class Reader {
  seq = 0;
  connections = 0;
  readonly #hash = createHash('sha256');
  readonly #options: { socketPath: string; path: string; isSlow: boolean };
  #outgoing: ClientRequest | undefined;
  #stream: IncomingMessage | undefined;
  #waiting: { seq: number; resolve: () => void } | undefined;

  constructor(options: { socketPath: string; path: string; isSlow: boolean }) {
    this.#options = options;
    this.#connect();
  }

  reached(seq: number): Promise<void> {
    if (this.seq >= seq) return Promise.resolve();
    return new Promise((resolve) => {
      this.#waiting = { seq, resolve };
    });
  }

  lose(): void {
    this.#outgoing?.destroy();
  }

  catchUp(seq: number): Promise<void> {
    this.#stream?.resume();
    return this.reached(seq);
  }

  leave(): string {
    this.#outgoing?.removeAllListeners('close');
    this.lose();
    return this.#hash.digest('hex');
  }

  #connect(): void {
    this.connections += 1;
    const { socketPath, path } = this.#options;
    const headers = { accept: 'text/event-stream', 'last-event-id': `${this.seq}` };
    const outgoing = request({ socketPath, path, agent: false, headers });
    let rest = '';
    outgoing.on('error', () => undefined);
    outgoing.on('close', () => this.#connect());
    outgoing.on('response', (stream) => {
      this.#stream = stream;
      stream.on('error', () => undefined);
      stream.setEncoding('utf8').on('data', (chunk: string) => {
        const frames = (rest + chunk).split('\n\n');
        rest = frames.pop() ?? '';
        for (const frame of frames) this.#take(frame);
      });
    });
    outgoing.end();
    this.#outgoing = outgoing;
  }

  #take(frame: string): void {
    const id = /^id: (\d+)\n/.exec(frame)?.[1];
    if (id === undefined) return;
    expect(Number(id)).toBe(this.seq + 1);
    this.seq += 1;
    this.#hash.update(frame);
    if (this.#options.isSlow && this.#waiting === undefined) this.#stream?.pause();
    if (this.#waiting !== undefined && this.seq >= this.#waiting.seq) this.#waiting.resolve();
  }
}

test('[promise:client-dies] a crowd that comes, goes and stands still has one history', async () => {
  const house = await createHouse();
  const id = await house.create();
  const { supervisor } = house;
  const api = createApi({
    ...{ supervisor, tokens: noTokens, logger: silentLogger },
    ...{ clock: realClock, random: realRandom, version: '1' },
  });
  const socketPath = join(house.stateDir, 'crowd.sock');
  await api.listenSocket(socketPath);
  const path = `/api/v1/sessions/${id}/events`;
  const crowd = Array.from(
    { length: 60 },
    (_, index) => new Reader({ socketPath, path, isSlow: index < 5 }),
  );
  const random = createSeededRandom('crowd');
  const name = 'n'.repeat(60);
  for (let round = 0; round < 150; round += 1) {
    await supervisor.renameSession(id, `${name}${round}`);
    if (round % 10 === 0) crowd[5 + Math.floor(random.next() * 55)]?.lose();
  }
  const { last_seq: last } = await supervisor.getSession(id);
  await Promise.all(crowd.map((reader) => reader.catchUp(last)));
  expect(crowd.some(({ connections }) => connections > 1)).toBe(true);
  expect(new Set(crowd.map((reader) => reader.leave())).size).toBe(1);
  await api.close();
});
