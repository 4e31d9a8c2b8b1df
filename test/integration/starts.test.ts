/** Starts, stops and lasting silence of a real supervisor, and of several on one state dir: no
 *  process that cannot be had, and no pause of our own, costs a session. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { findIdentity, listDescendants } from '../../base/process.ts';
import type { EventEnvelope } from '../../protocol/events.ts';
import { type Bench, countType, createBench, OTHER_UID, type Running } from './harness.ts';
import { eventually, findRunning, pause } from './processes.ts';
import {
  type ScriptedProvider,
  startScriptedProvider,
  toScriptedConfig,
} from './scripted-provider.ts';

const isRoot = process.getuid?.() === 0;

let provider: ScriptedProvider;
let bench: Bench;
let decoys: ChildProcess[] = [];

beforeEach(async () => {
  provider = await startScriptedProvider();
});

afterEach(async () => {
  for (const decoy of decoys) decoy.kill('SIGKILL');
  decoys = [];
  await bench.close();
  await provider.close();
});

function build(extra = '', uid?: number): void {
  bench = createBench(toScriptedConfig(provider, { level: 'warn', more: extra }), uid);
}

const isEnd = (event: EventEnvelope): boolean => event.type === 'turn.completed';
const workers = (): readonly number[] => findRunning(`${join(bench.dir, 'dist/worker.js')}`);

async function prompt(script: readonly unknown[]): Promise<string> {
  const { view } = await bench.client.createSession({});
  await bench.client.sendInput(view.id, { text: JSON.stringify(script) });
  return view.id;
}

/** Its soft limit alone, as its own user: no right of root is needed. */
function setLimit(pid: number, limit: string): void {
  const user = [`--reuid=${OTHER_UID}`, `--regid=${OTHER_UID}`, '--clear-groups'];
  execFileSync('setpriv', [...user, 'prlimit', '--pid', String(pid), `--${limit}:`]);
}

describe('a process that cannot be had', () => {
  const cases = [
    ['EMFILE', 'nofile', (pid: number) => readdirSync(`/proc/${pid}/fd`).length + 5, 4096],
    ['EAGAIN', 'nproc', () => 1, 10_000],
  ] as const;

  (isRoot ? test.each(cases) : test.skip.each(cases))(
    '%s: told, tried again, and no other session is disturbed (FAULTS 11)',
    async (reason, name, toLow, high) => {
      // Root has no limit of processes.
      build('[agent.worker]\nwarm_pool = 0\nmax_restart_attempts = 9', OTHER_UID);
      const supervisor = await bench.start();
      const { pid } = supervisor;
      const other = await prompt([{ say: 'one two three', holdAfter: 1 }]);
      await provider.held(1);
      setLimit(pid, `${name}=${toLow(pid)}`);
      const session = await prompt([{ say: 'hello' }]);
      await bench.follow(session, (event) => event.type === 'worker.restarting');
      await eventually(() => supervisor.stderr().includes(`: ${reason}`));
      expect(supervisor.stderr()).toMatch(new RegExp(`could not start \\S+: ${reason}`));
      provider.release();
      const events = await bench.follow(other, isEnd);
      expect(events.at(-1)?.data).toMatchObject({ outcome: 'completed' });
      expect(countType(events, 'worker.exited')).toBe(0);
      setLimit(pid, `${name}=${high}`);
      const end = (await bench.follow(session, isEnd)).at(-1);
      expect(end?.data).toMatchObject({ outcome: 'completed' });
    },
  );
});

test('a supervisor that stood still kills no worker for its silence (FAULTS 18, 19)', async () => {
  build('[agent.worker]\nheartbeat_interval_secs = 2\nwarm_pool = 0');
  const supervisor = await bench.start();
  const session = await prompt([{ say: 'one two three', holdAfter: 1 }]);
  await provider.held(1);
  const before = workers();
  for (let round = 0; round < 2; round += 1) {
    process.kill(supervisor.pid, 'SIGSTOP');
    // More than two heartbeats, which are a death.
    await pause(4500);
    process.kill(supervisor.pid, 'SIGCONT');
    // And more than the two that would find one out.
    await pause(4500);
  }
  expect(workers()).toEqual(before);
  provider.release();
  const events = await bench.follow(session, isEnd);
  expect(countType(events, 'worker.exited')).toBe(0);
  expect(provider.requests).toEqual([0]);
});

