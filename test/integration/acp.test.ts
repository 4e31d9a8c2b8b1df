/** `prx-supervisor acp` as an editor sees it: the SDK's own client on the pipes of the real program
 *  before a real supervisor. */
import { type ChildProcess, spawn } from 'node:child_process';
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import {
  type ClientContext,
  client,
  type InitializeResponse,
  methods,
  ndJsonStream,
  type RequestPermissionRequest,
  type SessionUpdate,
} from '@agentclientprotocol/sdk';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Bench, Running } from './harness.ts';
import type { ScriptedProvider } from './scripted-provider.ts';
import { createSupervisedBench } from './supervised.ts';

let provider: ScriptedProvider;
let bench: Bench;
let running: Running;
const programs: ChildProcess[] = [];

beforeEach(async () => {
  ({ provider, bench } = await createSupervisedBench());
  running = await bench.start();
});

afterEach(async () => {
  for (const program of programs.splice(0)) program.kill('SIGKILL');
  await bench.close();
  await provider.close();
});

interface Editor {
  readonly agent: ClientContext;
  readonly initialized: InitializeResponse;
  readonly updates: SessionUpdate[];
  readonly asked: RequestPermissionRequest[];
  /** Closes stdin, as an editor that quits does. @returns the exit code. */
  quit(): Promise<number | null>;
}

