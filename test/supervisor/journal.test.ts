/** The supervisor over a journal that is damaged, full, or kept short: it starts, names it, and
 *  everything else works. */
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, describe, expect, test } from '@jest/globals';
import { routeTable } from '../../api/routes/index.ts';
import { silentLogger } from '../../base/logger.ts';
import { type Retention, startRetention } from '../../supervisor/retention.ts';
import { noTokens } from '../api/no-tokens.ts';
import { createHouse, demolish, type House } from './house.ts';
import { overStore } from './over-store.ts';
import { answers, createLatch } from './script.ts';
import { createSteppedClock } from './stepped-clock.ts';

afterEach(demolish);

/** Ends the house, changes its journal, and starts another one on it. */
async function damage(house: House, sql: string): Promise<House> {
  await house.crash();
  const db = new DatabaseSync(join(house.stateDir, 'journal.db'));
  db.exec(sql);
  db.close();
  return house.again();
}

async function readyz(house: House) {
  const route = routeTable.find(({ path }) => path === '/readyz');
  const answer = await route?.handler({
    supervisor: house.supervisor,
    tokens: noTokens,
    params: {},
    query: {},
    body: undefined,
    headers: {},
    by: 'socket',
    hasScope: () => true,
    describe: () => undefined,
    page: { find: () => undefined },
    signal: new AbortController().signal,
  });
  return answer?.kind === 'json' ? answer : undefined;
}

async function untilDamaged(house: House): Promise<void> {
  while (house.store.health().damaged.length === 0) await new Promise(setImmediate);
}

describe('a damaged session', () => {
  test.each([
    ['an event', (id: string) => `UPDATE events SET crc = 1 WHERE session = '${id}' AND seq = 4`],
    [
      'its newest event',
      (id: string) => `UPDATE events SET data = '{}' WHERE session = '${id}'
      AND seq = (SELECT max(seq) FROM events WHERE session = '${id}')`,
    ],
    ['its record', (id: string) => `UPDATE sessions SET crc = 1 WHERE id = '${id}'`],
    [
      'its first event',
      (id: string) => `UPDATE events SET type = 'x' WHERE session = '${id}' AND seq = 1`,
    ],
  ])('(%s) is named and refuses input; the others work; it can be removed', async (_, sql) => {
    const before = await createHouse();
    const [bad, good] = [await before.create(), await before.create()];
    await before.send(bad, 'hello');
    await before.turnDone(bad);
    const house = await damage(before, sql(bad));
    await untilDamaged(house);
    const status = await house.supervisor.status(false);
    expect(status).toMatchObject({
      status: 'degraded',
      takes_work: true,
      reasons: [expect.stringContaining(`session ${bad} is damaged at event`)],
    });
    expect(await readyz(house)).toMatchObject({ status: 200, value: { reasons: status.reasons } });
    await expect(house.send(bad, 'more')).rejects.toMatchObject({ code: 'STORE_CORRUPT' });
    await house.send(good, 'hello');
    expect((await house.turnDone(good)).data).toMatchObject({ outcome: 'completed' });
    expect((await house.supervisor.listSessions({})).map(({ id }) => id)).toContain(good);
    const all = await house.supervisor.readAllEvents(undefined, 1000);
    expect(all.events.filter(({ session }) => session === good).length).toBeGreaterThan(5);
    const report = await house.supervisor.verifyJournal(undefined);
    expect(report.problems.map(({ session }) => session)).toEqual([bad]);
    await house.supervisor.deleteSession(bad, 'test');
    expect(await house.supervisor.status(false)).toMatchObject({ status: 'ok', reasons: [] });
    expect((await house.supervisor.verifyJournal(undefined)).problems).toEqual([]);
  });

  test('that is found while its worker waits gives worker and slot back when it is removed (regression)', async () => {
    const house = await createHouse({ toml: '[agent.worker]\nwarm_pool = 0' });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.turnDone(id);
    expect(house.machine.live('worker')).toHaveLength(1);
    const db = new DatabaseSync(join(house.stateDir, 'journal.db'));
    db.exec(`UPDATE events SET crc = 1 WHERE session = '${id}' AND seq = 4`);
    db.close();
    await house.supervisor.verifyJournal(id);
    await untilDamaged(house);
    await house.supervisor.deleteSession(id, 'test');
    expect(house.machine.live('worker')).toEqual([]);
    expect((await house.supervisor.status(false)).capacity.resident).toBe(0);
  });

  test('that was in mid-turn does not go on, and keeps nobody from starting', async () => {
    const before = await createHouse({
      script: { gateway: answers({ '1.1': () => new Promise(() => undefined) }) },
    });
    const bad = await before.create();
    await before.send(bad, 'hello');
    await before.until(bad, 'model.started');
    await before.crash();
    const db = new DatabaseSync(join(before.stateDir, 'journal.db'));
    db.exec(`UPDATE events SET crc = 1 WHERE session = '${bad}' AND seq = 6`);
    db.close();
    const house = await before.again({});
    await untilDamaged(house);
    const good = await house.create();
    expect(house.runtime.directory.find(bad)).toBeUndefined();
    expect((await house.supervisor.getSession(good)).state).toBe('running');
  });
});

