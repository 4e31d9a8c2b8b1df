/** How often one caller may ask, and how long it may take. */
import { connect } from 'node:net';
import { afterEach, describe, expect, test } from '@jest/globals';
import { createRates, toRateKey } from '../../api/rates.ts';
import { createSteppedClock } from '../supervisor/stepped-clock.ts';
import { ask, openRig, parseProblem, type Rig, tokens } from './harness.ts';

let rig: Rig | undefined;
afterEach(async () => {
  await rig?.close();
  rig = undefined;
});

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

async function openLimited(perSec: number) {
  const clock = createSteppedClock();
  rig = await openRig({ clock, requestsPerSec: () => perSec });
  const { port } = await rig.api.listenTcp({ host: '127.0.0.1', port: 0 });
  const get = (headers = {}, path = '/api/v1/status') => ask({ port }, { path, headers });
  const statuses = async (count: number, headers = {}, path?: string) => {
    const all: number[] = [];
    for (let sent = 0; sent < count; sent += 1) all.push((await get(headers, path)).status);
    return all;
  };
  return { clock, get, statuses };
}

describe('[config:api.requests_per_sec] a caller over TCP', () => {
  test('has a burst of two seconds, then its rate; Retry-After says when', async () => {
    const { clock, get, statuses } = await openLimited(2);
    expect(await statuses(5, bearer(tokens.read))).toEqual([200, 200, 200, 200, 429]);
    const refused = await get(bearer(tokens.read));
    expect(refused.headers['retry-after']).toBe('1');
    expect(parseProblem(refused)).toMatchObject({
      code: 'RATE_LIMITED',
      data: { retry_after_secs: 0.5, limit_per_sec: 2 },
    });
    clock.advance(500);
    expect(await statuses(2, bearer(tokens.read))).toEqual([200, 429]);
  });

  test('does not use up what another may', async () => {
    const { statuses } = await openLimited(1);
    expect(await statuses(3, bearer(tokens.read))).toEqual([200, 200, 429]);
    expect(await statuses(3, bearer('wrong'))).toEqual([401, 401, 429]);
    expect(await statuses(2, bearer(tokens.admin))).toEqual([200, 200]);
    expect(await statuses(1, {}, '/healthz')).toEqual([429]);
  });

  test('who tries paths that are not there is counted by address', async () => {
    const { statuses } = await openLimited(1);
    expect(await statuses(3, {}, '/nope')).toEqual([404, 404, 429]);
    expect(await statuses(1, bearer(tokens.read))).toEqual([200]);
  });

  test('is told in the shape of the openai api at its endpoints', async () => {
    const { get, statuses } = await openLimited(1);
    await statuses(2, bearer(tokens.operate));
    const answer = await get(bearer(tokens.operate), '/v1/models');
    expect([answer.status, JSON.parse(answer.text).error.code]).toEqual([429, 'rate_limited']);
  });

  test('over the unix socket is its owner: no limit', async () => {
    const { statuses } = await openLimited(1);
    expect(await statuses(1)).toEqual([401]);
    for (let sent = 0; sent < 5; sent += 1) {
      expect((await ask(rig as Rig, { path: '/api/v1/status' })).status).toBe(200);
    }
  });
});

describe('the buckets', () => {
  test('are bounded: the caller that was quiet longest is forgotten', () => {
    const rates = createRates(createSteppedClock(), () => 1, 2);
    for (const key of ['a', 'b', 'a', 'c']) rates.take(key);
    expect(rates.count()).toBe(2);
    expect(() => rates.take('a')).toThrow(/more than 1 requests/);
  });

  test('a refused request does not push the moment further away', () => {
    const clock = createSteppedClock();
    const rates = createRates(clock, () => 1);
    for (let sent = 0; sent < 2; sent += 1) rates.take('a');
    for (let sent = 0; sent < 5; sent += 1) expect(() => rates.take('a')).toThrow();
    clock.advance(1000);
    expect(() => rates.take('a')).not.toThrow();
  });

  test.each([
    ['192.0.2.7', '192.0.2.7'],
    ['::ffff:192.0.2.7', '192.0.2.7'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
  ])('of %s is that of %s', (address, key) => {
    expect(toRateKey(address)).toBe(key);
  });
});

describe('a client that is too slow', () => {
  const timeouts = { headersMs: 150, requestMs: 300, idleMs: 100, checkMs: 25 };

  /** Sends part of a request, and all that comes back until the connection is closed. */
  async function dribble(text: string): Promise<string> {
    rig = await openRig({ timeouts });
    const { port } = await rig.api.listenTcp({ host: '127.0.0.1', port: 0 });
    const socket = connect(port, '127.0.0.1');
    socket.write(text);
    let answer = '';
    for await (const chunk of socket) answer += String(chunk);
    return answer;
  }

  test('with its headers gets 408, and its connection is closed', async () => {
    const answer = await dribble('GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ');
    expect(answer).toContain('HTTP/1.1 408 Request Timeout');
    expect(answer).toContain('application/problem+json');
  });

  test('with its body, too', async () => {
    const answer = await dribble(
      'POST /api/v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n' +
        `Authorization: Bearer ${tokens.operate}\r\nContent-Length: 100\r\n\r\n{"name":`,
    );
    expect(answer).toContain('HTTP/1.1 408 Request Timeout');
    expect(rig?.supervisor.calls).toEqual([]);
  });

  test('with its next request is cut off without an answer', async () => {
    const answer = await dribble('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n');
    expect([answer.slice(0, 15), answer.slice(-15)]).toEqual([
      'HTTP/1.1 200 OK',
      '{"status":"ok"}',
    ]);
  });
});
