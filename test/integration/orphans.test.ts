/** Effects outlive their supervisor and nothing else does: adoption, cancel across lives, the
 *  registry, the marks and the sweeps. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { realClock } from '../../base/clock.ts';
import { silentLogger } from '../../base/logger.ts';
import { findIdentity, OWNER_MARK } from '../../base/process.ts';
import type { EventEnvelope } from '../../protocol/events.ts';
import type { ProcessRecord } from '../../store/contract.ts';
import { openStore } from '../../store/index.ts';
import { toOwner } from '../../supervisor/children/registry.ts';
import {
  type Bench,
  countType,
  createBench,
  isGapless,
  type Running,
  shownText,
} from './harness.ts';
import { eventually, findGateways, findHosts, findRunning, pause } from './processes.ts';
import { type ScriptedProvider, startScriptedProvider } from './scripted-provider.ts';

const WORDS = 'one two three four five six';
const shell = (command: string): unknown => ({ tool: 'shell', arguments: { command } });

let provider: ScriptedProvider;
let bench: Bench;
let supervisor: Running;
let decoys: ChildProcess[] = [];

const toConfig = (extra = ''): string => `
  [agent]
  model = "scripted"
  [provider]
  base_url = "${provider.url}"
  [agent.worker]
  warm_pool = 0
  [log]
  level = "warn"
  ${extra}
`;

beforeEach(async () => {
  provider = await startScriptedProvider();
  bench = createBench(toConfig());
  supervisor = await bench.start();
});

afterEach(async () => {
  for (const decoy of decoys) decoy.kill('SIGKILL');
  decoys = [];
  await bench.close();
  await provider.close();
});

async function prompt(script: readonly unknown[]): Promise<string> {
  const { workspace } = bench;
  const { view } = await bench.client.createSession({ workspace, approve: 'all' });
  await bench.client.sendInput(view.id, { text: JSON.stringify(script) });
  return view.id;
}

async function crash(): Promise<void> {
  supervisor.kill('SIGKILL');
  await supervisor.exited;
}

async function crashAndStart(): Promise<void> {
  await crash();
  supervisor = await bench.start();
}

const isEnd = (event: EventEnvelope): boolean => event.type === 'turn.completed';
const finish = (session: string): Promise<readonly EventEnvelope[]> => bench.follow(session, isEnd);

const listSockets = (): readonly string[] => readdirSync(join(bench.stateDir, 'run'));

function startDecoy(env: Readonly<Record<string, string>>): number {
  const decoy = spawn('/bin/sleep', ['300'], { env, detached: true, stdio: 'ignore' });
  decoys.push(decoy);
  return decoy.pid ?? 0;
}

describe('an effect in an orphan', () => {
  test('a stream shows live again after adoption, beside a second gateway that works', async () => {
    const text = Array.from({ length: 60 }, (_, index) => `w${index}`).join(' ');
    const session = await prompt([{ say: text, everyMs: 40 }]);
    await bench.follow(session, (event) => event.type === 'model.delta');
    await crashAndStart();
    const seenAtStart = countType(await bench.events(session), 'model.delta');
    let live = 0;
    const watching = bench.follow(session, (event) => {
      if (event.type === 'model.delta' && findGateways(bench).length > 1) live += 1;
      return isEnd(event);
    });
    const other = await prompt([{ say: WORDS }]);
    const second = await finish(other);
    expect(second.at(-1)?.data).toMatchObject({ outcome: 'completed' });
    const events = await watching;
    expect(live).toBeGreaterThan(seenAtStart + 10);
    expect(shownText(events, 1)).toBe(text);
    expect(provider.requests).toHaveLength(2);
    expect(isGapless(events)).toBe(true);
    await eventually(() => findGateways(bench).length === 1);
  });

  test('interrupt ends a tool call that an earlier supervisor started', async () => {
    const session = await prompt([shell('echo begun > begun; sleep 3661.25'), { say: WORDS }]);
    await eventually(() => findRunning('sleep 3661.25').length > 0);
    await crashAndStart();
    await bench.client.interrupt(session);
    const events = await finish(session);
    expect(events.at(-1)?.data).toMatchObject({ outcome: 'interrupted' });
    const completed = events.find((event) => event.type === 'tool.completed');
    expect(completed?.data).toMatchObject({ status: 'cancelled' });
    await eventually(() => findRunning('sleep 3661.25').length === 0);
    await eventually(() => findHosts(bench).length === 0);
  });

  test('interrupt ends a stream that an earlier supervisor started', async () => {
    const session = await prompt([{ say: WORDS, holdAfter: 3 }]);
    await provider.held(1);
    await bench.follow(session, (event) => event.type === 'model.delta');
    await crashAndStart();
    await bench.client.interrupt(session);
    const events = await finish(session);
    expect(events.at(-1)?.data).toMatchObject({ outcome: 'interrupted' });
    const completed = events.find((event) => event.type === 'model.completed');
    expect(completed?.data).toMatchObject({ finish_reason: 'cancelled' });
    await eventually(() => provider.abandoned() === 1);
    await eventually(() => findGateways(bench).length === 1);
    expect(provider.requests).toEqual([0]);
  });

  test('one that does not answer is waited for while it is needed, then killed', async () => {
    const session = await prompt([{ say: WORDS, holdAfter: 3 }]);
    await provider.held(1);
    const [orphan = 0] = findGateways(bench);
    await crash();
    process.kill(orphan, 'SIGSTOP');
    supervisor = await bench.start();
    await pause(6500);
    expect(findGateways(bench)).toContain(orphan);
    await bench.client.interrupt(session);
    const events = await finish(session);
    expect(events.at(-1)?.data).toMatchObject({ outcome: 'interrupted' });
    await eventually(() => !findGateways(bench).includes(orphan));
  });
});

describe('[promise:nothing-outlives] [endpoint:sweep] what is left over', () => {
  test('a process never registered is killed, its look-alikes are not (FAULTS 23)', async () => {
    await crash();
    const owner = toOwner(bench.stateDir);
    const lost = startDecoy({ [OWNER_MARK]: owner });
    const foreign = startDecoy({ [OWNER_MARK]: '0123456789abcdef' });
    const plain = startDecoy({});
    supervisor = await bench.start();
    await eventually(() => findIdentity(lost) === undefined);
    const late = startDecoy({ [OWNER_MARK]: owner });
    await eventually(() => findIdentity(late) !== undefined);
    const { killed } = await bench.client.sweep();
    expect(killed).toEqual([{ kind: 'unregistered', pid: late }]);
    for (const pid of [foreign, plain]) expect(findIdentity(pid)).toBeDefined();
    await eventually(() => findIdentity(late) === undefined);
    expect(await bench.client.sweep()).toEqual({ killed: [], removed: [], forgotten: 0 });
  });

  test('a supervisor that dies between a start and its record: the mark finds all of it', async () => {
    const session = await prompt([shell('true'), { say: WORDS }]);
    await finish(session);
    const children = bench.leftovers().filter((pid) => pid !== supervisor.pid);
    const programs = [...findGateways(bench), ...findHosts(bench)];
    expect(programs.every((pid) => children.includes(pid))).toBe(true);
    // Stopped, they do not hear that they are alone.
    for (const pid of children) process.kill(pid, 'SIGSTOP');
    await crash();
    const store = await openStore({
      ...{ stateDir: bench.stateDir, clock: realClock, logger: silentLogger },
    });
    for (const record of await store.listProcesses()) await store.removeProcess(record);
    await store.close();
    supervisor = await bench.start();
    await eventually(() => children.every((pid) => findIdentity(pid) === undefined));
  });

  test('sockets are for their owner, and go with their process or at the next start', async () => {
    const session = await prompt([shell('true'), { say: WORDS }]);
    await finish(session);
    const run = join(bench.stateDir, 'run');
    expect(listSockets()).toHaveLength(2);
    expect(statSync(run).mode & 0o777).toBe(0o700);
    for (const name of listSockets()) expect(statSync(join(run, name)).mode & 0o777).toBe(0o600);
    const before = listSockets();
    const children = [...findGateways(bench), ...findHosts(bench)];
    // Stopped first, or they would go in good order.
    for (const pid of children) process.kill(pid, 'SIGSTOP');
    await crash();
    for (const pid of children) process.kill(pid, 'SIGKILL');
    expect(listSockets()).toEqual(before);
    supervisor = await bench.start();
    await eventually(() => listSockets().every((name) => !before.includes(name)));
    supervisor.kill('SIGTERM');
    await supervisor.exited;
    await eventually(() => listSockets().length === 0);
    expect(bench.leftovers()).toEqual([]);
  });

  test('a registry full of nonsense harms nobody (FAULTS 31, 32)', async () => {
    await crash();
    const innocent = startDecoy({});
    await eventually(() => findIdentity(innocent) !== undefined);
    const own = findIdentity(process.pid);
    const other = findIdentity(innocent);
    const { startTicks, bootId } = own ?? { startTicks: 1, bootId: '' };
    const nonsense = [0, 1, -1, 2 ** 31, 2 ** 40].map((pid) => ({ pid, startTicks, bootId }));
    const store = await openStore({
      ...{ stateDir: bench.stateDir, clock: realClock, logger: silentLogger },
    });
    for (const identity of [...nonsense, ...(own ? [own] : []), ...(other ? [other] : [])]) {
      for (const kind of ['worker', 'gateway'] as const) {
        const record: ProcessRecord = { ...identity, kind, session: undefined, started_at: 't' };
        await store.putProcess(record);
      }
    }
    await store.close();
    supervisor = await bench.start();
    expect(findIdentity(innocent)).toBeDefined();
    const session = await prompt([{ say: WORDS }]);
    expect((await finish(session)).at(-1)?.data).toMatchObject({ outcome: 'completed' });
    expect((await bench.client.sweep()).forgotten).toBe(0);
  });

  test('commands of a host without isolation that was killed are found by their mark', async () => {
    supervisor.kill('SIGTERM');
    await supervisor.exited;
    await bench.close();
    bench = createBench(toConfig('[security.sandbox]\nbackend = "none"'));
    supervisor = await bench.start();
    await prompt([shell('sleep 62.5 & setsid sleep 62.75 & sleep 62.25'), { say: WORDS }]);
    await eventually(() => findRunning('sleep 62.75').length > 0);
    expect((await bench.client.sweep()).killed).toEqual([]);
    expect(findRunning('sleep 62.').length).toBeGreaterThanOrEqual(3);
    for (const pid of findHosts(bench)) process.kill(pid, 'SIGKILL');
    await eventually(async () => {
      await bench.client.sweep();
      return findRunning('sleep 62.').length === 0;
    });
  });
});