describe("the supervisor's own session, damaged", () => {
  test.each([
    ['at its end', "UPDATE events SET data = '{}' WHERE session = 'system'"],
    ['in its chain', "UPDATE events SET hash = 'x' WHERE session = 'system' AND seq = 1"],
    ['gone', "DELETE FROM events WHERE session = 'system'"],
  ])(
    '[event:supervisor.started] (%s) keeps nothing from starting, and is written on',
    async (_, sql) => {
      const before = await createHouse();
      const id = await before.create();
      const house = await damage(before, sql);
      await house.send(id, 'hello');
      await house.turnDone(id);
      const { events } = await house.supervisor.readAllEvents(undefined, 1000);
      const own = events.filter(({ session }) => session === 'system');
      expect(own.map(({ type }) => type)).toContain('supervisor.started');
      if (sql.startsWith('DELETE')) return;
      expect(house.store.health().damaged).toMatchObject([{ session: 'system' }]);
      expect(await readyz(house)).toMatchObject({ status: 200 });
      await house.store.append({
        events: [{ session: 'system', type: 'store.degraded', data: { reason: 'test' } }],
      });
    },
  );
});

test('[endpoint:getReadiness] a full disk: 503 with the reason; it ends by itself', async () => {
  const house = await createHouse({ faults: { pagesMax: 600 } });
  const [first, second] = [await house.create(), await house.create()];
  const text = 'x'.repeat(400_000);
  const fill = async () => {
    for (let i = 0; i < 50; i += 1) {
      await house.store.append({
        events: [
          {
            session: second,
            type: 'model.delta',
            data: { step: 1, attempt: 1, kind: 'text', text },
          },
        ],
      });
    }
  };
  await expect(fill()).rejects.toMatchObject({ code: 'STORE_DEGRADED' });
  expect(await readyz(house)).toMatchObject({
    status: 503,
    value: { status: 'degraded', reasons: [expect.stringContaining('full')] },
  });
  await expect(house.send(first, 'hello')).rejects.toMatchObject({ code: 'STORE_DEGRADED' });
  await house.store.deleteSession(second);
  while (house.store.health().degraded !== undefined) await new Promise(setImmediate);
  expect(await readyz(house)).toMatchObject({ status: 200, value: { status: 'ok', reasons: [] } });
  await house.send(first, 'hello');
  await house.turnDone(first);
});

test('a private workspace that a tool closed to its user goes with its session (regression)', async () => {
  const house = await createHouse();
  const id = await house.create();
  const { workspace } = await house.supervisor.getSession(id);
  mkdirSync(join(workspace, 'modules', 'inner'), { recursive: true });
  writeFileSync(join(workspace, 'modules', 'inner', 'file'), 'x');
  chmodSync(join(workspace, 'modules', 'inner'), 0o000);
  chmodSync(join(workspace, 'modules'), 0o555);
  await house.supervisor.deleteSession(id, 'test');
  expect(existsSync(workspace)).toBe(false);
});

