/** The sandbox probes of a real start are killed: tools are there all the same. */
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { realMarks } from '../../base/marked-processes.ts';
import { OWNER_MARK } from '../../base/process.ts';
import { toOwner } from '../../supervisor/children/registry.ts';
import { type Bench, createBench } from './harness.ts';
import { findRunning } from './processes.ts';
import { type ScriptedProvider, startScriptedProvider } from './scripted-provider.ts';

let provider: ScriptedProvider;
let bench: Bench;

beforeEach(async () => {
  provider = await startScriptedProvider();
  bench = createBench(`
    [agent]
    model = "scripted"
    [provider]
    base_url = "${provider.url}"
    [log]
    level = "error"
  `);
});

afterEach(async () => {
  await bench.close();
  await provider.close();
});

test('both probes of a start are lost: the first tool finds the sandbox', async () => {
  const probes = () => findRunning(`${join(bench.dir, 'dist/sandbox.js')} --probe`);
  const killed = new Set<number>();
  const marks = new Set<string>();
  let isReady = false;
  const starting = bench.start().finally(() => {
    isReady = true;
  });
  // Each lives for a few tens of milliseconds: looked for without a pause.
  while (!isReady) {
    for (const { identity, mark } of realMarks.find(OWNER_MARK)) {
      if (!probes().includes(identity.pid)) continue;
      marks.add(mark);
      realMarks.kill(identity);
      killed.add(identity.pid);
    }
    await new Promise(setImmediate);
  }
  expect((await starting).ready).toContain('sandbox none');
  expect(killed.size).toBe(2);
  expect([...marks]).toEqual([toOwner(bench.stateDir)]);

  const { view } = await bench.client.createSession({ workspace: bench.workspace });
  const script = [{ tool: 'shell', arguments: { command: 'echo it works' } }, { say: 'done' }];
  await bench.client.sendInput(view.id, { text: JSON.stringify(script) });
  const events = await bench.follow(view.id, (event) => event.type === 'turn.completed');
  const completed = events.find((event) => event.type === 'tool.completed');
  expect(completed?.data).toMatchObject({ status: 'ok', output: 'it works\n' });
  expect((await bench.client.getStatus()).sandbox).toEqual({
    level: 'bubblewrap',
    policy: expect.stringMatching(/^[0-9a-f]{16}$/),
  });
});
