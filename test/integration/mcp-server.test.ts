/** `prx-supervisor mcp` as an MCP client sees it: the SDK's own client, which starts the real
 *  program before a real supervisor. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { Client } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import type { Bench, Running } from './harness.ts';
import type { ScriptedProvider } from './scripted-provider.ts';
import { createSupervisedBench } from './supervised.ts';

let provider: ScriptedProvider;
let bench: Bench;
let mcp: Client;
let running: Running;

beforeEach(async () => {
  ({ provider, bench } = await createSupervisedBench());
  running = await bench.start();
  mcp = new Client({ name: 'test', version: '1' });
  await mcp.connect(
    new StdioClientTransport({
      command: process.execPath,
      args: [join(bench.dir, 'dist/cli.js'), 'mcp'],
      env: { PRX_STATE_DIR: bench.stateDir, HOME: bench.dir },
    }),
  );
});

afterEach(async () => {
  await mcp.close();
  await bench.close();
  await provider.close();
});

async function call(name: string, args: Record<string, unknown> = {}) {
  const result = await mcp.callTool({ name, arguments: args });
  const text = result.content.map((part) => (part.type === 'text' ? part.text : '')).join('');
  return { text, isError: result.isError === true };
}

const script = (...steps: readonly object[]): string => JSON.stringify(steps);

test('[command:mcp] work is handed out, answered, and gone on with', async () => {
  const { tools } = await mcp.listTools();
  expect(tools.map(({ name }) => name)).toContain('prompt_session');
  const first = await call('prompt_session', { prompt: script({ say: 'first answer' }) });
  const id = /^session (s_[0-9a-f]+)/.exec(first.text)?.[1];
  expect(first).toEqual({
    text: expect.stringMatching(/idle, turn 1\n\nfirst answer$/),
    isError: false,
  });
  const second = await call('prompt_session', { session: id, prompt: script({ say: 'second' }) });
  expect(second.text).toMatch(/turn 2\n\nsecond$/);
  expect((await call('list_sessions')).text).toContain(`${id}: running`);
  expect((await call('wait_for_session', { session: id })).text).toMatch(/second$/);
  expect((await call('close_session', { session: id })).text).toContain('stopped');
});

test('an approval is seen and answered, and the work goes on', async () => {
  const tool = { tool: 'shell', arguments: { command: 'echo ran' } };
  const asked = await call('prompt_session', {
    prompt: script(tool, { say: 'done' }),
    wait_secs: 1,
  });
  expect(asked.text).toContain('it waits for an approval');
  const [session] = await bench.client.listSessions();
  expect((await call('list_approvals')).text).toContain('"echo ran"');
  const answer = { session: session?.id, call_id: '1.1.1', decision: 'approve' };
  expect((await call('answer_approval', answer)).text).toBe('approved');
  expect((await call('wait_for_session', { session: session?.id })).text).toMatch(/done$/);
});

test('the newest session comes first', async () => {
  const older = await bench.client.createSession({ name: 'older' });
  const newer = await bench.client.createSession({ name: 'newer' });
  const lines = (await call('list_sessions')).text.split('\n');
  expect(lines.map((line) => line.split(' ')[0])).toEqual([newer.view.id, older.view.id]);
});

test('a turn that failed is an error with its reason', async () => {
  const refused = await call('prompt_session', { prompt: script({ refuse: 'no such thing' }) });
  expect(refused).toEqual({
    text: expect.stringMatching(/failed: .*no such thing/),
    isError: true,
  });
});

test('a caller whose supervisor goes away knows the session that was made for it', async () => {
  const prompt = script({ say: 'a b', holdAfter: 1 });
  const asked = call('prompt_session', { prompt, wait_secs: 5 });
  await provider.held(1);
  const [session] = await bench.client.listSessions();
  running.kill('SIGKILL');
  await running.exited;
  expect(await asked).toEqual({
    text: expect.stringMatching(new RegExp(`^session ${session?.id}\\s+NOT_RUNNING`)),
    isError: true,
  });
});

test.each(['mcp', 'acp'])(
  '%s ends with a word about it when a message is too long to be read',
  async (door) => {
    const program = spawn(process.execPath, [join(bench.dir, 'dist/cli.js'), door], {
      env: { PRX_STATE_DIR: bench.stateDir, HOME: bench.dir },
    });
    let said = '';
    program.stderr.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
    // It goes while it is written to.
    program.stdin.on('error', () => undefined);
    program.stdin.write('x'.repeat(33 * 2 ** 20));
    const code = await new Promise((resolve) => program.once('close', resolve));
    expect([code, said]).toEqual([1, expect.stringContaining('FRAME_TOO_LARGE')]);
  },
);

test('what cannot be is a result that the model can read', async () => {
  expect(await call('get_session', { session: 's_0000000000000000' })).toEqual({
    text: expect.stringContaining('SESSION_NOT_FOUND'),
    isError: true,
  });
  const refused = await call('prompt_session', { prompt: 'x', workspace: '/etc' });
  expect(refused).toEqual({ text: expect.stringContaining('WORKSPACE_REFUSED'), isError: true });
});

test.each(['list_sessions', 'list_approvals', 'get_session'])(
  '%s refuses an argument that it does not know, by its name',
  async (name) => {
    const answer = await call(name, { session: 'a', state: 'running' });
    expect(answer).toEqual({ text: expect.stringMatching(/"state"/), isError: true });
  },
);
