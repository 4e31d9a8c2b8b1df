/** The OpenAI-compatible door with a client that we did not write: the openai SDK, unmodified,
 *  against a real supervisor, over kills. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, expect, test } from '@jest/globals';
import OpenAI from 'openai';
import type { EventEnvelope } from '../../protocol/events.ts';
import { type Bench, countType, createBench, type Running } from './harness.ts';
import { type ScriptedProvider, startScriptedProvider } from './scripted-provider.ts';

let bench: Bench;
let provider: ScriptedProvider | undefined;

afterEach(async () => {
  await bench.close();
  await provider?.close();
  provider = undefined;
});

const listen = '[api]\nlisten = "127.0.0.1:0"\n';

async function startScripted(more = ''): Promise<{ running: Running; url: string }> {
  provider = await startScriptedProvider();
  const model = `[agent]\nmodel = "scripted"\n[provider]\nbase_url = "${provider.url}"\n`;
  bench = createBench(`${listen}${model}${more}`);
  const running = await bench.start();
  return { running, url: urlOf(running) };
}

function urlOf({ ready }: Running): string {
  return /url (http:\S+)/.exec(ready)?.[1] ?? '';
}

function createSdk(url: string): OpenAI {
  const apiKey = readFileSync(join(bench.stateDir, 'api-token'), 'utf8').trim();
  return new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
}

const script = (...steps: readonly object[]): string => JSON.stringify(steps);

test('[endpoint:listModels] [endpoint:getModel] models are agents', async () => {
  bench = createBench(`${listen}[agents.reviewer]\ninstructions = "review"\n`);
  const sdk = createSdk(urlOf(await bench.start()));
  const { data } = await sdk.models.list();
  expect(data.map(({ id }) => id)).toEqual(['default', 'reviewer']);
  expect(await sdk.models.retrieve('reviewer')).toMatchObject({ id: 'reviewer', object: 'model' });
  await expect(sdk.models.retrieve('none')).rejects.toMatchObject({ code: 'model_not_found' });
});

test('[endpoint:createChatCompletion] a completion with a tool call, streamed, then gone on with', async () => {
  const { url } = await startScripted();
  const sdk = createSdk(url);
  const call = { tool: 'shell', arguments: { command: 'echo 42' } };
  const content = script(call, { say: 'It is 42.' });
  const stream = sdk.chat.completions.stream({
    model: 'default',
    messages: [{ role: 'user', content }],
    stream_options: { include_usage: true },
  });
  const deltas: string[] = [];
  stream.on('content', (delta) => deltas.push(delta));
  const final = await stream.finalChatCompletion();
  expect(deltas.join('')).toBe('It is 42.');
  expect(final.choices[0]).toMatchObject({
    message: { content: 'It is 42.' },
    finish_reason: 'stop',
  });
  expect(final.usage?.total_tokens).toBe(30);
  const [session] = await bench.client.listSessions();
  const next = await sdk.chat.completions
    .create(
      { model: 'default', messages: [{ role: 'user', content: script({ say: 'again' }) }] },
      { headers: { 'X-Prx-Session': session?.id ?? '' } },
    )
    .withResponse();
  expect(next.data.choices[0]?.message.content).toBe('again');
  expect(next.response.headers.get('x-prx-session')).toBe(session?.id);
  expect(await bench.client.listSessions()).toHaveLength(1);
});

test('an Idempotency-Key makes one session and one turn of a request sent twice', async () => {
  const { url } = await startScripted();
  const sdk = createSdk(url);
  const ask = () =>
    sdk.chat.completions.create(
      { model: 'default', messages: [{ role: 'user', content: script({ say: 'once' }) }] },
      { headers: { 'Idempotency-Key': 'k1' } },
    );
  const [first, second] = [await ask(), await ask()];
  expect(second.id).toBe(first.id);
  expect(second.choices[0]?.message.content).toBe('once');
  expect(provider?.requests).toHaveLength(1);
});

test('[endpoint:createResponse] [endpoint:getResponse] a background response outlives the supervisor, and its stream goes on behind any event', async () => {
  const { running, url } = await startScripted();
  const input = script({ say: 'a b c d e f', holdAfter: 3 });
  const sdk = createSdk(url);
  const asked = await sdk.responses.create({ model: 'default', input, background: true });
  expect(asked.status).toBe('in_progress');
  await provider?.held(1);
  const seen: unknown[] = [];
  let last = -1;
  for await (const event of await sdk.responses.retrieve(asked.id, { stream: true })) {
    seen.push(event);
    last = event.sequence_number;
    if (event.type === 'response.output_text.delta' && event.delta.includes('c')) break;
  }
  running.kill('SIGKILL');
  await running.exited;
  provider?.release();
  const again = createSdk(urlOf(await bench.start()));
  const rest = await again.responses.retrieve(asked.id, { stream: true, starting_after: last });
  for await (const event of rest) seen.push(event);
  const whole = await again.responses.retrieve(asked.id, { stream: true });
  const all: unknown[] = [];
  for await (const event of whole) all.push(event);
  expect(seen).toEqual(all);
  expect(await again.responses.retrieve(asked.id)).toMatchObject({
    status: 'completed',
    output_text: 'a b c d e f',
  });
  expect(provider?.requests).toHaveLength(1);
});

test('previous_response_id goes on with the newest answer, and with no other', async () => {
  const { url } = await startScripted();
  const sdk = createSdk(url);
  const first = await sdk.responses.create({ model: 'default', input: script({ say: 'one' }) });
  const previous_response_id = first.id;
  const input = script({ say: 'two' });
  const second = await sdk.responses.create({ input, previous_response_id });
  expect(second.output_text).toBe('two');
  await expect(sdk.responses.create({ input, previous_response_id })).rejects.toMatchObject({
    status: 400,
    param: 'previous_response_id',
  });
  // None that is there begins at its number, and none at all: the parameter is named (regression).
  const unknown = [previous_response_id.replace(/\d+$/, '1'), 'resp_0123456789abcdef_4', 'resp_x'];
  for (const id of unknown) {
    await expect(sdk.responses.create({ input, previous_response_id: id })).rejects.toMatchObject({
      status: 404,
      param: 'previous_response_id',
    });
  }
  expect(await bench.client.listSessions()).toHaveLength(1);
});

test('X-Prx-Session beside previous_response_id names the same session, or is refused', async () => {
  const { url } = await startScripted();
  const sdk = createSdk(url);
  const ask = (say: string, more: object, session: string) =>
    sdk.responses.create(
      { model: 'default', input: script({ say }), ...more },
      session === '' ? {} : { headers: { 'X-Prx-Session': session } },
    );
  const first = await ask('one', {}, '');
  const [session] = await bench.client.listSessions();
  const other = await bench.client.createSession({});
  const more = { previous_response_id: first.id };
  await expect(ask('two', more, other.view.id)).rejects.toMatchObject({
    status: 400,
    param: 'previous_response_id',
  });
  await expect(ask('two', more, 'none')).rejects.toMatchObject({ code: 'session_not_found' });
  expect((await ask('two', more, session?.id ?? '')).output_text).toBe('two');
});

test('an approval is asked for as that API does, and answered by the next response', async () => {
  const { url } = await startScripted('[security.tool_policy]\ndefault = "supervised"\n');
  const sdk = createSdk(url);
  const call = { tool: 'shell', arguments: { command: 'echo approved' } };
  const input = script(call, { say: 'done' });
  const asked = await sdk.responses.create({ model: 'default', input });
  const request = asked.output.find(({ type }) => type === 'mcp_approval_request');
  expect(request).toMatchObject({ name: 'shell', arguments: '{"command":"echo approved"}' });
  const answered = await sdk.responses.create({
    previous_response_id: asked.id,
    input: [
      { type: 'mcp_approval_response', approval_request_id: request?.id ?? '', approve: true },
    ],
  });
  expect(answered).toMatchObject({
    status: 'completed',
    output: [
      { type: 'mcp_call', name: 'shell', status: 'completed', output: 'approved\n' },
      { type: 'message', content: [{ text: 'done' }] },
    ],
  });
  expect(await sdk.responses.retrieve(answered.id)).toMatchObject({ output_text: 'done' });
});

/** A response that asks for the first of these calls, of one step; all of them wait by then. */
async function askForCalls(sdk: OpenAI, words: readonly string[]) {
  const tools = words.map((word) => ({ tool: 'shell', arguments: { command: `echo ${word}` } }));
  const input = script({ tools }, { say: 'done' });
  const asked = await sdk.responses.create({ model: 'default', input });
  const [session] = await bench.client.listSessions();
  let count = 0;
  await bench.follow(session?.id ?? '', ({ type }) => {
    if (type === 'approval.requested') count += 1;
    return count === words.length;
  });
  return asked;
}

