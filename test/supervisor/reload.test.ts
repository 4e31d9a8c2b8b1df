/** A reload: which keys it reaches, and that it reaches sessions that are open. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import type { SandboxPolicy } from '../../protocol/sandbox-methods.ts';
import { configSchema } from '../../supervisor/config-schema.ts';
import { compareValues, reloadTable } from '../../supervisor/reload.ts';
import { configKeys } from '../requirements.ts';
import { createHouse, demolish, type House } from './house.ts';
import { overStore } from './over-store.ts';
import { answers, call, dataOf, runsEverything, say } from './script.ts';
import { createSteppedClock } from './stepped-clock.ts';

afterEach(demolish);

async function reload(house: House, toml: string) {
  writeFileSync(join(house.stateDir, 'test-config.toml'), toml);
  return house.supervisor.reload();
}

const idle = '[agent.worker]\nwarm_pool = 0\n';

describe('the keys of the configuration', () => {
  const { applied, restart } = reloadTable;
  const isOf = (entries: readonly string[], key: string): boolean => entries.includes(key);

  test.each(configKeys(configSchema))(
    '%s is applied by a reload, or needs a restart: not both',
    (key) => {
      expect(Number(isOf(applied, key)) + Number(isOf(restart, key))).toBe(1);
    },
  );

  test('are all that is listed, each once', () => {
    const listed = [...applied, ...restart];
    expect(new Set(listed).size).toBe(listed.length);
    expect([...listed].sort()).toEqual(configKeys(configSchema).sort());
  });

  test('that need a restart are named until there was one; those set back are not', () => {
    const values = (level: string, turns: number) => [
      { key: 'log.level', value: level, source: 'file' as const },
      { key: 'agent.max_turns', value: turns, source: 'file' as const },
    ];
    const started = values('info', 1);
    const once = { started, before: started, next: values('debug', 2) };
    expect(compareValues(once)).toEqual({
      changed: ['log.level', 'agent.max_turns'],
      needs_restart: ['log.level'],
    });
    const again = { started, before: once.next, next: once.next };
    expect(compareValues(again)).toEqual({ changed: [], needs_restart: ['log.level'] });
    const back = { started, before: once.next, next: [] };
    expect(compareValues(back).changed).toEqual(['log.level', 'agent.max_turns']);
    expect(compareValues({ ...back, next: started }).needs_restart).toEqual([]);
  });
});

describe('a reload reaches an open session', () => {
  test('tools, limits and instructions of its next turn, on another worker; parallel_tool_calls of its next request', async () => {
    const gateway = answers({});
    const house = await createHouse({ toml: idle, script: { gateway } });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.turnDone(id);
    const changed = await reload(
      house,
      `[agent]\ntools = ["search"]\ninstructions = "be short"\n${idle}[agent.loop]\nparallel_tool_calls = false`,
    );
    expect(changed.needs_restart).toEqual([]);
    await house.send(id, 'again');
    await house.turnDone(id, 2);
    const [before, after] = gateway.seen;
    expect(before).toMatchObject({ parallelToolCalls: true });
    expect(before?.tools.length).toBeGreaterThan(1);
    expect(after).toMatchObject({ parallelToolCalls: false, tools: [{ name: 'search' }] });
    expect(JSON.stringify(after?.messages[0])).toContain('be short');
    expect(dataOf(await house.events(id), 'worker.exited')).toMatchObject([{ cause: 'stopped' }]);
    await house.send(id, 'and again');
    await house.turnDone(id, 3);
    expect(house.machine.of('worker')).toHaveLength(2);
  });

  test('the tools it may use, whatever its worker was told', async () => {
    const gateway = answers({
      '1.1': async () => {
        await reload(house, `[agent]\ntools = ["search"]\n${idle}`);
        return say('', [call('a', 'ls')]);
      },
    });
    const host = runsEverything();
    const house: House = await createHouse({ toml: idle, script: { gateway, host } });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.turnDone(id);
    expect(host.runs).toEqual([]);
    expect(dataOf(await house.events(id), 'tool.completed')).toMatchObject([
      { status: 'error', output: expect.stringContaining("there is no tool 'shell'") },
    ]);
  });

  test('also while a worker is got for it: that one does not stay (regression)', async () => {
    let held: Promise<void> | undefined;
    const asked = Promise.withResolvers<void>();
    const house = await createHouse({
      toml: `[agent.limits]\nmax_memory_mb = 400\n${idle}`,
      wrapStore: (store) =>
        overStore(store, {
          async readHistory(id) {
            asked.resolve();
            await held;
            return store.readHistory(id);
          },
        }),
    });
    const id = await house.create();
    await house.send(id, 'one');
    await house.turnDone(id);
    await house.session(id).resident.leave('test');
    const released = Promise.withResolvers<void>();
    held = released.promise;
    await house.send(id, 'two');
    await asked.promise;
    // It is ready, and waits for the history of its session.
    for (let turns = 0; turns < 500; turns += 1) await new Promise(setImmediate);
    await reload(house, `[agent.limits]\nmax_memory_mb = 800\n${idle}`);
    released.resolve();
    await house.turnDone(id, 2);
    await house.send(id, 'three');
    await house.turnDone(id, 3);
    expect(house.machine.of('worker').at(-1)?.spec.args).toContain('--max-old-space-size=600');
  });

  test('a smaller number of slots: idle ones give theirs, the least recently used first (regression)', async () => {
    const house = await createHouse({ toml: idle });
    const ids = [await house.create(), await house.create(), await house.create()] as const;
    for (const id of ids) {
      await house.send(id, 'hello');
      await house.turnDone(id);
    }
    await reload(house, `[agent.limits]\nmax_concurrent_sessions = 1\n${idle}`);
    const isAsleep = ({ data }: { data: unknown }) => (data as { to?: string }).to === 'hibernated';
    for (const id of ids.slice(0, 2)) await house.until(id, isAsleep);
    expect((await house.supervisor.status(false)).capacity.resident).toBe(1);
    expect((await house.supervisor.getSession(ids[2])).residency).toBe('resident');
  });

  test('its restart type', async () => {
    const house = await createHouse({ toml: idle });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.turnDone(id);
    await reload(house, `[agent]\nrestart = "temporary"\n${idle}`);
    house.machine.live('worker')[0]?.die();
    await house.until(id, ({ data }) => (data as { to?: string }).to === 'failed');
  });

  test('its time limit, from the next turn on', async () => {
    const clock = createSteppedClock();
    const gateway = answers({ '2.1': () => new Promise<never>(() => undefined) });
    const house = await createHouse({ clock, toml: idle, script: { gateway } });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.turnDone(id);
    await reload(house, `[agent]\nsession_timeout_secs = 3\n${idle}`);
    await house.send(id, 'again');
    await clock.armed(3000);
    clock.advance(3000);
    await house.until(id, 'interrupt.accepted');
  });

  test('its sandbox: the next call has another host, with the policy of today', async () => {
    const policies: SandboxPolicy[] = [];
    const host = {
      ...runsEverything(),
      initialize(given: SandboxPolicy) {
        policies.push(given);
        return { level: given.backend, uid: 1, workspaceAccess: 'write' as const };
      },
    };
    const calls = say('', [call('a', 'ls')]);
    const gateway = answers({ '1.1': calls, '2.1': calls, '3.1': calls });
    const house = await createHouse({ toml: idle, script: { gateway, host } });
    const id = await house.create();
    for (const turn of [1, 2, 3]) {
      if (turn === 2) await reload(house, `${idle}[security.sandbox]\nmax_pids = 7`);
      await house.send(id, 'hello');
      await house.turnDone(id, turn);
    }
    expect(policies.map(({ maxPids }) => maxPids)).toEqual([256, 7]);
  });
});

test('of two reloads at once the later one stays in force (regression)', async () => {
  const house = await createHouse({ toml: idle });
  const folder = join(house.stateDir, 'tools');
  mkdirSync(folder);
  writeFileSync(join(folder, 'slow.ts'), '');
  const toToml = (slots: number) => `${idle}[agent.limits]\nmax_concurrent_sessions = ${slots}\n`;
  const first = reload(house, `${toToml(3)}[custom_tools]\npaths = ["${folder}"]`);
  const second = reload(house, toToml(5));
  // The first one reads its tool files; until their reader is gone it is not done.
  let isOver = false;
  const over = Promise.all([first, second]).finally(() => {
    isOver = true;
  });
  while (!isOver) {
    await new Promise(setImmediate);
    for (const reader of house.machine.live('sandbox')) reader.die();
  }
  await over;
  expect((await house.supervisor.status(false)).capacity.max_concurrent_sessions).toBe(5);
  expect((await house.supervisor.status(false)).custom_tools).toBeUndefined();
});

test('the tokens of the configuration are those of a reload, also where the gateway fails it (regression)', async () => {
  const reloaded: number[] = [];
  let told = 0;
  const gateway = {
    ...answers({}),
    onInitialize() {
      told += 1;
      if (told > 1) throw new Error('no');
    },
  };
  const house = await createHouse({
    toml: `${idle}[[api.tokens]]\nname = "a"\nsha256 = "${'0'.repeat(64)}"\nscopes = ["read"]`,
    script: { gateway },
    onReloaded: ({ raw }) => void reloaded.push(raw.api.tokens.length),
  });
  await expect(reload(house, idle)).rejects.toThrow();
  expect(reloaded).toEqual([0]);
});

test('[config:agents] stream_buffer_size of an agent is that of its sessions, and a reload changes it', async () => {
  const house = await createHouse({
    toml: `[agent]\nstream_buffer_size = 50\n[agents.small]\nstream_buffer_size = 2\n${idle}`,
  });
  /** How many of six events a reader that stands still is given without another look. */
  async function isHeld(id: Awaited<ReturnType<House['create']>>): Promise<boolean> {
    const since = house.session(id).record().last_seq;
    const end = new AbortController();
    let reads = 0;
    const source = {
      async read(from: number, limit: number) {
        reads += 1;
        return house.store.readEvents(id, { since: from, limit });
      },
    };
    const reader = house.runtime.bus.follow(id, since, source, end.signal);
    // The first may come from the journal; the second comes live.
    for (const name of ['first', 'second']) {
      const next = reader.next();
      await house.supervisor.renameSession(id, name);
      await next;
    }
    const before = reads;
    for (let count = 0; count < 6; count += 1) {
      await house.supervisor.renameSession(id, `n${count}`);
    }
    for (let count = 0; count < 6; count += 1) await reader.next();
    end.abort();
    return reads === before;
  }
  const [small, large] = [await house.create({ agent: 'small' }), await house.create()];
  expect(await isHeld(small)).toBe(false);
  expect(await isHeld(large)).toBe(true);
  await reload(house, `[agents.small]\nstream_buffer_size = 20\n${idle}`);
  expect(await isHeld(small)).toBe(true);
});
