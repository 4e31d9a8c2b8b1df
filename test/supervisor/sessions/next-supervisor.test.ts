/** What a supervisor had decided about a turn, and would take into its grave if the journal did not
 *  say it: the time that was spent, the model that comes next, the reason of a stop. */
import { afterEach, describe, expect, test } from '@jest/globals';
import type { SessionId } from '../../../protocol/ids.ts';
import { createHouse, demolish, type House } from '../house.ts';
import { answers, dataOf, failed, say } from '../script.ts';
import { createSteppedClock } from '../stepped-clock.ts';

afterEach(demolish);

/** The clock of these tests jumps far: pings and back-offs are out of its way. */
const toml = (limits: string): string => `
[agent]
${limits}
[agent.worker]
warm_pool = 0
heartbeat_interval_secs = 100000
`;

const never = (): Promise<never> => new Promise(() => undefined);

async function send(house: House): Promise<SessionId> {
  const id = await house.create();
  await house.send(id, 'hello');
  return id;
}

describe('[config:agent.session_timeout_secs] the time of a turn', () => {
  test('counts on over the death of its worker and of the supervisor, and stands still in between', async () => {
    const clock = createSteppedClock();
    const spec = { clock, storeClock: clock, toml: toml('session_timeout_secs = 100') };
    const gateway = answers({ '1.1': never });
    let house = await createHouse({ ...spec, script: { gateway } });
    const id = await send(house);
    await house.until(id, 'model.started');
    clock.advance(30_000);
    house.machine.live('worker')[0]?.die();
    await house.until(id, 'worker.started', 2);
    await clock.armed(70_000);
    clock.advance(30_000);
    // Any event says that it still ran by then.
    await house.supervisor.renameSession(id, 'seen');
    await house.crash();
    clock.advance(1_000_000);
    house = await house.again();
    await clock.armed(40_000);
    clock.advance(39_999);
    expect(house.session(id).record().open_turn?.interrupted).toBe(false);
    clock.advance(1);
    await house.until(id, 'interrupt.accepted');
    const events = await house.events(id);
    expect(dataOf(events, 'worker.started').map(({ spent_ms }) => spent_ms)).toEqual([
      undefined,
      30_000,
      60_000,
    ]);
  });
});

test('a clock that was set ahead takes no time from a turn (FAULTS 21)', async () => {
  const clock = createSteppedClock();
  let aheadMs = 0;
  const wall = { ...clock, wallMs: () => clock.wallMs() + aheadMs };
  const spec = { clock: wall, storeClock: wall, toml: toml('session_timeout_secs = 100') };
  let house = await createHouse({ ...spec, script: { gateway: answers({ '1.1': never }) } });
  const id = await send(house);
  await house.until(id, 'model.started');
  clock.advance(30_000);
  house.machine.live('worker')[0]?.die();
  await house.until(id, 'worker.started', 2);
  aheadMs = 86_400_000;
  await house.supervisor.renameSession(id, 'seen');
  house = await house.again();
  const spent = ({ data }: { data: unknown }) => (data as { spent_ms?: number }).spent_ms;
  await house.until(id, (event) => event.type === 'worker.started' && spent(event) === 30_000, 2);
  expect(house.session(id).record().open_turn?.interrupted).toBe(false);
});

describe('a turn whose time has passed', () => {
  test.each([
    ['the limit of the turn', 'session_timeout_secs = 100', 'the turn ran longer than 100 s'],
    [
      'the progress detector',
      'worker.progress_timeout_secs = 100',
      'no model chunk, tool output or step for 100 s',
    ],
  ])(
    'by %s ends so, also when the supervisor dies before the end is written',
    async (_, limit, reason) => {
      const clock = createSteppedClock();
      const gateway = answers({ '1.1': never });
      const spec = { clock, script: { gateway } };
      const [group = '', key = ''] = limit.includes('.') ? limit.split('.') : ['', limit];
      const limits = group === '' ? toml(key) : toml('').replace('warm_pool', `${key}\nwarm_pool`);
      let house = await createHouse({ ...spec, toml: limits });
      const id = await send(house);
      await house.until(id, 'model.started');
      await clock.armed(100_000);
      clock.advance(100_000);
      await house.until(id, 'interrupt.accepted');
      house = await house.again({ script: { gateway: answers({}) } });
      expect((await house.turnDone(id)).data).toMatchObject({ outcome: 'timeout', reason });
    },
  );

  test('or that a person stopped: the first cause is the one that stays', async () => {
    const gateway = answers({ '1.1': never });
    let house = await createHouse({ script: { gateway } });
    const id = await send(house);
    await house.until(id, 'model.started');
    void house.supervisor.interrupt(id, 'someone').catch(() => undefined);
    await house.until(id, 'interrupt.accepted');
    house = await house.again({ script: { gateway: answers({}) } });
    const reason = 'interrupted by someone';
    expect((await house.turnDone(id)).data).toMatchObject({ outcome: 'interrupted', reason });
  });
});

describe('the model that a failed attempt names for the next one', () => {
  test('is asked by the next supervisor', async () => {
    const clock = createSteppedClock();
    const first = answers({ '1.1#1': failed('PROVIDER_UNREACHABLE', 60_000, 'second-model') });
    const env = { PRX_MODEL: 'first-model' };
    let house = await createHouse({ clock, env, script: { gateway: first } });
    const id = await send(house);
    await house.until(id, 'model.failed');
    const gateway = answers({ '1.1': say('done') });
    house = await house.again({ script: { gateway } });
    await house.turnDone(id);
    const events = await house.events(id);
    expect(dataOf(events, 'model.started').map(({ model }) => model)).toEqual([
      'first-model',
      'second-model',
    ]);
    expect(dataOf(events, 'model.failed')).toMatchObject([{ next_model: 'second-model' }]);
  });
});