const answer = (sdk: OpenAI, previous: string, request: string, approve = true) =>
  sdk.responses.create({
    previous_response_id: previous,
    input: [{ type: 'mcp_approval_response', approval_request_id: request, approve }],
  });

test('calls of one step are approved one after the other (regression)', async () => {
  const { url } = await startScripted('[security.tool_policy]\ndefault = "supervised"\n');
  const sdk = createSdk(url);
  let asked = await askForCalls(sdk, ['one', 'two', 'three']);
  const shown: string[] = [];
  for (const isApproved of [true, false, true]) {
    const id = asked.output.find(({ type }) => type === 'mcp_approval_request')?.id ?? '';
    asked = await answer(sdk, asked.id, id, isApproved);
    const told = asked.output.map((item) => ('status' in item ? item.status : item.type));
    shown.push(`${id}: ${told.join(' ')}`);
    expect(await sdk.responses.retrieve(asked.id)).toMatchObject({ output: asked.output });
  }
  expect(shown).toEqual([
    'mcpr_1.1.1: completed mcp_approval_request',
    'mcpr_1.1.2: failed mcp_approval_request',
    'mcpr_1.1.3: completed completed',
  ]);
  expect(asked.output_text).toBe('done');
});

test('an answer to a later call shows what it waits for (regression)', async () => {
  const { url } = await startScripted('[security.tool_policy]\ndefault = "supervised"\n');
  const sdk = createSdk(url);
  const first = await askForCalls(sdk, ['one', 'two']);
  const second = await answer(sdk, first.id, 'mcpr_1.1.2');
  expect(second.output.map(({ id }) => id)).toEqual([expect.any(String), 'mcpr_1.1.1']);
  expect((await answer(sdk, second.id, 'mcpr_1.1.1')).output_text).toBe('done');
});

