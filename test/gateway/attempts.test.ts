/** One request per attempt, whoever asks how often; the spool before the notification; cancel;
 *  what is left when the supervisor goes. */
import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { encodeRecord, readAppendLog } from '../../base/append-log.ts';
import type { ModelDelta } from '../../protocol/gateway-methods.ts';
import {
  chatFinish,
  chatText,
  EFFECT,
  type Linked,
  linkGateway,
  type ScriptedServer,
  SESSION,
  sendEvents,
  startScriptedServer,
} from './harness.ts';

let server: ScriptedServer;
let linked: Linked;
/** The response in hand, for the test to go on with. */
let response: Promise<ServerResponse>;

beforeEach(async () => {
  let arrive: (value: ServerResponse) => void = () => undefined;
  response = new Promise((resolve) => {
    arrive = resolve;
  });
  server = await startScriptedServer((value) => arrive(value));
  linked = await linkGateway({ settings: { baseUrl: server.url, fallbacks: ['second'] } });
});

afterEach(async () => {
  linked.close();
  await server.close();
});

function nextDelta(also: (delta: ModelDelta) => void = () => undefined): Promise<ModelDelta> {
  return new Promise((resolve) => {
    linked.onDelta = (delta) => {
      also(delta);
      resolve(delta);
    };
  });
}

async function finish(): Promise<void> {
  const open = await response;
  sendEvents(open, chatText(' end'), chatFinish('stop'), '[DONE]');
  open.end();
}

describe('spool', () => {
  test('holds each delta before it is reported, at the offset that is reported', async () => {
    const offsets: (readonly [number, number])[] = [];
    linked.onDelta = (delta) => {
      const { records } = readAppendLog(linked.spoolPath());
      const found = records.findIndex(({ offset }) => offset === delta.offset);
      expect(records[found]?.value).toEqual({ kind: 'delta', delta: 'text', text: delta.text });
      offsets.push([delta.offset, found]);
    };
    const outcome = linked.generate();
    const heard = nextDelta(linked.onDelta);
    sendEvents(await response, chatText('one'));
    await heard;
    await finish();
    expect(await outcome).toMatchObject({ kind: 'completed', message: { text: 'one end' } });
    expect(offsets).toHaveLength(2);
    expect(linked.readSpool().at(-1)).toEqual({ kind: 'end', outcome: await outcome });
  });

  test('is made for its owner only', async () => {
    const outcome = linked.generate();
    await finish();
    await outcome;
    expect(statSync(linked.spoolPath()).mode & 0o777).toBe(0o600);
  });

  test('that cannot be made: nothing is asked, the failure says so', async () => {
    writeFileSync(linked.spoolPath().replace(/[^/]+$/, 'file'), '');
    const spoolPath = linked.spoolPath().replace(/[^/]+$/, 'file/below');
    const outcome = await linked.connection.request(
      'model/generate',
      {
        ...{ session: SESSION, effect: EFFECT, attempt: 1, spoolPath, model: 'm' },
        ...{ messages: [], tools: [], parallelToolCalls: true },
      },
      { timeoutMs: 2_000 },
    );
    expect(outcome).toMatchObject({ kind: 'failed', code: 'STORE_DEGRADED', retry_in_ms: 75 });
    expect(server.seen).toHaveLength(0);
  });
});

describe('the same attempt asked twice', () => {
  test('while it runs: one request, one answer', async () => {
    const first = linked.generate();
    await response;
    const second = linked.generate();
    // Answered behind it: the second one was heard while the first one ran.
    await linked.connection.request('gateway/ping', {}, { timeoutMs: 10_000 });
    await finish();
    expect(await second).toEqual(await first);
    expect(server.seen).toHaveLength(1);
  });

  test('after its end: the answer of the spool', async () => {
    const first = linked.generate();
    await finish();
    expect(await linked.generate()).toEqual(await first);
    expect(server.seen).toHaveLength(1);
  });

  test('after the gateway died in it: lost, to be asked anew under another number', async () => {
    writeFileSync(
      linked.spoolPath(),
      `${encodeRecord({ kind: 'delta', delta: 'text', text: 'half' })}torn`,
    );
    const before = readFileSync(linked.spoolPath());
    const outcome = await linked.generate();
    expect(outcome).toMatchObject({ kind: 'failed', code: 'GATEWAY_LOST', retry_in_ms: 0 });
    expect(server.seen).toHaveLength(0);
    expect(readFileSync(linked.spoolPath())).toEqual(before);
  });
});

describe('cancel', () => {
  test('keeps what was said and closes the request', async () => {
    const outcome = linked.generate();
    const open = await response;
    const closed = new Promise((resolve) => open.once('close', resolve));
    const heard = nextDelta();
    // A call whose arguments may go on is none.
    const half = {
      index: 0,
      id: 'a',
      function: { name: 'shell', arguments: '{"command":"rm x"}' },
    };
    const choices = [{ index: 0, delta: { tool_calls: [half] } }];
    sendEvents(open, { model: 'test-model-1', choices }, chatText('half an ans'));
    await heard;
    await linked.connection.notify('model/cancel', { session: SESSION, effect: EFFECT });
    expect(await outcome).toMatchObject({
      kind: 'completed',
      finish_reason: 'cancelled',
      message: { text: 'half an ans', tool_calls: [] },
      usage: { input_tokens: 0, output_tokens: 0 },
    });
    await closed;
    expect(linked.readSpool().at(-1)).toEqual({ kind: 'end', outcome: await outcome });
  });

  test('before the first byte, and of what does not run', async () => {
    await linked.connection.notify('model/cancel', { session: SESSION, effect: EFFECT });
    const outcome = linked.generate();
    await response;
    await linked.connection.notify('model/cancel', { session: SESSION, effect: EFFECT });
    expect(await outcome).toMatchObject({ finish_reason: 'cancelled', message: { text: '' } });
  });
});

describe('the supervisor goes', () => {
  test('what runs is finished and spooled; nothing new is taken', async () => {
    const outcome = linked.generate();
    outcome.catch(() => undefined);
    await response;
    linked.connection.close();
    await expect(outcome).rejects.toMatchObject({ code: 'PEER_CLOSED' });
    expect(await linked.gateway.closed).toEqual({ kind: 'eof' });
    const drained = linked.gateway.drain();
    await finish();
    await drained;
    expect(linked.readSpool().at(-1)).toMatchObject({
      kind: 'end',
      outcome: { kind: 'completed', message: { text: ' end' } },
    });
  });

  test('a gateway that drains refuses what is new and ends when nothing runs', async () => {
    const drained = linked.gateway.drain();
    await expect(linked.generate()).rejects.toMatchObject({ code: 'SHUTTING_DOWN' });
    await drained;
  });
});

test('the last retry of a model leads to the fallback', async () => {
  const outcome = linked.generate({ attempt: 3 });
  (await response).writeHead(500).end();
  expect(await outcome).toMatchObject({ retry_in_ms: 75, next_model: 'second' });
  rmSync(linked.spoolPath(3));
});

test('before initialize there is nobody to ask', async () => {
  const bare = await linkGateway({ initialize: false });
  await expect(bare.generate()).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
  const pong = await bare.connection.request('gateway/ping', {}, { timeoutMs: 1_000 });
  expect(pong).toEqual({ running: 0 });
  bare.close();
});
