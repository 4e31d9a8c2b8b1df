/** Model calls: attempts in the journal equal attempts the gateway saw, a finished one is never
 *  paid twice, and the committed outcome stands. */
import { mkdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { openAppendLog } from '../../../base/append-log.ts';
import type { EventEnvelope } from '../../../protocol/events.ts';
import type { AttemptOutcome } from '../../../protocol/gateway-methods.ts';
import { settleModelCall } from '../../../supervisor/effects/model-call.ts';
import type { GateDeps } from '../../../supervisor/effects/ports.ts';
import type { Draft } from '../../../supervisor/sessions/journal.ts';
import type { FakeProcess } from '../fake-process.ts';
import { createHouse, demolish, type House } from '../house.ts';
import { overStore } from '../over-store.ts';
import { answers, call, createLatch, dataOf, failed, say, typesOf } from '../script.ts';
import type { GenerateRequest } from '../scripted-gateway.ts';
import { createSteppedClock } from '../stepped-clock.ts';

afterEach(demolish);

const started = (events: Parameters<typeof dataOf>[0]) =>
  dataOf<{ step: number; attempt: number; model: string }>(events, 'model.started').map(
    ({ step, attempt, model }) => [step, attempt, model],
  );

/** What a gateway leaves behind: two deltas, and the end when there is one. */
function writeSpool({ spoolPath }: GenerateRequest, outcome?: AttemptOutcome): number {
  mkdirSync(dirname(spoolPath), { recursive: true });
  const log = openAppendLog(spoolPath);
  const offset = log.append({ kind: 'delta', delta: 'text', text: 'one ' });
  log.append({ kind: 'delta', delta: 'text', text: 'two' });
  if (outcome !== undefined) log.append({ kind: 'end', outcome });
  log.close();
  return offset;
}

const neverEnds = (): Promise<never> => new Promise(() => undefined);

test('what a full disk kept out of the deltas is one more delta before the end (regression)', async () => {
  const gateway = answers({
    '1.1': async (_, handle) => {
      handle.delta('one ');
      return { ...say('one two'), unsaid: 'two' };
    },
  });
  const house = await createHouse({ script: { gateway } });
  const id = await house.create();
  await house.send(id, 'hello');
  await house.turnDone(id);
  const events = await house.events(id);
  const texts = dataOf<{ text: string }>(events, 'model.delta').map(({ text }) => text);
  expect(texts.join('')).toBe('one two');
  expect(typesOf(events).slice(-3)).toEqual(['model.delta', 'model.completed', 'turn.completed']);
  expect(dataOf(events, 'model.completed')).toEqual([
    expect.not.objectContaining({ unsaid: 'two' }),
  ]);
});

describe('[event:model.failed] retries', () => {
  test('each is an attempt with its own reserve, as the gateway says; then fallback', async () => {
    const gateway = answers({
      '1.1#1': failed('PROVIDER_RATE_LIMITED', 1),
      '1.1#2': failed('PROVIDER_UNREACHABLE', 0, 'fallback-model'),
      '1.1#3': say('at last'),
    });
    const house = await createHouse({ script: { gateway }, toml: '[agent]\nmodel = "first"' });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.turnDone(id);
    const events = await house.events(id);
    expect(gateway.requests).toEqual(['1.1#1', '1.1#2', '1.1#3']);
    expect(started(events)).toEqual([
      [1, 1, 'first'],
      [1, 2, 'first'],
      [1, 3, 'fallback-model'],
    ]);
    expect(dataOf(events, 'model.failed')).toMatchObject([
      { attempt: 1, error: { code: 'PROVIDER_RATE_LIMITED' }, retry_in_ms: 1 },
      { attempt: 2, error: { code: 'PROVIDER_UNREACHABLE' }, retry_in_ms: 0 },
    ]);
  });

  test('a failure that would not get better ends the turn, named', async () => {
    const gateway = answers({ '1.1': failed('PROVIDER_REFUSED', null) });
    const house = await createHouse({ script: { gateway } });
    const id = await house.create();
    await house.send(id, 'hello');
    expect((await house.turnDone(id)).data).toMatchObject({
      outcome: 'failed',
      error: { code: 'PROVIDER_REFUSED', message: 'PROVIDER_REFUSED happened' },
    });
    expect(gateway.requests).toEqual(['1.1#1']);
  });

  test('an interrupt ends the wait between two attempts', async () => {
    const gateway = answers({ '1.1': failed('PROVIDER_RATE_LIMITED', 600_000) });
    const house = await createHouse({ script: { gateway } });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.until(id, 'model.failed');
    await house.supervisor.interrupt(id, 'test');
    expect((await house.turnDone(id)).data).toMatchObject({ outcome: 'interrupted' });
    expect(gateway.requests).toEqual(['1.1#1']);
  });
});

describe('[promise:gateway-dies] a gateway that dies', () => {
  test('without an end in the spool: one new attempt, whose text stands alone', async () => {
    const gateway = answers({
      '1.1#1': (request, { delta, process }) => {
        delta('lost');
        writeSpool(request);
        setImmediate(() => process.die());
        return neverEnds();
      },
      '1.1#2': say('whole'),
    });
    const house = await createHouse({ script: { gateway } });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.turnDone(id);
    const events = await house.events(id);
    expect(started(events).map(([, attempt]) => attempt)).toEqual([1, 2]);
    expect(dataOf(events, 'model.failed')).toMatchObject([{ error: { code: 'GATEWAY_LOST' } }]);
    const [turn] = (await house.store.readHistory(id)).turns;
    expect(turn?.steps[0]?.message.text).toBe('whole');
    expect(house.machine.of('gateway')).toHaveLength(2);
  });

  test('[promise:model-not-paid-twice] an end in the spool is adopted, deltas once', async () => {
    const gateway = answers({
      '1.1#1': (request, { process }) => {
        writeSpool(request, say('one two'));
        setImmediate(() => process.die());
        return neverEnds();
      },
    });
    const house = await createHouse({ script: { gateway } });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.turnDone(id);
    const events = await house.events(id);
    expect(gateway.requests).toEqual(['1.1#1']);
    expect(dataOf(events, 'effect.adopted')).toEqual([{ id: '1.1', how: 'spool' }]);
    const deltas = dataOf<{ text: string }>(events, 'model.delta');
    expect(deltas.map(({ text }) => text)).toEqual(['one ', 'two']);
  });
});

describe('[promise:supervisor-dies] a supervisor that dies under a model call', () => {
  async function crashed(outcome?: AttemptOutcome): Promise<{ house: House; id: string }> {
    const gateway = answers({
      '1.1': (request, { delta }) => {
        delta('one ', writeSpool(request, outcome));
        return neverEnds();
      },
    });
    const house = await createHouse({ script: { gateway } });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.until(id, 'model.delta');
    return { house, id };
  }

  test('finds the end in the spool: never requested again', async () => {
    const { house, id } = await crashed(say('one two'));
    const gateway = answers({});
    const next = await house.again({ script: { gateway } });
    await next.turnDone(id as never);
    expect(gateway.requests).toEqual([]);
    const events = await next.events(id as never);
    expect(typesOf(events).filter((type) => type === 'effect.adopted')).toHaveLength(1);
    const deltas = dataOf<{ text: string }>(events, 'model.delta');
    expect(deltas.map(({ text }) => text)).toEqual(['one ', 'two']);
    expect((await next.store.readHistory(id as never)).turns[0]?.steps[0]?.message.text).toBe(
      'one two',
    );
  });

  test('finds none: one new attempt', async () => {
    const { house, id } = await crashed();
    const gateway = answers({});
    const next = await house.again({ script: { gateway } });
    await next.turnDone(id as never);
    expect(gateway.requests).toEqual(['1.1#2']);
    expect(started(await next.events(id as never)).map(([, attempt]) => attempt)).toEqual([1, 2]);
  });

  test('and behind a power loss finds no spool: that does not mean that nothing was sent', async () => {
    const { house, id } = await crashed();
    await house.crash();
    rmSync(join(house.stateDir, 'spool'), { recursive: true });
    const gateway = answers({});
    const next = await house.again({
      script: { gateway },
      wrapStore: (store) => overStore(store, { epoch: store.epoch + 1 }),
    });
    await next.turnDone(id as never);
    expect(gateway.requests).toEqual(['1.1#2']);
    expect(dataOf(await next.events(id as never), 'model.failed')).toMatchObject([
      { attempt: 1, error: { code: 'GATEWAY_LOST' } },
    ]);
  });
});

test('[event:model.mismatched] the committed outcome stands when the request differs; the journal says so (FAULTS 59)', async () => {
  const waiting = createLatch();
  const gateway = answers({ '1.1': say('look', [call('a', 'ls')]), '1.2': say('the end') });
  const host = {
    run: async () => {
      await waiting.opened;
      return { status: 'ok' as const, output: '', duration_ms: 1, truncated: false };
    },
  };
  const house = await createHouse({ script: { gateway, host } });
  const id = await house.create();
  await house.send(id, 'hello');
  await house.until(id, 'tool.started');
  // An upgrade: the same turn, asked for with other instructions.
  const next = await house.again({
    toml: '[agent]\ninstructions = "You are somebody else."',
    script: { gateway: answers({ '1.2': say('the end') }) },
  });
  await next.turnDone(id);
  const events = await next.events(id);
  expect(dataOf(events, 'model.mismatched')).toMatchObject([{ step: 1 }]);
  const steps = (await next.store.readHistory(id)).turns[0]?.steps ?? [];
  expect(steps.map(({ message }) => message.text)).toEqual(['look', 'the end']);
});

describe('the budget', () => {
  test.each([
    ['[config:budget.max_cost_usd]', 'max_cost_usd = 0.2', 'max_cost_usd', 0.25],
    ['[config:budget.max_tokens]', 'max_tokens = 15', 'max_tokens', 15],
  ])(
    '[event:limit.exceeded] %s used up ends the turn before the next call',
    async (_, line, limit, value) => {
      const gateway = answers({ '1.1': say('look', [call('a', 'ls')]) });
      const house = await createHouse({ toml: `[budget]\n${line}`, script: { gateway } });
      const id = await house.create();
      await house.send(id, 'hello');
      expect((await house.turnDone(id)).data).toMatchObject({
        outcome: 'budget',
        reason: expect.stringContaining(`budget.${limit} is used up`),
      });
      expect(gateway.requests).toEqual(['1.1#1']);
      expect(dataOf(await house.events(id), 'limit.exceeded')).toMatchObject([{ limit, value }]);
    },
  );

  test('of the session itself: is not looked for in the configuration (regression)', async () => {
    const gateway = answers({ '1.1': say('look', [call('a', 'ls')]) });
    const house = await createHouse({ script: { gateway } });
    const id = await house.create({ limits: { max_tokens: 15 } });
    await house.send(id, 'hello');
    const reason = 'limits.max_tokens of this session is used up: 15 of 15; start a new session';
    expect((await house.turnDone(id)).data).toMatchObject({ outcome: 'budget', reason });
  });
});

describe('[config:agent.session_timeout_secs] a turn that runs too long', () => {
  const toml = '[agent]\nsession_timeout_secs = 30\n[security.tool_policy]\ndefault = "supervised"';

  test('is ended as timeout; its call is cancelled', async () => {
    const clock = createSteppedClock();
    const gateway = answers({
      '1.1': async (_, handle) => {
        await handle.cancelled;
        return { ...say('half'), finish_reason: 'cancelled' };
      },
    });
    const house = await createHouse({ clock, toml, script: { gateway } });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.until(id, 'model.started');
    await clock.armed(30_000);
    clock.advance(29_999);
    expect((await house.supervisor.getSession(id)).activity).toBe('turn');
    clock.advance(1);
    expect((await house.turnDone(id)).data).toMatchObject({ outcome: 'timeout' });
    expect(dataOf(await house.events(id), 'limit.exceeded')).toEqual([
      { limit: 'session_timeout_secs', value: 30, max: 30 },
    ]);
  });

  test('the wait for a person does not count', async () => {
    const clock = createSteppedClock();
    const gateway = answers({ '1.1': say('', [call('a', 'ls')]) });
    const house = await createHouse({ clock, toml, script: { gateway } });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.until(id, ({ data }) => (data as { to?: string }).to === 'awaiting');
    clock.advance(200_000);
    await house.supervisor.resolveApproval(id, '1.1.1' as never, { decision: 'deny' }, 'test');
    expect((await house.turnDone(id)).data).toMatchObject({ outcome: 'completed' });
  });
});

describe('[config:agent.worker.progress_timeout_secs] a turn of which nothing comes', () => {
  const toml = '[agent]\nsession_timeout_secs = 0\n[agent.worker]\nprogress_timeout_secs = 60';

  test('is ended as timeout, by that name; a chunk begins the time again (FAULTS 17)', async () => {
    const clock = createSteppedClock();
    const spoken = createLatch();
    const gateway = answers({
      '1.1': async (_, handle) => {
        await spoken.opened;
        handle.delta('still here');
        await handle.cancelled;
        return { ...say('half'), finish_reason: 'cancelled' };
      },
    });
    const house = await createHouse({ clock, toml, script: { gateway } });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.until(id, 'model.started');
    await clock.armed(60_000);
    clock.advance(59_000);
    spoken.open();
    await house.until(id, 'model.delta');
    clock.advance(59_000);
    expect((await house.supervisor.getSession(id)).activity).toBe('turn');
    clock.advance(1000);
    const max = 60;
    expect((await house.turnDone(id)).data).toMatchObject({
      outcome: 'timeout',
      reason: `no model chunk, tool output or step for ${max} s`,
    });
    expect(dataOf(await house.events(id), 'limit.exceeded')).toEqual([
      { limit: 'agent.worker.progress_timeout_secs', value: max, max },
    ]);
  });

  test('its effect is cancelled first; a worker that does not listen is killed second (FAULTS 17)', async () => {
    const clock = createSteppedClock();
    const order: string[] = [];
    let worker: FakeProcess | undefined;
    const gateway = answers({
      '1.1': async (_, handle) => {
        await handle.cancelled;
        order.push('cancelled', worker?.isAlive() === true ? 'worker alive' : 'worker gone');
        return { ...say(''), finish_reason: 'cancelled' };
      },
    });
    // Its answers are lost, so that it seems not to hear.
    const state = { deaf: false };
    const onWorkerWrite = (): boolean => !state.deaf;
    const house: House = await createHouse({ clock, toml, script: { gateway, onWorkerWrite } });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.until(id, 'model.started');
    state.deaf = true;
    const pid = house.session(id).resident.worker()?.pid;
    worker = house.machine.live('worker').find((each) => each.pid === pid);
    await clock.armed(60_000);
    clock.advance(60_000);
    await clock.armed(1000);
    await house.until(id, 'model.completed');
    expect(worker?.isAlive()).toBe(true);
    clock.advance(1000);
    expect((await house.turnDone(id)).data).toMatchObject({ outcome: 'timeout' });
    await house.until(id, 'worker.exited');
    expect(order).toEqual(['cancelled', 'worker alive']);
    expect(worker?.isAlive()).toBe(false);
  });
});

describe('an interrupted call in the hands of an earlier gateway', () => {
  test('that does not end it in time is cancelled, not called dead', async () => {
    const clock = createSteppedClock();
    const appended: Draft[] = [];
    const cancelled: string[] = [];
    const deps = {
      session: 's_0123456789abcdef',
      stateDir: '/nowhere',
      clock,
      spools: { read: () => ({ records: [], nextOffset: 0, tail: 'clean' }), remove() {} },
      store: { readSpoolOffset: async () => 0 },
      journal: { append: async (...drafts: Draft[]) => void appended.push(...drafts) },
      hasOrphanWriter: () => true,
      cancelOrphan: (effect: string) => void cancelled.push(effect),
    } as unknown as GateDeps;
    const data = { step: 1, attempt: 1, model: 'm', request_digest: 'd' };
    const envelope = { session: deps.session, seq: 1, epoch: 1, time: '', turn: 1 };
    const past = [{ ...envelope, type: 'model.started', data }] as unknown as EventEnvelope[];
    const settled = settleModelCall(deps, { turn: 1, step: 1 }, past, AbortSignal.abort());
    await clock.armed(20);
    clock.advance(1000);
    await settled;
    expect(cancelled).toEqual(['1.1']);
    expect(appended).toMatchObject([
      { type: 'model.failed', data: { error: { code: 'CANCELLED' }, retry_in_ms: null } },
    ]);
  });
});
