/** One prompt through all five rooms: offline, against a model server we did not write, seen by
 *  two clients, and nine sessions at once. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { LLMock } from '@copilotkit/aimock';
import { afterEach, describe, expect, test } from '@jest/globals';
import type { EventEnvelope } from '../../protocol/events.ts';
import { type Bench, countType, createBench, isGapless, shownText } from './harness.ts';
import { type ScriptedProvider, startScriptedProvider } from './scripted-provider.ts';

let bench: Bench;
let mock: LLMock | undefined;
let provider: ScriptedProvider | undefined;

afterEach(async () => {
  await bench.close();
  await mock?.stop();
  await provider?.close();
  mock = undefined;
  provider = undefined;
});

const isEnd = (event: EventEnvelope): boolean => event.type === 'turn.completed';

async function ask(text: string): Promise<readonly EventEnvelope[]> {
  const { view } = await bench.client.createSession({ workspace: bench.workspace });
  await bench.client.sendInput(view.id, { text });
  return bench.follow(view.id, isEnd);
}

test('without a key and without a config the offline model runs `!CMD` in the sandbox', async () => {
  bench = createBench('');
  const { ready } = await bench.start();
  expect(ready).toMatch(/^ready: socket .*sandbox bubblewrap · model offline/);
  const events = await ask('!echo out; echo hello > made');
  const completed = events.find((event) => event.type === 'tool.completed');
  expect(completed?.data).toMatchObject({ status: 'ok', exit_code: 0, level: 'bubblewrap' });
  expect(readFileSync(join(bench.workspace, 'made'), 'utf8')).toBe('hello\n');
  expect(shownText(events, 2)).toContain('out');
  expect(isGapless(events)).toBe(true);
});

describe.each(['chat', 'responses'] as const)('a mock server of others, %s API', (api) => {
  const cited =
    '[event:session.created] [event:session.state] [event:input.accepted] [event:worker.started] ' +
    '[event:turn.started] [event:model.started] [event:model.delta] [event:model.completed] ' +
    '[event:tool.requested] [event:tool.decided] [event:tool.started] [event:tool.output] ' +
    '[event:tool.completed] [event:turn.completed]';
  test(`${cited} a two-round tool call gives the right answer and the right events`, async () => {
    mock = await LLMock.create({ port: 0, chunkSize: 4 });
    const call = { id: 'call_a', name: 'shell', arguments: '{"command":"echo 42 | tee answer"}' };
    mock.on({ userMessage: 'count', hasToolResult: false }, { toolCalls: [call] });
    mock.on({ userMessage: 'count', hasToolResult: true }, { content: 'It is 42.' });
    bench = createBench(`
      [agent]
      model = "test-model"
      [provider]
      base_url = "${mock.url}/v1"
      api = "${api}"
    `);
    await bench.start();
    const events = await ask('count please');
    const types = events.map((event) => event.type).filter((type) => type !== 'model.delta');
    expect(types.filter((type) => type !== 'session.residency')).toEqual([
      'session.created',
      'session.state',
      'session.state',
      'input.accepted',
      'worker.started',
      'turn.started',
      'model.started',
      'model.completed',
      'tool.requested',
      'tool.decided',
      'tool.started',
      'tool.output',
      'tool.completed',
      'model.started',
      'model.completed',
      'turn.completed',
    ]);
    expect(shownText(events, 2)).toBe('It is 42.');
    expect(readFileSync(join(bench.workspace, 'answer'), 'utf8')).toBe('42\n');
    expect(mock.getRequests().filter(({ path }) => !path.endsWith('/models'))).toHaveLength(2);
  });
});

describe('with a scripted provider', () => {
  async function startScripted(extra: string): Promise<ScriptedProvider> {
    provider = await startScriptedProvider();
    bench = createBench(`
      [agent]
      model = "scripted"
      ${extra}
      [provider]
      base_url = "${provider.url}"
    `);
    await bench.start();
    return provider;
  }

  test('a client that attaches in mid-stream sees every token once', async () => {
    const scripted = await startScripted('');
    const { view } = await bench.client.createSession({});
    const script = [{ say: 'a b c d e f g h', holdAfter: 4 }];
    await bench.client.sendInput(view.id, { text: JSON.stringify(script) });
    const first = bench.follow(view.id, isEnd);
    await scripted.held(1);
    const second = bench.follow(view.id, isEnd);
    await bench.follow(view.id, (event) => event.type === 'model.delta');
    scripted.release();
    const [one, other] = await Promise.all([first, second]);
    expect(other).toEqual(one);
    expect(shownText(other, 1)).toBe('a b c d e f g h');
    expect(isGapless(other)).toBe(true);
  });

  test('eight sessions work at once, a ninth waits its turn and then runs', async () => {
    const scripted = await startScripted('limits.max_concurrent_sessions = 8');
    const script = JSON.stringify([{ say: 'a b c d', holdAfter: 2 }]);
    const sessions: string[] = [];
    for (let index = 0; index < 8; index += 1) {
      const { view } = await bench.client.createSession({});
      sessions.push(view.id);
      await bench.client.sendInput(view.id, { text: script });
      await scripted.held(index + 1);
    }
    const ninth = (await bench.client.createSession({})).view.id;
    await bench.client.sendInput(ninth, { text: script });
    await bench.follow(ninth, isQueued);
    const views = await bench.client.listSessions();
    const residencies = views.map((view) => [view.residency, view.activity]);
    expect(residencies.filter(([residency]) => residency === 'resident')).toHaveLength(8);
    expect(views.find((view) => view.id === ninth)).toMatchObject({
      state: 'running',
      residency: 'queued',
      activity: 'idle',
      queued_inputs: 1,
    });
    expect((await bench.client.getStatus()).capacity).toMatchObject({ resident: 8, queued: 1 });
    scripted.release();
    for (const session of [...sessions, ninth]) {
      const events = await bench.follow(session, isEnd);
      expect(shownText(events, 1)).toBe('a b c d');
    }
    expect(scripted.requests).toHaveLength(9);
  });

  test('parallel tool calls of one step are answered in order', async () => {
    await startScripted('');
    const shell = (command: string): unknown => ({ tool: 'shell', arguments: { command } });
    const tools = [shell('sleep 0.2; echo slow'), shell('echo quick')];
    const events = await ask(JSON.stringify([{ tools }, { say: 'done' }]));
    expect(countType(events, 'tool.completed')).toBe(2);
    const { last_outcome: outcome } = await bench.client.getSession('@last');
    expect(outcome).toBe('completed');
  });
});

function isQueued(event: EventEnvelope): boolean {
  const { to } = event.data as { to?: string };
  return event.type === 'session.residency' && to === 'queued';
}
