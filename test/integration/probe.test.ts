/** The sandbox probes of a real start are killed: tools are there all the same. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { OWNER_MARK } from '../../base/process.ts';
import { toOwner } from '../../supervisor/children/registry.ts';
import { type Bench, createBench } from './harness.ts';
import {
  type ScriptedProvider,
  startScriptedProvider,
  toScriptedConfig,
} from './scripted-provider.ts';

let provider: ScriptedProvider;
let bench: Bench;

beforeEach(async () => {
  provider = await startScriptedProvider();
  bench = createBench(toScriptedConfig(provider));
});

afterEach(async () => {
  await bench.close();
  await provider.close();
});

/** Kills the first two probes as they begin; says whose they were. They live for a few tens of
 *  milliseconds: who looks for them from outside misses them on a busy machine. */
const toLoss = (log: string): string => `
  if (process.argv.includes('--probe')) {
    const fs = require('node:fs');
    fs.appendFileSync('${log}', process.env.${OWNER_MARK} + '\\n');
    const count = fs.readFileSync('${log}', 'utf8').trim().split('\\n').length;
    if (count <= 2) process.kill(process.pid, 'SIGKILL');
  }`;

test('both probes of a start are lost: the first tool finds the sandbox', async () => {
  const log = join(bench.dir, 'probes');
  const program = join(bench.dir, 'dist', 'sandbox.js');
  writeFileSync(program, `${toLoss(log)}\n${readFileSync(program, 'utf8')}`);
  expect((await bench.start()).ready).toContain('sandbox none (prx-supervisor doctor says why)');
  const owner = toOwner(bench.stateDir);
  // A third one may have begun since.
  expect(readFileSync(log, 'utf8').split('\n').slice(0, 2)).toEqual([owner, owner]);

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