describe('SIGTERM', () => {
  async function startBusy(): Promise<{ supervisor: Running; sessions: readonly string[] }> {
    build('[agent.limits]\nmax_concurrent_sessions = 6\n[agent.worker]\nwarm_pool = 0');
    const supervisor = await bench.start();
    const script = [{ say: 'one two three', holdAfter: 1 }];
    const sessions = await Promise.all(Array.from({ length: 6 }, () => prompt(script)));
    await provider.held(6);
    return { supervisor, sessions };
  }

  test('with every session busy: exit 0, no worker left, and the next one ends the turns (FAULTS 22)', async () => {
    const { supervisor, sessions } = await startBusy();
    // So many more have no process: they cost a stop nothing.
    for (let count = 0; count < 94; count += 1) await bench.client.createSession({});
    supervisor.kill('SIGTERM');
    expect(await supervisor.exited).toBe(0);
    await eventually(() => workers().length === 0);
    await bench.start();
    provider.release();
    for (const session of sessions) {
      const end = (await bench.follow(session, isEnd)).at(-1);
      expect(end?.data).toMatchObject({ outcome: 'completed' });
    }
  });

  test('a second one forces a stop that waits for turns (FAULTS 22)', async () => {
    const { supervisor } = await startBusy();
    await bench.client.stop({ drain_secs: 600 });
    supervisor.kill('SIGTERM');
    await pause(200);
    expect(findIdentity(supervisor.pid)).toBeDefined();
    supervisor.kill('SIGTERM');
    expect(await supervisor.exited).toBe(1);
  });
});

describe('a state dir', () => {
  test('has one supervisor: a second one says who it is, and after a kill a third one starts (FAULTS 30)', async () => {
    build();
    const first = await bench.start();
    await expect(bench.start()).rejects.toThrow(
      new RegExp(`exited \\(75\\): .*in use by process ${first.pid}.*\\(ALREADY_RUNNING\\)`),
    );
    expect((await bench.client.getStatus()).pid).toBe(first.pid);
    first.kill('SIGKILL');
    await first.exited;
    const third = await bench.start();
    expect((await bench.client.getStatus()).pid).toBe(third.pid);
  });

  test('where lock, socket and pipes of the dead name a foreign process: it is left alone (FAULTS 31)', async () => {
    build();
    const first = await bench.start();
    first.kill('SIGKILL');
    await first.exited;
    const foreign = spawn('/bin/sleep', ['300'], { stdio: 'ignore' });
    decoys.push(foreign);
    const pid = foreign.pid ?? 0;
    const holder = { pid, started_at: '2026-01-01T00:00:00.000Z' };
    writeFileSync(join(bench.stateDir, 'lock.json'), JSON.stringify(holder));
    const stale = join(bench.stateDir, 'run', `gateway-${pid}.sock`);
    // Somebody else's, under the name of one of ours.
    const server = createServer((socket) => socket.end('hello'));
    await new Promise<void>((resolve) => {
      server.listen(stale, resolve);
    });
    try {
      const next = await bench.start();
      expect((await bench.client.getStatus()).pid).toBe(next.pid);
      expect(readFileSync(join(bench.stateDir, 'lock.json'), 'utf8')).toContain(String(next.pid));
      expect(findIdentity(pid)).toBeDefined();
      await eventually(
        () => !readdirSync(join(bench.stateDir, 'run')).includes(`gateway-${pid}.sock`),
      );
    } finally {
      await new Promise((resolve) => server.close(resolve));
    }
  });
});

/** Starts the program with this configuration, until its first line and these words in its log. */
async function startAndHear(config: string, words: RegExp, below: string[] = []): Promise<number> {
  build();
  const file = join(bench.dir, 'config.toml');
  writeFileSync(file, config);
  const options = JSON.stringify({ config: file, stateDir: bench.stateDir });
  const program = [process.execPath, join(bench.dir, 'dist/supervisor.js'), options];
  const [command = '', ...args] = [...below, ...program];
  const child = spawn(command, args, {
    env: { PATH: process.env['PATH'], HOME: bench.dir },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  decoys.push(child);
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  await new Promise((resolve) => child.stdout.once('data', resolve));
  // What was said on the other pipe before may be read after it.
  await eventually(() => words.test(said));
  return child.pid ?? 0;
}

/** By itself, so that it leaves no control group behind. */
async function end(pid: number): Promise<void> {
  process.kill(pid, 'SIGTERM');
  const last = decoys.at(-1);
  if (last?.exitCode === null) await new Promise((resolve) => last.once('exit', resolve));
}

(isRoot ? test : test.skip)(
  'as the first process of a machine it says that it needs an init (FAULTS 29)',
  async () => {
    const words = /start it below an init.*supervisor\.first_process/;
    const below = ['unshare', '--pid', '--fork', '--kill-child', '--mount-proc'];
    const outside = await startAndHear('[log]\nlevel = "warn"\n', words, below);
    await end(listDescendants(outside)[0] ?? 0);
  },
);

test('a limit in dollars without any price is warned of (regression)', async () => {
  const config = '[budget]\nmax_cost_usd = 5\n[log]\nlevel = "warn"\n';
  await end(await startAndHear(config, /every model costs 0.*budget\.unpriced/));
});
