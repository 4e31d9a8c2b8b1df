/** Sessions as tools, as the SDK's own client calls them. */
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { Client } from '@modelcontextprotocol/client';
import { InMemoryTransport } from '@modelcontextprotocol/server';
import { createClient } from '../../api/client.ts';
import { realClock } from '../../base/clock.ts';
import { realRandom } from '../../base/random.ts';
import { createMcpServer } from '../../cli/mcp/server.ts';
import { FakeApi, SESSION } from './fake-api.ts';
import {
  delta,
  modelCompleted,
  modelStarted,
  turnCompleted,
  turnStarted,
} from './session-events.ts';

test('[command:mcp] an answer has its first step, too, when the second one is begun anew (regression)', async () => {
  const server = await new FakeApi().listen();
  server.addSession(SESSION);
  server.onInput = (id, inputId) => {
    const facts = [
      turnStarted(1, inputId),
      ...[modelStarted(1), delta('I look.', 1), modelCompleted('I look.', 1)],
      ...[modelStarted(2), delta('It is 4', 2)],
      ...[modelStarted(2, 2), delta('It is 42.', 2, 2), modelCompleted('It is 42.', 2, 2)],
      turnCompleted('completed', 1, inputId),
    ];
    for (const fact of facts) server.emit(id, ...fact);
  };
  const api = createClient({ socketPath: join(server.stateDir, 'api.sock'), clock: realClock });
  const deps = { api, clock: realClock, random: realRandom, version: '1' };
  const [ours, theirs] = InMemoryTransport.createLinkedPair();
  await createMcpServer(deps).connect(ours);
  const client = new Client({ name: 'test', version: '1' });
  await client.connect(theirs);
  const { content } = await client.callTool({
    name: 'prompt_session',
    arguments: { session: SESSION, prompt: 'what is it?' },
  });
  await client.close();
  await server.close();
  expect(JSON.stringify(content)).toContain('I look.\\nIt is 42.');
});
