/** The disk fails under a real supervisor: it ends at once and acknowledges nothing, and the next
 *  one goes on from what was acknowledged. Needs a C compiler for the failing system call. */
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { EventEnvelope } from '../../protocol/events.ts';
import { type Bench, createBench, isGapless } from './harness.ts';
import { eventually, findGateways, findHosts, findRunning } from './processes.ts';
import {
  type ScriptedProvider,
  startScriptedProvider,
  toScriptedConfig,
} from './scripted-provider.ts';

const shimSource = join(import.meta.dirname, '../store/fixtures/io-shim.c');
const EIO = 5;
const hasCompiler = findCompiler();

function findCompiler(): boolean {
  try {
    execFileSync('gcc', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

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

const isEnd = (event: EventEnvelope): boolean => event.type === 'turn.completed';
const why = hasCompiler ? '' : ' (skipped: there is no C compiler)';

(hasCompiler ? describe : describe.skip)(`EIO of fsync${why}`, () => {
  test('ends the supervisor at once; the next one goes on from what was acknowledged (FAULTS 56)', async () => {
    const shim = join(bench.dir, 'shim.so');
    const flag = join(bench.dir, 'the-disk-fails');
    execFileSync('gcc', ['-shared', '-fPIC', '-O1', '-o', shim, shimSource, '-ldl']);
    const failing = { LD_PRELOAD: shim, PRX_SHIM: `sync:0:0:${EIO}`, PRX_SHIM_FLAG: flag };
    const supervisor = await bench.start(failing);
    const { workspace } = bench;
    const command = 'echo ran >> count; sleep 2.125; echo done';
    const { view } = await bench.client.createSession({ workspace });
    const script = [{ tool: 'shell', arguments: { command } }, { say: 'all is well' }];
    await bench.client.sendInput(view.id, { text: JSON.stringify(script) });
    await eventually(() => findRunning('sleep 2.125').length > 0);
    const acknowledged = await bench.events(view.id);

    writeFileSync(flag, '');
    // It may be there all the same, and is then an input like any other.
    const text = JSON.stringify([{ say: 'never acknowledged' }]);
    const refused = bench.client.sendInput(view.id, { text });
    await expect(refused).rejects.toMatchObject({
      code: expect.stringMatching(/PEER_CLOSED|NOT_RUNNING/),
    });
    expect(await supervisor.exited).toBe(1);
    expect(supervisor.stderr()).toMatch(
      /prx-supervisor: ended at once: .*could not be synced \(EIO\).*check the disk/,
    );
    // As at any other death: workers go, what runs in a sandbox is finished by its host.
    await eventually(() => findRunning(join(bench.dir, 'dist/worker.js')).length === 0);
    expect(findHosts(bench)).toHaveLength(1);

    rmSync(flag);
    await bench.start(failing);
    const events = await bench.follow(view.id, isEnd);
    expect(events.slice(0, acknowledged.length)).toEqual(acknowledged);
    expect(isGapless(events)).toBe(true);
    expect(events.at(-1)?.data).toMatchObject({ turn: 1, outcome: 'completed' });
    expect(readFileSync(join(workspace, 'count'), 'utf8')).toBe('ran\n');
    await eventually(() => findGateways(bench).length === 1);
  });
});
