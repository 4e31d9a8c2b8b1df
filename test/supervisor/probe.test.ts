/** What sandbox there is: asked once, and again when a tool needs one and there was none. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterEach, describe, expect, test } from '@jest/globals';
import { realClock } from '../../base/clock.ts';
import { silentLogger } from '../../base/logger.ts';
import { type ProcessSpec, realProcesses } from '../../base/process.ts';
import { findPrograms } from '../../supervisor/launch.ts';
import { createSandboxProbe, runProbe } from '../../supervisor/probe.ts';
import type { Probe } from '../../supervisor/settings.ts';
import { createHouse, demolish } from './house.ts';
import { answers, call, createLatch, dataOf, runsEverything, say } from './script.ts';
import { createSteppedClock } from './stepped-clock.ts';

const folders: string[] = [];
afterEach(async () => {
  await demolish();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

const none: Probe = { level: 'none', reason: 'the probe was killed' };
const some: Probe = { level: 'bubblewrap' };
const never = new AbortController().signal;

function createProbe(plan: readonly Probe[]) {
  const left = [...plan];
  const clock = createSteppedClock();
  const changes: string[] = [];
  let asked = 0;
  const probe = createSandboxProbe({
    ...{ clock, logger: silentLogger },
    async ask() {
      asked += 1;
      return left.shift() ?? none;
    },
    isEnough: ({ level }) => level !== 'none',
    onChanged: (from, to) => changes.push(`${from.level} → ${to.level}`),
  });
  return { clock, changes, probe, asked: () => asked };
}

describe('a machine that seems to have no sandbox', () => {
  test('is asked twice at the start, then by the first tool that needs one', async () => {
    const { probe, changes, asked } = createProbe([none, none, some]);
    expect(await probe.start()).toBe(none);
    expect(asked()).toBe(2);
    await probe.again(never);
    expect([probe.known(), asked(), changes]).toEqual([some, 3, ['none → bubblewrap']]);
    await probe.again(never);
    expect(asked()).toBe(3);
  });

  test('is asked again after 1 s, 2 s, 4 s … 60 s, however many tools ask', async () => {
    const { probe, clock, changes, asked } = createProbe([]);
    await probe.start();
    await probe.again(never);
    for (const waitMs of [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]) {
      const before = asked();
      clock.advance(waitMs - 1);
      await probe.again(never);
      expect(asked()).toBe(before);
      clock.advance(1);
      await Promise.all([probe.again(never), probe.again(never)]);
      expect(asked()).toBe(before + 1);
    }
    expect(changes).toEqual([]);
  });

  test('does not keep a turn that is interrupted', async () => {
    const latch = createLatch();
    const stop = new AbortController();
    const probe = createSandboxProbe({
      ...{ clock: createSteppedClock(), logger: silentLogger, onChanged: () => undefined },
      ask: () => latch.opened.then(() => some),
      isEnough: ({ level }) => level !== 'none',
    });
    const waiting = probe.again(stop.signal);
    stop.abort();
    await waiting;
    expect(probe.known().level).toBe('none');
    latch.open();
    await probe.again(never);
    expect(probe.known()).toBe(some);
  });
});

describe('[event:sandbox.changed] a call that needs a sandbox', () => {
  const toml = '[agent.worker]\nwarm_pool = 1';
  const turn = async (probe: readonly Probe[]) => {
    const gateway = answers({ '1.1': say('', [call('a', 'ls')]) });
    const house = await createHouse({ toml, probe, script: { gateway, host: runsEverything() } });
    const before = (await house.supervisor.status(false)).sandbox;
    const id = await house.create();
    await house.send(id, 'hello');
    await house.turnDone(id);
    const { sandbox } = await house.supervisor.status(false);
    const [end] = dataOf(await house.events(id), 'tool.completed');
    const { events } = await house.store.readEvents('system', { since: 0, limit: 100 });
    return { before, sandbox, end, changed: dataOf(events, 'sandbox.changed') };
  };

  test('finds the one that the probes at the start had missed', async () => {
    expect(await turn([none, none, some])).toMatchObject({
      before: none,
      sandbox: { level: 'bubblewrap' },
      end: { status: 'ok' },
      changed: [{ from: 'none', to: 'bubblewrap', reason: 'the probe was killed' }],
    });
  });

  test('is denied where there is still none', async () => {
    expect(await turn([none])).toMatchObject({
      sandbox: none,
      end: { status: 'denied', output: expect.stringContaining('the probe was killed') },
      changed: [],
    });
  });
});

describe('a probe', () => {
  async function probe(source: string): Promise<Probe> {
    const folder = mkdtempSync(join(tmpdir(), 'prx-probe-'));
    folders.push(folder);
    const sandbox = join(folder, 'sandbox.mjs');
    writeFileSync(sandbox, source);
    const programs = { ...findPrograms(import.meta.filename, process.execPath), sandbox };
    const ports = { programs, processes: realProcesses, clock: realClock, env: {} };
    return runProbe({ ...ports, levels: ['bubblewrap'] });
  }

  test.each([
    ['answers', 'console.log(JSON.stringify({ level: "bubblewrap" }))', { level: 'bubblewrap' }],
    ['is killed', 'process.kill(process.pid, "SIGKILL")', /it ended, or was killed, without an/],
    ['says nonsense', 'console.log("{")', /JSON/],
    ['says too much', 'console.log("x".repeat(70000))', /more than 65536 characters/],
  ])('that %s', async (_, source, expected) => {
    const found = await probe(source);
    if (!(expected instanceof RegExp)) return expect(found).toEqual(expected);
    expect(found).toEqual({ level: 'none', reason: expect.stringMatching(expected) });
  });

  test('that is silent is killed at its timeout, whoever holds its pipe', async () => {
    const clock = createSteppedClock();
    const signals: string[] = [];
    const specs: ProcessSpec[] = [];
    const asked = runProbe({
      programs: findPrograms(import.meta.filename, process.execPath),
      clock,
      env: {},
      levels: ['bubblewrap'],
      processes: {
        async start(spec) {
          specs.push(spec);
          const streams = [new PassThrough(), new PassThrough(), new PassThrough()] as const;
          const [stdin, stdout, stderr] = streams;
          const kill = (signal: string): boolean => signals.push(signal) > 0;
          const exited = new Promise<never>(() => undefined);
          return { pid: 9, stdin, stdout, stderr, exited, kill, killGroup: kill };
        },
      },
    });
    await clock.armed(10_000);
    clock.advance(10_000);
    const reason = expect.stringContaining('it said nothing within 10000 ms');
    expect(await asked).toEqual({ level: 'none', reason });
    expect(signals).toEqual(['SIGKILL']);
    expect(specs[0]?.args).toContain('--probe');
  });
});