async function openEditor(answer = 'once'): Promise<Editor> {
  const program = spawn(process.execPath, [join(bench.dir, 'dist/cli.js'), 'acp'], {
    env: { PRX_STATE_DIR: bench.stateDir, HOME: bench.dir },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  programs.push(program);
  const updates: SessionUpdate[] = [];
  const asked: RequestPermissionRequest[] = [];
  const app = client({ name: 'test-editor' })
    .onNotification(methods.client.session.update, ({ params }) => void updates.push(params.update))
    .onRequest(methods.client.session.requestPermission, ({ params }) => {
      asked.push(params);
      return { outcome: { outcome: 'selected' as const, optionId: answer } };
    });
  const stream = ndJsonStream(Writable.toWeb(program.stdin), Readable.toWeb(program.stdout));
  const { agent } = app.connect(stream);
  const initialized = await agent.request(methods.agent.initialize, { protocolVersion: 1 });
  const quit = (): Promise<number | null> =>
    new Promise((resolve) => {
      program.once('exit', resolve);
      program.stdin.end();
    });
  return { agent, initialized, updates, asked, quit };
}

async function openSession({ agent }: Editor): Promise<string> {
  const { sessionId } = await agent.request(methods.agent.session.new, {
    cwd: bench.workspace,
    mcpServers: [],
  });
  return sessionId;
}

function prompt({ agent }: Editor, sessionId: string, ...steps: readonly object[]) {
  const text = JSON.stringify(steps);
  return agent.request(methods.agent.session.prompt, {
    sessionId,
    prompt: [{ type: 'text', text }],
  });
}

const say = (text: string): object => ({ say: text });
const run = (command: string): object => ({ tool: 'shell', arguments: { command } });

function textOf(updates: readonly SessionUpdate[]): string {
  return updates
    .map((update) =>
      update.sessionUpdate === 'agent_message_chunk' && update.content.type === 'text'
        ? update.content.text
        : '',
    )
    .join('');
}

test('[command:acp] what it can do is said first, and a turn with a tool call is shown whole', async () => {
  const editor = await openEditor();
  const { agentCapabilities, agentInfo } = editor.initialized;
  expect(agentInfo?.name).toBe('prx-supervisor');
  expect(agentCapabilities).toMatchObject({ loadSession: true });
  const sessionId = await openSession(editor);
  const write = { tool: 'write_file', arguments: { path: 'a.txt', content: 'new' } };
  const { stopReason } = await prompt(editor, sessionId, run('echo hi'), write, say('all done'));
  expect(stopReason).toBe('end_turn');
  expect(textOf(editor.updates)).toBe('all done');
  expect(editor.asked).toHaveLength(1);
  expect(editor.asked[0]?.toolCall).toMatchObject({ toolCallId: '1.1.1', title: 'shell: echo hi' });
  expect(editor.updates).toContainEqual(
    expect.objectContaining({ sessionUpdate: 'tool_call', toolCallId: '1.1.1', kind: 'execute' }),
  );
  expect(editor.updates).toContainEqual(
    expect.objectContaining({
      sessionUpdate: 'tool_call_update',
      toolCallId: '1.1.1',
      status: 'completed',
      content: [{ type: 'content', content: { type: 'text', text: 'hi\n' } }],
    }),
  );
  // Absolute, as the protocol has them (regression).
  const path = join(bench.workspace, 'a.txt');
  expect(editor.updates).toContainEqual(
    expect.objectContaining({
      toolCallId: '1.2.1',
      locations: [{ path }],
      content: [{ type: 'diff', path, oldText: null, newText: 'new' }],
    }),
  );
  expect(editor.updates.some((update) => update.sessionUpdate === 'user_message_chunk')).toBe(
    false,
  );
});

describe('permissions', () => {
  test('that the editor denies are denied', async () => {
    const editor = await openEditor('deny');
    const sessionId = await openSession(editor);
    await prompt(editor, sessionId, run('echo no'), say('understood'));
    const events = await bench.events(sessionId);
    expect(events.find(({ type }) => type === 'tool.completed')?.data).toMatchObject({
      status: 'denied',
    });
  });

  test('are not put to the editor in the mode that answers for it', async () => {
    const editor = await openEditor();
    const sessionId = await openSession(editor);
    await editor.agent.request(methods.agent.session.setMode, { sessionId, modeId: 'allow' });
    await prompt(editor, sessionId, run('echo yes'), say('fine'));
    expect(editor.asked).toHaveLength(0);
    await expect(
      editor.agent.request(methods.agent.session.setMode, { sessionId, modeId: 'none' }),
    ).rejects.toThrow("there is no mode 'none'");
  });
});

test('cancel ends the prompt as cancelled, and the session takes the next', async () => {
  const editor = await openEditor();
  const sessionId = await openSession(editor);
  const prompted = prompt(editor, sessionId, { say: 'a b c', holdAfter: 2 });
  await provider.held(1);
  await editor.agent.notify(methods.agent.session.cancel, { sessionId });
  expect(await prompted).toEqual({ stopReason: 'cancelled' });
  provider.release();
  expect(await prompt(editor, sessionId, say('next'))).toEqual({ stopReason: 'end_turn' });
});

test('a prompt is cancelled at once, before its turn has begun', async () => {
  const editor = await openEditor();
  const sessionId = await openSession(editor);
  const prompted = prompt(editor, sessionId, { say: 'a b c', holdAfter: 1 });
  await editor.agent.notify(methods.agent.session.cancel, { sessionId });
  expect(await prompted).toEqual({ stopReason: 'cancelled' });
});

test('an editor that quits leaves its session; another loads it with its history, or resumes it', async () => {
  const first = await openEditor();
  const sessionId = await openSession(first);
  await prompt(first, sessionId, say('remember me'));
  expect(await first.quit()).toBe(0);

  const second = await openEditor();
  const { sessions } = await second.agent.request(methods.agent.session.list, {
    cwd: bench.workspace,
  });
  expect(sessions.map((session) => session.sessionId)).toEqual([sessionId]);
  const link = join(bench.dir, 'link');
  symlinkSync(bench.workspace, link);
  const linked = await second.agent.request(methods.agent.session.list, { cwd: link });
  expect(linked).toEqual({ sessions });
  const where = { sessionId, cwd: bench.workspace, mcpServers: [] };
  await second.agent.request(methods.agent.session.load, where);
  expect(textOf(second.updates)).toBe('remember me');
  expect(second.updates[0]).toMatchObject({ sessionUpdate: 'user_message_chunk' });

  const third = await openEditor();
  await third.agent.request(methods.agent.session.resume, where);
  expect(third.updates).toEqual([]);
  await prompt(third, sessionId, say('again'));
  expect(textOf(third.updates)).toBe('again');
  // Two editors have it open: both see the turn.
  await prompt(second, sessionId, say('more'));
  expect(textOf(second.updates)).toBe('remember meagainmore');
});

test('a prompt survives the death of the supervisor', async () => {
  const editor = await openEditor();
  const sessionId = await openSession(editor);
  const prompted = prompt(editor, sessionId, { say: 'a b c d', holdAfter: 2 });
  await provider.held(1);
  running.kill('SIGKILL');
  await running.exited;
  provider.release();
  await bench.start();
  expect(await prompted).toEqual({ stopReason: 'end_turn' });
  expect(textOf(editor.updates)).toBe('a b c d');
  expect(provider.requests).toHaveLength(1);
});

test('a prompt whose session is loaded and resumed meanwhile is answered at the end of its turn', async () => {
  const editor = await openEditor();
  const sessionId = await openSession(editor);
  const where = { sessionId, cwd: bench.workspace, mcpServers: [] };
  const prompted = prompt(editor, sessionId, { say: 'a b c d', holdAfter: 2 });
  await provider.held(1);
  await editor.agent.request(methods.agent.session.load, where);
  await editor.agent.request(methods.agent.session.resume, where);
  provider.release();
  expect(await prompted).toEqual({ stopReason: 'end_turn' });
});

test('what is not there, or cannot be, is an error that says so', async () => {
  const editor = await openEditor();
  const { agent } = editor;
  const nowhere = { cwd: '/', mcpServers: [] };
  await expect(agent.request(methods.agent.session.new, nowhere)).rejects.toMatchObject({
    code: -32602,
    data: { code: 'WORKSPACE_REFUSED' },
  });
  const gone = { sessionId: 's_0000000000000000', cwd: bench.workspace, mcpServers: [] };
  await expect(agent.request(methods.agent.session.load, gone)).rejects.toMatchObject({
    code: -32002,
  });
  await expect(prompt(editor, gone.sessionId, say('x'))).rejects.toThrow('is not open here');
  const sessionId = await openSession(editor);
  const audio = { type: 'audio' as const, data: '', mimeType: 'audio/wav' };
  await expect(
    agent.request(methods.agent.session.prompt, { sessionId, prompt: [audio] }),
  ).rejects.toThrow('cannot hold a block of audio');
});
