/** A real supervisor in a control group (v1) that is its own: limits and shares are in force, a
 *  bomb is the kernel's business, and groups of the dead go. Skipped where none can be made. */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { EventEnvelope } from '../../protocol/events.ts';
import { findProgram } from '../../sandbox/launch/survey.ts';
import { type Bench, createBench, type Running } from './harness.ts';
import { eventually, findHosts } from './processes.ts';
import { type ScriptedProvider, startScriptedProvider } from './scripted-provider.ts';

const root = '/sys/fs/cgroup';
const name = `prx-it-${process.pid}`;
const controllers = ['memory', 'cpu', 'pids'];
const groups = controllers.map((each) => join(root, each, name));
const canMake = tryGroups();

function tryGroups(): boolean {
  try {
    for (const group of groups) mkdirSync(group);
    return groups.every((group) => existsSync(join(group, 'cgroup.procs')));
  } catch {
    return false;
  } finally {
    removeGroups();
  }
}

function removeGroups(): void {
  for (const group of groups) {
    if (!existsSync(group)) continue;
    for (const leaf of listLeaves(group)) rmdirSync(join(toAround(group), leaf));
    if (toAround(group) !== group) rmdirSync(toAround(group));
    rmdirSync(group);
  }
}

function listLeaves(group: string): readonly string[] {
  return readdirSync(toAround(group)).filter((each) => /^prx-(worker|host)-\d+$/.test(each));
}

/** Where the groups of children stand; of the processor in one that waits for the supervisor. */
function toAround(group: string): string {
  const sessions = join(group, 'prx-sessions');
  return existsSync(sessions) ? sessions : group;
}

const why = canMake ? '' : ' (skipped: no v1 control group can be made here)';

(canMake ? describe : describe.skip)(`a control group of our own${why}`, () => {
  let provider: ScriptedProvider;
  let bench: Bench;

  beforeEach(async () => {
    for (const group of groups) mkdirSync(group);
    provider = await startScriptedProvider();
    bench = createBench(`
      [agent]
      model = "scripted"
      [agent.worker]
      warm_pool = 0
      [agent.limits]
      max_memory_mb = 256
      [provider]
      base_url = "${provider.url}"
      [log]
      level = "error"
    `);
  });

  afterEach(async () => {
    await bench.close();
    await provider.close();
    await eventually(() => {
      try {
        removeGroups();
        return true;
      } catch {
        // A killed process is in its group for a moment more.
        return false;
      }
    });
  });

  /** It is born in our groups: we are in them for the moment of its birth. */
  function startInside(): Promise<Running> {
    const own = readFileSync('/proc/self/cgroup', 'utf8');
    const homes = controllers.map((each) =>
      join(root, each, new RegExp(`:${each}:(.*)$`, 'm').exec(own)?.[1] ?? ''),
    );
    const enter = (group: string): void =>
      writeFileSync(join(group, 'cgroup.procs'), String(process.pid));
    for (const group of groups) enter(group);
    try {
      return bench.start();
    } finally {
      for (const home of homes) enter(home);
    }
  }

  async function runTurn(): Promise<string> {
    const { view } = await bench.client.createSession({ workspace: bench.workspace });
    const script = [{ tool: 'shell', arguments: { command: 'echo hi' } }, { say: 'done' }];
    await bench.client.sendInput(view.id, { text: JSON.stringify(script) });
    await bench.follow(view.id, (event) => event.type === 'turn.completed');
    return view.id;
  }

  test('worker and host have groups; after a kill of everything, the next start removes them', async () => {
    const supervisor = await startInside();
    await runTurn();
    expect((await bench.client.getStatus()).memory_enforcement).toContain('cgroup v1');
    for (const group of groups) {
      const leaves = [...listLeaves(group)].sort().map((leaf) => leaf.replace(/\d+$/, 'n'));
      expect(leaves).toEqual(['prx-host-n', 'prx-worker-n']);
    }
    const [memory = '', cpu = ''] = groups;
    const [host = 0] = findHosts(bench);
    const inHost = readFileSync(join(toAround(cpu), `prx-host-${host}`, 'cgroup.procs'), 'utf8');
    // The host, its cell and what is parked in it share one share.
    expect(inHost.trim().split('\n').length).toBeGreaterThan(2);
    const worker = listLeaves(memory).find((leaf) => leaf.includes('worker')) ?? '';
    const limit = readFileSync(join(memory, worker, 'memory.limit_in_bytes'), 'utf8');
    expect(Number(limit)).toBe(256 * 2 ** 20);

    const before = listLeaves(memory);
    supervisor.kill('SIGKILL');
    await supervisor.exited;
    await startInside();
    await eventually(async () => {
      await bench.client.sweep();
      return listLeaves(memory).every((leaf) => !before.includes(leaf));
    });
  });

  const python = findProgram('python3') === undefined ? test.skip : test;
  python(
    'memory that no watch sees ends the call as memory at the kernel’s limit, not its host',
    async () => {
      bench.configure(
        (text) => `${text}
      [security.sandbox]
      memory_limit_mb = 256
      max_background_processes = 0
      `,
      );
      await startInside();
      const session = await runTurn();
      const [host = 0] = findHosts(bench);
      const [memory = ''] = groups;
      const leaf = join(memory, `prx-host-${host}`);
      expect(Number(readFileSync(join(leaf, 'memory.limit_in_bytes'), 'utf8'))).toBe(
        1280 * 2 ** 20,
      );
      // Less than any watch ends it for, and more than the group has left now.
      const used = Number(readFileSync(join(leaf, 'memory.usage_in_bytes'), 'utf8'));
      writeFileSync(join(leaf, 'memory.limit_in_bytes'), String(used + 96 * 2 ** 20));
      const code = `kept = [b'x' * (1 << 24) for _ in range(12)]
print(len(kept))`;
      const script = [
        { tool: 'run_code', arguments: { language: 'python', code } },
        { tool: 'shell', arguments: { command: 'kill -9 $$' } },
        { say: 'done' },
      ];
      const { last_seq: since } = await bench.client.getSession(session);
      await bench.client.sendInput(session, { text: JSON.stringify(script) });
      const isEnd = ({ type, seq }: EventEnvelope) => type === 'turn.completed' && seq > since;
      const events = await bench.follow(session, isEnd);
      const ended = events.filter(({ type, seq }) => type === 'tool.completed' && seq > since);
      expect(ended.map(({ data }) => data)).toMatchObject([
        { status: 'memory', exceeded: { limit: 'memory_limit_mb', max: 256 } },
        { status: 'error', exit_code: 137 },
      ]);
      expect(findHosts(bench)).toEqual([host]);
    },
  );

  test('of a host that was killed: what it left is ended, and the group goes', async () => {
    await startInside();
    await runTurn();
    const [host = 0] = findHosts(bench);
    process.kill(host, 'SIGKILL');
    await eventually(async () => {
      await bench.client.sweep();
      return groups.every((group) => !listLeaves(group).includes(`prx-host-${host}`));
    });
  });
});