test('a private workspace is there before its session, and goes when that was there already (regression)', async () => {
  const seen: boolean[] = [];
  const house: House = await createHouse({
    wrapStore: (store) =>
      overStore(store, {
        append(request) {
          const { data } = request.events[0] ?? {};
          const { workspace } = (data ?? {}) as { workspace?: string };
          if (workspace !== undefined) seen.push(existsSync(workspace));
          return store.append(request);
        },
      }),
  });
  const ids = [await house.create({ idempotency_key: 'one' })];
  ids.push(await house.create({ idempotency_key: 'one' }));
  expect(new Set(ids).size).toBe(1);
  expect(seen).toEqual([true, true]);
  expect(readdirSync(join(house.stateDir, 'workspaces'))).toEqual([ids[0]]);
});

describe('a fork', () => {
  test('of a private workspace gets a copy of its own: removing one leaves the other', async () => {
    const house = await createHouse();
    const id = await house.create();
    const { workspace } = await house.supervisor.getSession(id);
    mkdirSync(join(workspace, 'deep'));
    writeFileSync(join(workspace, 'deep', 'run.sh'), 'echo', { mode: 0o750 });
    symlinkSync('deep/run.sh', join(workspace, 'link'));
    utimesSync(join(workspace, 'deep', 'run.sh'), 1000, 2000);
    const fork = await house.supervisor.fork(id, undefined, 'copy');
    expect(fork.workspace).not.toBe(workspace);
    const copied = lstatSync(join(fork.workspace, 'deep', 'run.sh'));
    expect([copied.mode & 0o777, copied.mtimeMs]).toEqual([0o750, 2_000_000]);
    expect(lstatSync(join(fork.workspace, 'link')).isSymbolicLink()).toBe(true);
    writeFileSync(join(fork.workspace, 'deep', 'run.sh'), 'changed');
    expect(readFileSync(join(workspace, 'link'), 'utf8')).toBe('echo');
    await house.supervisor.deleteSession(id, 'test');
    expect([existsSync(workspace), existsSync(fork.workspace)]).toEqual([false, true]);
    await house.supervisor.close(fork.id, 'test');
    await house.supervisor.deleteSession(fork.id, 'test');
    expect(existsSync(fork.workspace)).toBe(false);
  });

  test('that is refused leaves no copy behind', async () => {
    const house = await createHouse();
    const id = await house.create();
    await expect(house.supervisor.fork(id, 999, undefined)).rejects.toMatchObject({
      code: 'INVALID_REQUEST',
    });
    expect(existsSync(join(house.stateDir, 'workspaces', id))).toBe(true);
    expect(readdirSync(join(house.stateDir, 'workspaces'))).toEqual([id]);
  });
});

