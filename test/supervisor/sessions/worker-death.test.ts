/** The death of a worker costs a warm start and nothing else: whatever it was about to ask, or had
 *  asked, the transcript equals that of the undisturbed run, and nothing happens twice. */
import { afterEach, describe, expect, test } from '@jest/globals';
import { PrxError } from '../../../base/errors.ts';
import type { EventEnvelope } from '../../../protocol/events.ts';
import type { SessionId } from '../../../protocol/ids.ts';
import type { FakeProcess } from '../fake-process.ts';
import { createHouse, demolish, type House } from '../house.ts';
import type { MachineScript } from '../machine.ts';
import { answers, call, callTool, dataOf, runsEverything, say, typesOf } from '../script.ts';

afterEach(demolish);

const LONG = 'x'.repeat(9000);

const plan = () => ({
  gateway: answers({
    '1.1': say(LONG, [call('a', 'ls'), callTool('b', 'read_file', { path: 'f' })]),
    '1.2': say('more', [call('c', 'ls -l')]),
    '1.3': say('a summary'),
    '1.4': say('the end'),
  }),
  host: runsEverything(),
});

/** Compaction is part of the turn: its record must not be written twice either. */
const toml = `
[agent.loop]
compaction_threshold_tokens = 2500
[agent.worker]
warm_pool = 0
max_restart_attempts = 100
`;

async function runTurn(
  script: MachineScript,
  house?: House,
): Promise<{ house: House; id: SessionId }> {
  house ??= await createHouse({ toml, script });
  house.machine.script = script;
  const id = await house.create();
  await house.send(id, 'hello');
  await house.turnDone(id);
  return { house, id };
}

const isOfWorker = ({ type }: EventEnvelope): boolean =>
  type.startsWith('worker.') || type === 'session.residency';

/** What of a run must not depend on deaths. */
async function describeRun({ house, id }: { house: House; id: SessionId }) {
  const events = (await house.events(id)).filter((event) => !isOfWorker(event));
  const { turns, compaction } = await house.store.readHistory(id);
  // The input's id is random, and calls of one step run side by side.
  const conversation = turns.map(({ steps, outcome }) => ({ steps, outcome }));
  return { conversation, compaction, types: typesOf(events).sort() };
}

const isTo =
  (to: string) =>
  ({ type, data }: EventEnvelope): boolean =>
    type === 'session.state' && (data as { to: string }).to === to;

function isAsk(message: unknown): boolean {
  return typeof message === 'object' && message !== null && 'id' in message && 'method' in message;
}

function killAtAsk(count: number, when: 'before' | 'after') {
  let asks = 0;
  return (message: unknown, worker: FakeProcess): undefined => {
    asks += isAsk(message) ? 1 : 0;
    if (!isAsk(message) || asks !== count) return;
    if (when === 'before') worker.die();
    // The pipe has it by then; the worker is gone before any answer.
    else setImmediate(() => worker.die());
  };
}

async function countAsks(house: House): Promise<number> {
  let asks = 0;
  const onWorkerWrite = (message: unknown): undefined => {
    if (isAsk(message)) asks += 1;
  };
  await runTurn({ ...plan(), onWorkerWrite }, house);
  return asks;
}

