/** A session of which retention removed the first events, through every door that shows a session
 *  from its start: each begins with what is left. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { client, methods, ndJsonStream } from '@agentclientprotocol/sdk';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Client } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import OpenAI from 'openai';
import { realClock } from '../../base/clock.ts';
import { toPrxError } from '../../base/errors.ts';
import { silentLogger } from '../../base/logger.ts';
import { openStore } from '../../store/index.ts';
import type { Bench, Running } from './harness.ts';
import type { ScriptedProvider } from './scripted-provider.ts';
import { createSupervisedBench } from './supervised.ts';
import { launchBrowser, withBrowser } from './web-page.ts';

/** Above the tokens from which a context is compacted, and the events that are trimmed at all. */
const WORDS = 'wordword '.repeat(250).trim();
const settings = `
  [api]
  listen = "127.0.0.1:0"
  [agent.loop]
  compaction_threshold_tokens = 1000
  compaction_strategy = "truncate"
`;

let provider: ScriptedProvider;
let bench: Bench;
let running: Running;
let id: string;
let firstSeq: number;
let program: ChildProcess | undefined;

beforeAll(async () => {
  ({ provider, bench } = await createSupervisedBench(settings));
  const before = await bench.start();
  ({ id } = (await bench.client.createSession({ workspace: bench.workspace })).view);
  for (let turn = 1; turn <= 3; turn += 1) await say({ say: WORDS, everyMs: 2 });
  await say({ say: 'an answer' });
  before.kill('SIGTERM');
  await before.exited;
  const files = { stateDir: bench.stateDir, clock: realClock, logger: silentLogger };
  const store = await openStore(files);
  expect(await store.trim(1)).toMatchObject({ sessions: 1 });
  await store.close();
  running = await bench.start();
  const refused = await bench.client.readEvents(id, { since: 0 }).catch(toPrxError);
  firstSeq = 'data' in refused ? Number(refused.data['first_seq']) : 0;
  expect(firstSeq).toBeGreaterThan(100);
});

afterAll(async () => {
  program?.kill('SIGKILL');
  await bench.close();
  await provider.close();
});

/** To the end of the turn. */
async function say(...steps: readonly object[]): Promise<void> {
  const { input_id: inputId } = await bench.client.sendInput(id, { text: JSON.stringify(steps) });
  await bench.follow(id, ({ type, data }) => {
    const { input_id: ended } = data as { input_id?: string };
    return type === 'turn.completed' && ended === inputId;
  });
}

const env = () => ({ PATH: process.env['PATH'], HOME: bench.dir, PRX_STATE_DIR: bench.stateDir });
const cli = () => join(bench.dir, 'dist/cli.js');
const token = (): string => readFileSync(join(bench.stateDir, 'api-token'), 'utf8').trim();
const url = (): string => /url (http:\S+)/.exec(running.ready)?.[1] ?? '';

test('[command:events] -f begins with the first event that is left (regression)', async () => {
  const until = new AbortController();
  const options = { env: env(), signal: until.signal };
  const tail = execFile(process.execPath, [cli(), 'events', id, '-f'], options);
  tail.on('error', () => undefined); // It is ended from here.
  let text = '';
  for await (const chunk of tail.stdout ?? []) {
    text += String(chunk);
    if (text.includes('\n')) break;
  }
  until.abort();
  expect(text).toContain(`"seq":${firstSeq},`);
});

test('[command:acp] an editor loads what is left (regression)', async () => {
  program = spawn(process.execPath, [cli(), 'acp'], { env: env(), stdio: 'pipe' });
  const { stdin, stdout } = program;
  if (stdin === null || stdout === null) throw new Error('its pipes are ours');
  const updates: unknown[] = [];
  const { agent } = client({ name: 'editor' })
    .onNotification(methods.client.session.update, ({ params }) => void updates.push(params))
    .connect(ndJsonStream(Writable.toWeb(stdin), Readable.toWeb(stdout)));
  await agent.request(methods.agent.initialize, { protocolVersion: 1 });
  const cwd = bench.workspace;
  await agent.request(methods.agent.session.load, { sessionId: id, cwd, mcpServers: [] });
  expect(JSON.stringify(updates)).toContain('an answer');
});

test('[command:mcp] the newest input is found, and waited for (regression)', async () => {
  const mcp = new Client({ name: 'test', version: '1' });
  const { PRX_STATE_DIR, HOME } = env();
  await mcp.connect(
    new StdioClientTransport({
      ...{ command: process.execPath, args: [cli(), 'mcp'], env: { PRX_STATE_DIR, HOME } },
    }),
  );
  const asked = { name: 'wait_for_session', arguments: { session: id } };
  const { content } = await mcp.callTool(asked);
  await mcp.close();
  expect(JSON.stringify(content)).toContain('an answer');
});

test('an approval is answered with the openai SDK, and its call shown (regression)', async () => {
  const sdk = new OpenAI({ baseURL: `${url()}/v1`, apiKey: token(), maxRetries: 0 });
  const call = { tool: 'shell', arguments: { command: 'echo ran' } };
  const input = JSON.stringify([call, { say: 'done' }]);
  const asked = await sdk.responses.create(
    { model: 'default', input },
    { headers: { 'X-Prx-Session': id } },
  );
  const request = asked.output.find((item) => item.type === 'mcp_approval_request');
  const answer = { approval_request_id: request?.id ?? '', approve: true };
  const done = await sdk.responses.create({
    model: 'default',
    previous_response_id: asked.id,
    input: [{ type: 'mcp_approval_response', ...answer }],
  });
  expect(done.output.find((item) => item.type === 'mcp_call')).toMatchObject({ name: 'shell' });
  expect(done.output_text).toBe('done');
});

withBrowser('the page (skipped without /usr/bin/chromium)', () => {
  test('shows what is left, and says how much is gone (regression)', async () => {
    const browser = await launchBrowser();
    try {
      const page = await browser.newPage();
      await page.goto(`${url()}/#token=${token()}`);
      await page.goto(`${url()}/#/sessions/${id}`);
      await page.locator('.said.text', { hasText: 'an answer' }).waitFor();
      await page.getByText(`The first ${firstSeq - 1} events were removed`).waitFor();
      expect(await page.locator('.banner').count()).toBe(0);
    } finally {
      await browser.close();
    }
  });
});