test('a response is cancelled at once, before its turn has begun', async () => {
  const { url } = await startScripted();
  const sdk = createSdk(url);
  const input = script({ say: 'a b c', holdAfter: 2 });
  const { id } = await sdk.responses.create({ model: 'default', input, background: true });
  expect((await sdk.responses.cancel(id)).status).toBe('cancelled');
  expect((await sdk.responses.retrieve(id)).status).toBe('cancelled');
});

test('[endpoint:cancelResponse] cancel interrupts; a client that leaves does so only when it says so', async () => {
  const { url } = await startScripted();
  const sdk = createSdk(url);
  const input = script({ say: 'a b c', holdAfter: 2 });
  const held = await sdk.responses.create({ model: 'default', input, background: true });
  await provider?.held(1);
  const cancelled = await sdk.responses.cancel(held.id).asResponse();
  const [session] = await bench.client.listSessions();
  expect(cancelled.headers.get('x-prx-session')).toBe(session?.id);
  await bench.follow(session?.id ?? '', ({ type }) => type === 'turn.completed');
  expect((await sdk.responses.retrieve(held.id)).status).toBe('cancelled');

  const leave = new AbortController();
  const headers = { 'X-Prx-Session': session?.id ?? '', 'X-Prx-On-Disconnect': 'cancel' };
  const left = sdk.chat.completions.create(
    { model: 'default', messages: [{ role: 'user', content: input }] },
    { headers, signal: leave.signal },
  );
  await provider?.held(2);
  leave.abort();
  await expect(left).rejects.toThrow('aborted');
  const events = await bench.follow(
    session?.id ?? '',
    ({ type, turn }) => type === 'turn.completed' && turn === 2,
  );
  expect(events.at(-1)?.data).toMatchObject({ outcome: 'interrupted' });
  expect(countType(events, 'interrupt.accepted')).toBe(2);
});

