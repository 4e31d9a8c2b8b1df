/** Gateway, hosts, workers and registry over scripted processes: what a start that fails, a death
 *  and a stop leave behind. */
import { afterEach, describe, expect, test } from '@jest/globals';
import { realClock } from '../../../base/clock.ts';
import { silentLogger } from '../../../base/logger.ts';
import { type ProcessIdentity, realProcesses } from '../../../base/process.ts';
import { noFingerprints } from '../../../protocol/fingerprints.ts';
import type { EffectId, SessionId } from '../../../protocol/ids.ts';
import type { SessionRecord } from '../../../store/contract.ts';
import { createGateway, type Gateway } from '../../../supervisor/children/gateway.ts';
import { createHost, type Host } from '../../../supervisor/children/hosts.ts';
import { createRegistry, type Registry } from '../../../supervisor/children/registry.ts';
import { createWorkerPool } from '../../../supervisor/children/workers.ts';
import { loadConfig } from '../../../supervisor/config.ts';
import { toSandboxPolicy } from '../../../supervisor/settings.ts';
import { createHouse, demolish } from '../house.ts';
import { createMachine, type Machine, type MachineScript } from '../machine.ts';
import { answers, createLatch, result, runsEverything } from '../script.ts';
import { emptyRegistry, specOf } from './parts.ts';

afterEach(demolish);

const session = 's_0123456789abcdef' as SessionId;
const { config } = loadConfig({}, { HOME: '/nonexistent' });

const record = { workspace: '/w' } as SessionRecord;

/** Identities that were added and not removed. */
function createBook(written?: Promise<void>): Registry & { readonly listed: Set<number> } {
  const listed = new Set<number>();
  return {
    ...emptyRegistry,
    listed,
    async add({ identity }) {
      await written;
      listed.add(identity.pid);
    },
    remove: ({ pid }: ProcessIdentity) => void listed.delete(pid),
  };
}

interface Bench {
  readonly machine: Machine;
  readonly book: ReturnType<typeof createBook>;
  readonly gateway: Gateway;
  readonly host: Host;
}

function createBench(script: Partial<MachineScript>, written?: Promise<void>): Bench {
  const machine = createMachine({ gateway: answers({}), host: runsEverything(), ...script });
  const book = createBook(written);
  const random = { next: () => 0.5 };
  const deps = { clock: realClock, logger: silentLogger, processes: machine, random };
  const parts = { ...deps, registry: book };
  const policy = () =>
    toSandboxPolicy(config, record, { level: 'bubblewrap', installation: '/i', env: {} });
  return {
    machine,
    book,
    gateway: createGateway({ ...parts, spec: specOf('gateway') }, config.provider),
    host: createHost({
      ...{ ...parts, session, spec: specOf('sandbox'), policy, artifactDir: '/a' },
      onNetwork: async () => undefined,
      book: {
        register: async () => undefined,
        settle: async () => undefined,
        count: () => 0,
        settled: async () => undefined,
      },
      fingerprints: () => noFingerprints,
      readSecret: async ({ name }) => ({ kind: 'refused', reason: `no ${name}` }),
    }),
  };
}

const attempt = {
  session,
  effect: '1.1' as EffectId,
  attempt: 1,
  spoolPath: '/s',
  model: 'm',
  messages: [],
  tools: [],
  parallelToolCalls: true,
};
const run = { effect: '1.1.1' as EffectId, tool: 'shell', arguments: {}, spoolPath: '/s' };
/** Looks again each turn of the event loop, so often and no more. */
async function eventually(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let looks = 0; looks < 20_000; looks += 1) {
    if (await holds()) return;
    await new Promise(setImmediate);
  }
  throw new Error(`it did not come to hold: ${holds}`);
}

const ignore = async (): Promise<void> => undefined;
const silent = { onOutput: ignore, onRequest: ignore };

describe('the gateway', () => {
  test('that refuses its settings is stopped, not left behind (regression)', async () => {
    let count = 0;
    const gateway = {
      ...answers({}),
      onInitialize() {
        count += 1;
        if (count === 1) throw new Error('no');
      },
    };
    const bench = createBench({ gateway });
    await expect(bench.gateway.start()).rejects.toMatchObject({ code: 'GATEWAY_LOST' });
    await bench.gateway.start();
    expect(bench.machine.live('gateway')).toHaveLength(1);
    expect(bench.book.listed.size).toBe(1);
  });

  test('is started once for all who ask at once, and again after its death', async () => {
    const { gateway, machine, book } = createBench({});
    await Promise.all([gateway.start(), gateway.start(), gateway.listModels(1000)]);
    expect(machine.of('gateway')).toHaveLength(1);
    machine.live('gateway')[0]?.die();
    await gateway.child()?.exited;
    expect(await gateway.generate(attempt, ignore)).toMatchObject({ kind: 'completed' });
    expect(machine.of('gateway')).toHaveLength(2);
    expect(book.listed.size).toBe(1);
  });

  test('an attempt cancelled before the gateway is up is not sent (regression)', async () => {
    const model = answers({});
    const { gateway } = createBench({ gateway: model });
    const generated = gateway.generate(attempt, ignore);
    gateway.cancel(session, attempt.effect);
    expect(await generated).toMatchObject({ kind: 'failed', code: 'CANCELLED' });
    expect(model.requests).toEqual([]);
  });

  test('released: it exits at EOF, and nothing new starts', async () => {
    const { gateway, machine } = createBench({});
    await gateway.start();
    await gateway.release(5000);
    expect(machine.live('gateway')).toEqual([]);
    await expect(gateway.generate(attempt, ignore)).rejects.toMatchObject({
      code: 'SHUTTING_DOWN',
    });
  });
});