describe('retention', () => {
  const DAY_MS = 86_400_000;

  async function withRetention(
    settings: { retention_days: number; retention_events: number },
    test: (house: House, retention: Retention, clock: TimeMachine) => Promise<void>,
    awayMs = 0,
  ): Promise<void> {
    const house = await createHouse();
    const stepped = createSteppedClock();
    let [wallMs, nowMs] = [Date.now() + awayMs, 0];
    const clock = { ...stepped, wallMs: () => wallMs, nowMs: () => nowMs };
    const { store, supervisor } = house;
    const retention = startRetention({
      clock,
      logger: silentLogger,
      store,
      supervisor,
      settings: () => settings,
    });
    await test(house, retention, {
      pass(ms) {
        wallMs += ms;
        nowMs += ms;
      },
      jump(ms) {
        wallMs += ms;
      },
    });
    retention.stop();
  }

  interface TimeMachine {
    /** Both clocks go on. */
    pass(ms: number): void;
    /** The wall clock alone. */
    jump(ms: number): void;
  }

  test('[config:store.retention_days] closed sessions go with what is theirs; open ones stay', () =>
    withRetention({ retention_days: 7, retention_events: 0 }, async (house, retention, time) => {
      const [closed, running] = [await house.create(), await house.create()];
      // Also with an input that waits for its restart.
      await house.supervisor.suspend(closed, 'test');
      await house.send(closed, 'hello');
      await house.supervisor.close(closed, 'test');
      mkdirSync(join(house.stateDir, 'artifacts', closed), { recursive: true });
      time.pass(6 * DAY_MS);
      expect(await retention.sweep()).toBe(0);
      time.pass(2 * DAY_MS);
      expect(await retention.sweep()).toBe(1);
      await expect(house.supervisor.getSession(closed)).rejects.toMatchObject({
        code: 'SESSION_NOT_FOUND',
      });
      expect(existsSync(join(house.stateDir, 'artifacts', closed))).toBe(false);
      expect((await house.supervisor.getSession(running)).state).toBe('running');
    }));

  test.each(['was', 'is being'])(
    'one that %s opened again since it was listed stays (regression)',
    (when) =>
      withRetention({ retention_days: 7, retention_events: 0 }, async (house, retention, time) => {
        const id = await house.create();
        await house.supervisor.close(id, 'test');
        time.pass(8 * DAY_MS);
        const [asked, written] = [createLatch(), createLatch()];
        if (when === 'was') written.open();
        const { append, listExpired } = house.store;
        house.store.append = async (request) => {
          asked.open();
          await written.opened;
          return append.call(house.store, request);
        };
        let restarted: Promise<unknown> = Promise.resolve();
        house.store.listExpired = async (...limits) => {
          const found = await listExpired.apply(house.store, limits);
          restarted = house.supervisor.restart(id, 'test');
          await (when === 'was' ? restarted : asked.opened);
          return found;
        };
        expect(await retention.sweep()).toBe(0);
        written.open();
        await restarted;
        await house.send(id, 'hello');
        expect((await house.turnDone(id)).data).toMatchObject({ outcome: 'completed' });
      }),
  );

  test('0 days keeps all', () =>
    withRetention({ retention_days: 0, retention_events: 0 }, async (house, retention, time) => {
      const closed = await house.create();
      await house.supervisor.close(closed, 'test');
      time.pass(10_000 * DAY_MS);
      expect(await retention.sweep()).toBe(0);
    }));

  test('a clock that jumped removes nothing for a day (FAULTS 21)', () =>
    withRetention({ retention_days: 7, retention_events: 0 }, async (house, retention, time) => {
      const closed = await house.create();
      await house.supervisor.close(closed, 'test');
      time.jump(365 * DAY_MS);
      expect(await retention.sweep()).toBe(0);
      time.pass(DAY_MS / 2);
      expect(await retention.sweep()).toBe(0);
      time.jump(-365 * DAY_MS);
      expect(await retention.sweep()).toBe(0);
      time.pass(2 * DAY_MS);
      expect(await retention.sweep()).toBe(0);
      expect((await house.supervisor.getSession(closed)).state).toBe('stopped');
    }));

  test('a clock that jumped unseen removes nothing for a day (FAULTS 21) (regression)', () =>
    withRetention(
      { retention_days: 7, retention_events: 0 },
      async (house, retention, time) => {
        const closed = await house.create();
        await house.supervisor.close(closed, 'test');
        expect(await retention.sweep()).toBe(0);
        time.pass(DAY_MS / 2);
        expect(await retention.sweep()).toBe(0);
        time.pass(DAY_MS);
        expect(await retention.sweep()).toBe(1);
      },
      365 * DAY_MS,
    ));

  test('[config:store.retention_events] asks the store to keep that many of each session', () =>
    withRetention({ retention_days: 0, retention_events: 1000 }, async (house, retention) => {
      const id = await house.create();
      const asked: number[] = [];
      house.store.trim = async (keep) => {
        asked.push(keep);
        return { sessions: 1, events: 5 };
      };
      await retention.sweep();
      expect(asked).toEqual([1000]);
      expect((await house.supervisor.getSession(id)).state).toBe('running');
    }));
});