describe('[promise:worker-dies] a worker that is killed', () => {
  test('at any ask, before or after it, changes nothing of the turn (FAULTS 2, 61)', async () => {
    const { house, id } = await runTurn(plan());
    const undisturbed = await describeRun({ house, id });
    expect(undisturbed.types).toContain('context.compacted');
    const asks = await countAsks(house);
    expect(asks).toBe(11);
    for (let count = 1; count <= asks; count += 1) {
      for (const when of ['before', 'after'] as const) {
        const script = plan();
        const run = await runTurn({ ...script, onWorkerWrite: killAtAsk(count, when) }, house);
        const seen = { count, when, ...(await describeRun(run)) };
        expect(seen).toEqual({ count, when, ...undisturbed });
        expect(script.gateway.requests).toEqual(['1.1#1', '1.2#1', '1.3#1', '1.4#1']);
        expect([...script.host.runs].sort()).toEqual(['1.1.1', '1.1.2', '1.2.1']);
        const exits = dataOf(await house.events(run.id), 'worker.exited');
        expect(exits).toMatchObject([{ cause: 'crashed', signal: 'SIGKILL', generation: 1 }]);
        await house.supervisor.close(run.id, 'test');
      }
    }
  });

  test('[promise:one-worker-per-session] [event:worker.exited] [event:worker.restarting] is followed by the next, one at a time', async () => {
    let writes = 0;
    const onWorkerWrite = (message: unknown, worker: FakeProcess): undefined => {
      writes += isAsk(message) ? 1 : 0;
      if (isAsk(message) && writes % 3 === 0 && writes < 12) worker.die();
    };
    const { house, id } = await runTurn({ ...plan(), onWorkerWrite });
    const events = await house.events(id);
    const lives = events.filter(
      ({ type }) => type === 'worker.started' || type === 'worker.exited',
    );
    const generations = lives.map(({ type, data }) => [
      type,
      (data as { generation: number }).generation,
    ]);
    const expected = [1, 2, 3].flatMap((generation) => [
      ['worker.started', generation],
      ['worker.exited', generation],
    ]);
    expect(generations).toEqual([...expected, ['worker.started', 4]]);
    expect(house.machine.live('worker')).toHaveLength(1);
    expect(dataOf(events, 'worker.restarting').map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
  });

  test('while idle is replaced at once (FAULTS 1)', async () => {
    const { house, id } = await runTurn(plan());
    house.machine.live('worker')[0]?.die();
    await house.until(id, 'worker.started', 2);
    expect(house.machine.live('worker')).toHaveLength(1);
    expect(house.session(id).resident.residency()).not.toBe('hibernated');
    expect(dataOf(await house.events(id), 'worker.started')).toMatchObject([
      { generation: 1 },
      { generation: 2 },
    ]);
    // The replacement answers, and no third one comes.
    await house.send(id, 'again');
    await house.turnDone(id, 2);
    expect(house.machine.of('worker')).toHaveLength(2);
  });
});

test('a model step is requested once although two workers ask for it (FAULTS 14)', async () => {
  let release: () => void = () => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  let first = true;
  const gateway = answers({
    '1.1': async (_, { delta }) => {
      delta('a');
      await held;
      delta('b');
      return say('ab');
    },
  });
  const onWorkerWrite = (message: unknown, worker: FakeProcess): undefined => {
    const isModel = isAsk(message) && JSON.stringify(message).includes('"model/generate"');
    if (!isModel) return;
    // The second worker has asked as well when the model goes on.
    if (first) setImmediate(() => worker.die());
    else setImmediate(release);
    first = false;
  };
  const { house, id } = await runTurn({ ...plan(), gateway, onWorkerWrite });
  expect(gateway.requests).toEqual(['1.1#1']);
  const events = await house.events(id);
  expect(dataOf<{ text: string }>(events, 'model.delta').map(({ text }) => text)).toEqual([
    'a',
    'b',
  ]);
  expect(dataOf(events, 'worker.exited')).toHaveLength(1);
  expect(dataOf(events, 'turn.completed')).toMatchObject([{ outcome: 'completed' }]);
});

describe('a worker that crashes again and again', () => {
  const crashing = `[agent.worker]\nwarm_pool = 0\nmax_restart_attempts = 2`;
  /** Dies when it is told to run a turn, until `healed`. */
  const crasher = () => {
    const state = { healed: false };
    const onWorkerWrite = (message: unknown, worker: FakeProcess): undefined => {
      if (isAsk(message) && !state.healed) worker.die({ code: 1, signal: undefined }, 'boom\n');
    };
    return { state, onWorkerWrite };
  };

  test('[config:agent.worker.max_restart_attempts] costs the input, not the session', async () => {
    const { state, onWorkerWrite } = crasher();
    const house = await createHouse({ toml: crashing, script: { onWorkerWrite } });
    const id = await house.create();
    await house.send(id, 'hello');
    const { data } = await house.until(id, 'input.quarantined');
    const { input_id, reason } = data as { input_id: string; reason: string };
    expect(reason).toMatch(/died 3 times within 60 s.*crashed.*stderr: boom/);
    const events = await house.events(id);
    expect(dataOf(events, 'worker.exited')).toMatchObject(
      [1, 2, 3].map(() => ({ code: 1, stderr_tail: 'boom\n', progress: false })),
    );
    expect(dataOf(events, 'turn.completed')).toMatchObject([
      { input_id, outcome: 'failed', reason: 'quarantined', error: { message: reason } },
    ]);
    expect(house.session(id).record()).toMatchObject({ state: 'running', open_turn: undefined });

    state.healed = true;
    await house.send(id, 'hello');
    const again = await house.turnDone(id, 2);
    expect(again.data).toMatchObject({ turn: 2, outcome: 'completed' });
  });

  test('[event:input.quarantined] the inputs behind it have their turns', async () => {
    const { state, onWorkerWrite } = crasher();
    const house = await createHouse({ toml: crashing, script: { onWorkerWrite } });
    const id = await house.create();
    await house.send(id, 'poison');
    await house.send(id, 'harmless');
    await house.until(id, 'input.quarantined');
    state.healed = true;
    const second = await house.turnDone(id, 2);
    expect(second.data).toMatchObject({ turn: 2, outcome: 'completed' });
  });

  test('deaths are counted on by the next supervisor; its own death is none', async () => {
    const { onWorkerWrite } = crasher();
    const toml = `[agent.worker]\nwarm_pool = 0\nmax_restart_attempts = 3`;
    let house = await createHouse({ toml, script: { onWorkerWrite } });
    const id = await house.create();
    await house.send(id, 'hello');
    // The third one comes after a back-off: it is waited for when the supervisor dies.
    await house.until(id, 'worker.exited', 2);
    for (let count = 1; count <= 5; count += 1) {
      const quiet = { onWorkerWrite: (message: unknown) => !isAsk(message) };
      house = await house.again({ script: quiet });
      await house.until(id, 'worker.started', 2 + count);
    }
    house = await house.again({ script: { onWorkerWrite } });
    await house.until(id, 'input.quarantined');
    const exits = dataOf<{ progress?: boolean }>(await house.events(id), 'worker.exited');
    expect(exits.filter(({ progress }) => progress === false)).toHaveLength(4);
  });

  test('at every input parks the session after the second; restart goes on with the third', async () => {
    const { state, onWorkerWrite } = crasher();
    const house = await createHouse({ toml: crashing, script: { onWorkerWrite } });
    const id = await house.create();
    for (const text of ['one', 'two', 'three', 'four']) await house.send(id, text);
    const failed = await house.until(id, isTo('failed'));
    const { reason } = failed.data as { reason: string };
    expect(reason).toMatch(/^2 inputs in a row killed every worker.*stderr: boom; .*restart s_/);
    expect(house.session(id).record()).toMatchObject({ open_turn: undefined, quarantines: 2 });
    expect((await house.supervisor.getSession(id)).queued_inputs).toBe(2);
    const parked = await house.events(id);
    expect(dataOf(parked, 'input.quarantined')).toMatchObject([{ in_a_row: 1 }, { in_a_row: 2 }]);
    // In one transaction: nobody can take the third input in between.
    expect(typesOf(parked.slice(-8))).toContain('session.state');
    expect(dataOf(parked, 'turn.started')).toHaveLength(2);

    const next = await house.again();
    expect((await next.supervisor.getSession(id)).state).toBe('failed');
    state.healed = true;
    await next.supervisor.restart(id, 'test');
    await next.turnDone(id, 4);
    expect(dataOf(await next.events(id), 'turn.completed').slice(2)).toMatchObject([
      { turn: 3, outcome: 'completed' },
      { turn: 4, outcome: 'completed' },
    ]);
    expect(next.session(id).record()).not.toHaveProperty('quarantines');
  });

  test('at two inputs, with one that went well in between, does not', async () => {
    const { state, onWorkerWrite } = crasher();
    const house = await createHouse({ toml: crashing, script: { onWorkerWrite } });
    const id = await house.create();
    for (const [turn, healed] of [false, true, false].entries()) {
      state.healed = healed;
      await house.send(id, 'hello');
      await house.turnDone(id, turn + 1);
    }
    expect(dataOf(await house.events(id), 'input.quarantined')).toMatchObject([
      { in_a_row: 1 },
      { in_a_row: 1 },
    ]);
    expect((await house.supervisor.getSession(id)).state).toBe('running');
  });

  test('[event:session.restarted] and is restarted by a person: earlier deaths count no more, nor for the next supervisor', async () => {
    const { onWorkerWrite } = crasher();
    const toml = `[agent.worker]\nwarm_pool = 0\nmax_restart_attempts = 2`;
    let house = await createHouse({ toml, script: { onWorkerWrite } });
    const id = await house.create();
    await house.send(id, 'hello');
    // The second death is followed by a back-off: the person comes in it.
    await house.until(id, 'worker.exited', 2);
    const quiet = { onWorkerWrite: (message: unknown) => !isAsk(message) };
    house.machine.script = { ...house.machine.script, ...quiet };
    await house.supervisor.restart(id, 'someone');
    expect(house.session(id).record().open_turn).not.toHaveProperty('deaths');
    house = await house.again({ script: { onWorkerWrite } });
    await house.until(id, 'input.quarantined');
    const events = await house.events(id);
    expect(dataOf(events, 'session.restarted')).toEqual([{ by: 'someone' }]);
    const exits = events.slice(typesOf(events).indexOf('session.restarted'));
    const fruitless = dataOf(exits, 'worker.exited').filter(({ progress }) => progress === false);
    expect(fruitless).toHaveLength(3);
  });

  test('having committed something each time, is never given up on (FAULTS 5)', async () => {
    const steps = 4;
    const gateway = answers(
      Object.fromEntries(
        Array.from({ length: steps }, (_, at) => [`1.${at + 1}`, say('', [call('a', 'ls')])]),
      ),
    );
    const asked = new Set<string>();
    const onWorkerWrite = (message: unknown, worker: FakeProcess): undefined => {
      const effect = /"tool\/call".*"step":(\d)/.exec(JSON.stringify(message))?.[1];
      if (effect === undefined || asked.has(effect)) return;
      asked.add(effect);
      worker.die();
    };
    const toml = `${crashing.replace('= 2', '= 1')}\nrestart_window_secs = 10000`;
    const house = await createHouse({ toml, script: { gateway, onWorkerWrite } });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.turnDone(id);
    expect(asked.size).toBe(steps);
    expect(dataOf(await house.events(id), 'turn.completed')).toMatchObject([
      { outcome: 'completed', steps: steps + 1 },
    ]);
  });

  test('before it is ready, fails the session by name; restart brings it back', async () => {
    const state = { healed: false };
    const onStart = (room: string): void => {
      if (room === 'worker' && !state.healed) throw new PrxError('SPAWN_FAILED', 'no such node');
    };
    const toml = `[agent.worker]\nwarm_pool = 0\nmax_restart_attempts = 1`;
    const house = await createHouse({ toml, script: { onStart } });
    const id = await house.create();
    await house.send(id, 'hello');
    const failed = await house.until(
      id,
      ({ type, data }) => type === 'session.state' && (data as { to: string }).to === 'failed',
    );
    const { reason } = failed.data as { reason: string };
    expect(reason).toMatch(/no worker could be started: no such node.*restart/);
    await expect(house.send(id, 'more')).rejects.toMatchObject({ code: 'SESSION_NOT_OPEN' });

    state.healed = true;
    await house.supervisor.restart(id, 'test');
    expect((await house.turnDone(id)).data).toMatchObject({ turn: 1, outcome: 'completed' });
    expect(dataOf(await house.events(id), 'input.quarantined')).toEqual([]);
  });

  test('[config:agent.worker.restart_window_secs] deaths outside it do not count', async () => {
    const { state, onWorkerWrite } = crasher();
    const toml = `${crashing}\nrestart_window_secs = 0.001`;
    const house = await createHouse({ toml, script: { onWorkerWrite } });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.until(id, 'worker.exited', 5);
    state.healed = true;
    await house.turnDone(id);
    expect((await house.supervisor.getSession(id)).state).toBe('running');
  });

  test('[config:agent.restart] temporary: is never started again', async () => {
    const { onWorkerWrite } = crasher();
    const toml = `[agent]\nrestart = "temporary"\n${crashing}`;
    const house = await createHouse({ toml, script: { onWorkerWrite } });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.until(id, ({ data }) => (data as { to?: string }).to === 'failed');
    expect(dataOf(await house.events(id), 'worker.exited')).toHaveLength(1);
  });
});
