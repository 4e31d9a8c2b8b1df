/** An editor whose supervisor was away for longer than anybody tries again. */
import { join } from 'node:path';
import { client, methods, ndJsonStream, type SessionUpdate } from '@agentclientprotocol/sdk';
import { expect, test } from '@jest/globals';
import { createClient } from '../../api/client.ts';
import { realClock } from '../../base/clock.ts';
import { silentLogger } from '../../base/logger.ts';
import { realRandom } from '../../base/random.ts';
import { createAcpAgent } from '../../cli/acp/agent.ts';
import { FakeApi, SESSION } from './fake-api.ts';
import { modelStarted, turnCompleted, turnStarted } from './session-events.ts';

test('[command:acp] goes on where it was with the next prompt (regression)', async () => {
  const server = await new FakeApi().listen();
  server.addSession(SESSION);
  const api = createClient({ socketPath: join(server.stateDir, 'api.sock'), clock: realClock });
  const deps = { api, logger: silentLogger, random: realRandom, version: '1', agent: undefined };
  const updates: SessionUpdate[] = [];
  const [there, back] = [new TransformStream(), new TransformStream()];
  createAcpAgent(deps).connect(ndJsonStream(back.writable, there.readable));
  const { agent } = client({ name: 'editor' })
    .onNotification(methods.client.session.update, ({ params }) => void updates.push(params.update))
    .connect(ndJsonStream(there.writable, back.readable));
  await agent.request(methods.agent.initialize, { protocolVersion: 1 });
  const opened = { sessionId: SESSION, cwd: '/', mcpServers: [] };
  await agent.request(methods.agent.session.resume, opened);
  const say = (text: string) =>
    agent.request(methods.agent.session.prompt, {
      sessionId: SESSION,
      prompt: [{ type: 'text', text }],
    });
  const path = `GET /api/v1/sessions/${SESSION}/events`;
  server.onInput = () => {
    const problem = { type: 't', title: 't', status: 500, code: 'INTERNAL', detail: 'gone' };
    server.problems.set(path, problem);
    server.cut();
  };
  await expect(say('one')).rejects.toThrow('gone');
  server.problems.delete(path);
  // While nobody listened.
  server.emit(SESSION, ...turnStarted(1, 'in_1'));
  server.emit(SESSION, ...modelStarted());
  server.emit(SESSION, 'model.delta', { step: 1, attempt: 1, kind: 'text', text: 'missed' });
  server.emit(SESSION, ...turnCompleted('completed', 1, 'in_1'));
  server.onInput = (id, inputId) => {
    server.emit(id, ...turnStarted(2, inputId));
    server.emit(id, ...turnCompleted('completed', 2, inputId));
  };
  expect(await say('two')).toEqual({ stopReason: 'end_turn' });
  expect(JSON.stringify(updates)).toContain('missed');
  await server.close();
});