describe('a host', () => {
  test('that retires waits for the call that runs (regression)', async () => {
    const held = createLatch();
    const script = runsEverything({
      '1.1.1': async () => {
        await held.opened;
        return result('done');
      },
    });
    const { host, machine } = createBench({ host: script });
    const running = host.run(run, silent);
    await eventually(() => script.runs.length > 0);
    host.retire();
    expect(machine.live('sandbox')).toHaveLength(1);
    held.open();
    expect(await running).toMatchObject({ output: 'done' });
    await eventually(() => machine.live('sandbox').length === 0);
    expect(await host.run(run, silent)).toMatchObject({ output: 'done' });
    expect(machine.of('sandbox')).toHaveLength(2);
  });

  test('that retired and is asked again in time stays', async () => {
    const held = createLatch();
    const script = runsEverything({
      '1.1.1': async () => {
        await held.opened;
        return result('done');
      },
    });
    const { host, machine } = createBench({ host: script });
    const first = host.run(run, silent);
    host.retire();
    const second = host.run({ ...run, effect: '1.1.2' as EffectId }, silent);
    await second;
    held.open();
    await first;
    expect(machine.live('sandbox')).toHaveLength(1);
  });

  test('that never gets ready leaves neither process nor record (regression)', async () => {
    const { host, machine, book } = createBench({
      host: {
        ...runsEverything(),
        initialize() {
          throw new Error('no sandbox here');
        },
      },
    });
    await expect(host.run(run, silent)).rejects.toMatchObject({ message: 'no sandbox here' });
    await eventually(() => machine.live('sandbox').length === 0);
    await eventually(() => book.listed.size === 0);
  });
});