test('a client that leaves before its turn has begun cancels that turn, and no other', async () => {
  const { url } = await startScripted();
  const sdk = createSdk(url);
  const input = script({ say: 'a b c', holdAfter: 1 });
  const other = await sdk.responses.create({ model: 'default', input, background: true });
  await provider?.held(1);
  const [session] = await bench.client.listSessions();
  const headers = { 'X-Prx-Session': session?.id ?? '', 'X-Prx-On-Disconnect': 'cancel' };
  const long = script({ say: 'word '.repeat(500), everyMs: 20 });
  const request = { model: 'default', input: long, stream: true } as const;
  for await (const event of await sdk.responses.create(request, { headers })) {
    expect(event.type).toBe('response.created');
    break;
  }
  await bench.client.sendInput(session?.id ?? '', { text: script({ say: 'last' }) });
  provider?.release();
  const isLast = ({ type, turn }: EventEnvelope) => type === 'turn.completed' && turn === 3;
  const events = await bench.follow(session?.id ?? '', isLast);
  const ends = events.filter(({ type }) => type === 'turn.completed').map(({ data }) => data);
  expect(ends).toMatchObject([
    { outcome: 'completed' },
    { outcome: 'interrupted' },
    { outcome: 'completed' },
  ]);
  expect((await sdk.responses.retrieve(other.id)).output_text).toBe('a b c');
});

test('an answer that ended at an approval is not left: its turn waits, and goes on', async () => {
  const { url } = await startScripted(`[security.tool_policy.tools]\nshell = "supervised"`);
  const sdk = createSdk(url);
  const headers = { 'X-Prx-On-Disconnect': 'cancel' };
  const call = { tool: 'shell', arguments: { command: 'echo ran' } };
  const request = { model: 'default', input: script(call, { say: 'done' }) };
  const { id, output } = await sdk.responses.create(request, { headers });
  const asked = output.find(({ type }) => type === 'mcp_approval_request');
  const answer = { type: 'mcp_approval_response', approval_request_id: asked?.id ?? '' } as const;
  const next = {
    model: 'default',
    previous_response_id: id,
    input: [{ ...answer, approve: true }],
  };
  expect((await sdk.responses.create(next)).output_text).toBe('done');
});

test('errors have the shape that its clients read, also before a route is found', async () => {
  bench = createBench(listen);
  const url = urlOf(await bench.start());
  const stranger = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'wrong', maxRetries: 0 });
  await expect(stranger.models.list()).rejects.toMatchObject({
    status: 401,
    type: 'authentication_error',
  });
  const sdk = createSdk(url);
  await expect(sdk.embeddings.create({ model: 'x', input: 'y' })).rejects.toMatchObject({
    status: 404,
    type: 'invalid_request_error',
  });
});

test('the example of the docs runs as it stands', async () => {
  bench = createBench(listen);
  const url = urlOf(await bench.start());
  const file = join(import.meta.dirname, '..', '..', 'examples', 'openai-sdk.mjs');
  const { stdout } = await promisify(execFile)(process.execPath, [file], {
    env: {
      OPENAI_BASE_URL: `${url}/v1`,
      OPENAI_API_KEY: readFileSync(join(bench.stateDir, 'api-token'), 'utf8').trim(),
    },
  });
  expect(stdout).toContain('Linux');
  expect(stdout).toContain('word5');
});