describe('the worker pool', () => {
  const createPool = (script: Partial<MachineScript>, size: number, readyTimeoutMs = 5000) => {
    const machine = createMachine({ gateway: answers({}), host: runsEverything(), ...script });
    const registry = createBook();
    const deps = { clock: realClock, logger: silentLogger, processes: machine, registry };
    const own = {
      random: { next: () => 0.5 },
      spec: () => specOf('worker', readyTimeoutMs),
      memoryLimitBytes: () => 2 ** 29,
    };
    return { machine, registry, pool: createWorkerPool({ ...deps, ...own }, size) };
  };

  test('a worker that is silent is killed at the start timeout, and named (FAULTS 4)', async () => {
    const { pool, machine, registry } = createPool({ runWorker: () => undefined }, 0, 30);
    await expect(pool.take()).rejects.toMatchObject({
      code: 'WORKER_START_TIMEOUT',
      message: expect.stringContaining('was not ready within 30 ms'),
    });
    expect(machine.live('worker')).toEqual([]);
    expect(registry.listed.size).toBe(0);
  });

  test('no more than eight start at once, however many are wanted (FAULTS 9)', async () => {
    const { pool, machine } = createPool({ runWorker: () => undefined }, 0, 60_000);
    const wanted = Array.from({ length: 20 }, () => pool.take().catch(() => undefined));
    await eventually(() => machine.live('worker').length === 8);
    for (let turn = 0; turn < 50; turn += 1) await new Promise(setImmediate);
    expect(machine.of('worker')).toHaveLength(8);
    machine.live('worker')[0]?.die();
    await eventually(() => machine.of('worker').length === 9);
    expect(machine.live('worker')).toHaveLength(8);
    while (machine.of('worker').length < 20 || machine.live('worker').length > 0) {
      for (const worker of machine.live('worker')) worker.die();
      await new Promise(setImmediate);
    }
    await Promise.all(wanted);
  });

  test('one that dies at its start: how, and its last words', async () => {
    const { pool } = createPool(
      { runWorker: (own) => own.die({ code: 9, signal: undefined }, 'bad flag\n') },
      0,
    );
    await expect(pool.take()).rejects.toMatchObject({
      message: expect.stringMatching(/exited before it was ready \(code 9.*stderr: bad flag/),
    });
  });

  test('a smaller pool lets spares go; a stopped one keeps nothing', async () => {
    const { pool, machine } = createPool({}, 0);
    pool.resize(3);
    await eventually(() => pool.warm() === 3);
    pool.resize(1);
    await eventually(() => machine.live('worker').length === 1);
    expect(pool.warm()).toBe(1);
    pool.stop();
    await eventually(() => machine.live('worker').length === 0);
  });

  test.each([1, 0])(
    'what starts as its limits change is replaced: with %d spares (regression)',
    async (size) => {
      const starting: (() => void)[] = [];
      const runWorker: MachineScript['runWorker'] = ({ pid }, { writer }) => {
        const ready = { jsonrpc: '2.0', method: 'worker/ready', params: { pid, confinement: [] } };
        starting.push(() => void writer.write(ready as never));
      };
      const { pool, machine } = createPool({ runWorker }, size);
      const taken = size > 0 ? pool.resize(size) : pool.take();
      await eventually(() => starting.length === 1);
      pool.renew();
      starting[0]?.();
      await eventually(() => starting.length === 2);
      starting[1]?.();
      await eventually(() => pool.warm() === size);
      const { worker } = await (taken ?? pool.take());
      expect(worker.pid).toBe(machine.of('worker')[1]?.pid);
      pool.stop();
    },
  );

  test('a dead spare is not given away; its place is filled', async () => {
    const { pool, machine } = createPool({}, 0);
    pool.resize(1);
    await eventually(() => pool.warm() === 1);
    machine.live('worker')[0]?.die();
    await new Promise(setImmediate);
    const { worker } = await pool.take();
    expect(worker.isAlive()).toBe(true);
    pool.stop();
  });

  test('asks of a spare are refused: it serves no session', async () => {
    let answer: unknown;
    const asked = createLatch();
    const { pool } = createPool(
      {
        runWorker(own, transport) {
          transport.reader.listen((message) => {
            answer = message;
            asked.open();
          });
          const notes = { jsonrpc: '2.0', method: 'worker/ready' };
          const params = { pid: own.pid, confinement: [] };
          void transport.writer.write({ ...notes, params } as never);
          const ask = { jsonrpc: '2.0', id: 1, method: 'turn/step', params: { turn: 1, step: 1 } };
          void transport.writer.write(ask as never);
        },
      },
      0,
    );
    await pool.take();
    await asked.opened;
    expect(JSON.stringify(answer)).toContain('STALE_GENERATION');
    pool.stop();
  });
});

describe('before it is written down where the next supervisor finds it', () => {
  test.each(['gateway', 'sandbox'] as const)('a %s is sent nothing', async (room) => {
    const heard: unknown[] = [];
    const gateway = { ...answers({}), onInitialize: () => void heard.push('gateway') };
    const host = {
      ...runsEverything(),
      initialize() {
        heard.push('sandbox');
        return { level: 'bubblewrap', uid: 1, workspaceAccess: 'write' as const };
      },
    };
    const written = createLatch();
    const bench = createBench({ gateway, host }, written.opened);
    const started = room === 'gateway' ? bench.gateway.start() : bench.host.prepare('shell');
    await eventually(() => bench.machine.live(room).length === 1);
    for (let turn = 0; turn < 50; turn += 1) await new Promise(setImmediate);
    expect([heard, bench.book.listed.size]).toEqual([[], 0]);
    written.open();
    await started;
    expect([heard, bench.book.listed.size]).toEqual([[room], 1]);
  });

  test('a worker is given to nobody', async () => {
    const written = createLatch();
    const machine = createMachine({ gateway: answers({}), host: runsEverything() });
    const registry = createBook(written.opened);
    const pool = createWorkerPool(
      {
        ...{ clock: realClock, logger: silentLogger, processes: machine, registry },
        ...{ random: { next: () => 0.5 }, spec: () => specOf('worker') },
        memoryLimitBytes: () => 2 ** 29,
      },
      1,
    );
    let isTaken = false;
    const taken = pool.take().then(() => {
      isTaken = true;
    });
    await eventually(() => machine.live('worker').length === 1);
    for (let turn = 0; turn < 50; turn += 1) await new Promise(setImmediate);
    expect([isTaken, pool.warm()]).toEqual([false, 0]);
    written.open();
    await taken;
    expect(registry.listed.size).toBe(1);
    pool.stop();
  });

  test('one that cannot be written down is killed, and its asker told', async () => {
    const refused = Promise.reject(new Error('the disk is full'));
    const { gateway, machine } = createBench({}, refused);
    await expect(gateway.start()).rejects.toMatchObject({
      code: 'GATEWAY_LOST',
      message: expect.stringContaining('the disk is full'),
    });
    expect(machine.live('gateway')).toEqual([]);
  });
});

test('[promise:nothing-outlives] the registry forgets the dead, signals no stranger', async () => {
  const house = await createHouse();
  const stranger = { pid: process.pid, startTicks: 1, bootId: 'another boot' };
  const put = { ...stranger, kind: 'worker' as const, session: undefined, started_at: 't' };
  await house.store.putProcess(put);
  for (const pid of [0, 1, -1, 2 ** 31]) await house.store.putProcess({ ...put, pid });
  const registry = createRegistry({
    store: house.store,
    processes: realProcesses,
    clock: realClock,
    logger: silentLogger,
  });
  await registry.sweep();
  expect(registry.orphans()).toEqual([]);
  const ours = house.machine.started.map(({ pid }) => pid);
  const listStrangers = async () =>
    (await house.store.listProcesses()).filter(({ pid }) => !ours.includes(pid));
  await eventually(async () => (await listStrangers()).length === 0);
});
