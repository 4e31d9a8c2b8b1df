/** A call that needs a person: durable, answered once, from anywhere, also after a restart. */
import { afterEach, describe, expect, test } from '@jest/globals';
import type { EffectId, SessionId } from '../../../protocol/ids.ts';
import type { ResolveApproval } from '../../../protocol/resources.ts';
import { createHouse, demolish, type House, type HouseSpec } from '../house.ts';
import { overStore, refusingOnce } from '../over-store.ts';
import { answers, call, createLatch, dataOf, runsEverything, say, typesOf } from '../script.ts';
import { createSteppedClock } from '../stepped-clock.ts';

afterEach(demolish);

const toml = `[security.tool_policy]\ndefault = "supervised"`;
const first = '1.1.1' as EffectId;
const second = '1.1.2' as EffectId;

async function asking(
  spec: HouseSpec = {},
  calls = [call('a', 'rm x')],
): Promise<{ house: House; id: SessionId; host: ReturnType<typeof runsEverything> }> {
  const gateway = answers({ '1.1': say('', calls), '1.2': say('so be it') });
  const host = runsEverything();
  const house = await createHouse({ toml, ...spec, script: { gateway, host } });
  const id = await house.create();
  await house.send(id, 'hello');
  await house.until(id, 'approval.requested', calls.length);
  return { house, id, host };
}

const answer = (house: House, id: SessionId, effect: EffectId, how: ResolveApproval) =>
  house.supervisor.resolveApproval(id, effect, how, 'someone');

const outcomeOf = async (house: House, id: SessionId) =>
  dataOf(await house.events(id), 'tool.completed');

describe('an approval', () => {
  test('[event:approval.requested] [event:approval.resolved] asked: the session waits; approved: the call runs once, and the turn ends', async () => {
    const { house, id, host } = await asking();
    await house.until(id, ({ data }) => (data as { to?: string }).to === 'awaiting');
    expect(await house.supervisor.getSession(id)).toMatchObject({
      state: 'awaiting',
      activity: 'waiting',
      pending_approvals: 1,
    });
    const [pending] = await house.supervisor.listApprovals();
    expect(pending).toMatchObject({ session: id, call_id: first, tool: 'shell' });
    expect(pending?.arguments).toEqual({ command: 'rm x' });
    await answer(house, id, first, { decision: 'approve' });
    await house.turnDone(id);
    expect(host.runs).toEqual([first]);
    const events = await house.events(id);
    expect(dataOf(events, 'approval.resolved')).toMatchObject([
      { decision: 'approve', by: 'someone' },
    ]);
    expect((await house.supervisor.getSession(id)).state).toBe('running');
  });

  test('denied: the model reads who and why; nothing runs', async () => {
    const { house, id, host } = await asking();
    await answer(house, id, first, { decision: 'deny', reason: 'too risky' });
    await house.turnDone(id);
    expect(host.runs).toEqual([]);
    expect(await outcomeOf(house, id)).toMatchObject([
      { status: 'denied', output: expect.stringContaining('denied by someone: too risky') },
    ]);
  });

  test('edited: what the person wrote is what runs', async () => {
    const { house, id, host } = await asking();
    const edit = { decision: 'approve' as const, arguments: { command: 'ls x' } };
    await answer(house, id, first, edit);
    await house.turnDone(id);
    expect(host.seen.map((run) => run.arguments)).toEqual([{ command: 'ls x' }]);
  });

  test('edited badly: refused, and still pending', async () => {
    const { house, id } = await asking();
    const edit = { decision: 'approve' as const, arguments: { comand: 'ls' } };
    await expect(answer(house, id, first, edit)).rejects.toMatchObject({
      code: 'TOOL_ARGUMENTS_INVALID',
    });
    expect(await house.supervisor.listApprovals()).toHaveLength(1);
  });

  test('scope session: the tool is not asked for again in this session', async () => {
    const { house, id } = await asking();
    await answer(house, id, first, { decision: 'approve', scope: 'session' });
    await house.turnDone(id);
    house.machine.script = {
      ...house.machine.script,
      gateway: answers({ '2.1': say('', [call('b', 'rm y')]) }),
    };
    await house.send(id, 'again');
    await house.turnDone(id, 2);
    const decided = dataOf(await house.events(id), 'tool.decided');
    expect(decided).toMatchObject([{ decision: 'ask' }, { decision: 'allow', by: 'session' }]);
  });

  test('unknown, or answered before: named errors', async () => {
    const { house, id } = await asking();
    await expect(
      answer(house, id, '1.1.9' as EffectId, { decision: 'approve' }),
    ).rejects.toMatchObject({
      code: 'APPROVAL_NOT_FOUND',
      message: expect.stringContaining('pending: 1.1.1'),
    });
    const both = await Promise.allSettled([
      answer(house, id, first, { decision: 'approve' }),
      answer(house, id, first, { decision: 'deny' }),
    ]);
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    await house.turnDone(id);
    expect(dataOf(await house.events(id), 'approval.resolved')).toHaveLength(1);
  });

  test('two at once: the state follows the last one', async () => {
    const { house, id } = await asking({}, [call('a', 'rm x'), call('b', 'rm y')]);
    await answer(house, id, first, { decision: 'approve' });
    expect((await house.supervisor.getSession(id)).state).toBe('awaiting');
    await answer(house, id, second, { decision: 'deny' });
    await house.turnDone(id);
    expect((await house.supervisor.getSession(id)).state).toBe('running');
  });
});

test('a request that crosses an answer leaves the session waiting (regression)', async () => {
  const gateway = answers({ '1.1': say('', [call('a', 'x'), call('b', 'y')]) });
  let requests = 0;
  const answered = createLatch();
  const house: House = await createHouse({
    toml,
    script: { gateway },
    wrapStore: (store) =>
      overStore(store, {
        async append(request) {
          const types = request.events.map(({ type }) => type);
          const appended = await store.append(request);
          if (types.includes('approval.resolved')) answered.open();
          // The second request is durable, and not heard of, when the first is answered.
          if (types.includes('approval.requested')) requests += 1;
          if (types.includes('approval.requested') && requests === 2) await answered.opened;
          return appended;
        },
      }),
  });
  const id = await house.create();
  await house.send(id, 'hello');
  await house.until(id, 'approval.requested');
  await answer(house, id, first, { decision: 'approve' });
  await house.until(id, 'approval.requested', 2);
  const waiting = ({ data }: { data: unknown }) => (data as { to?: string }).to === 'awaiting';
  await house.until(id, waiting, 2);
  expect(await house.supervisor.getSession(id)).toMatchObject({
    state: 'awaiting',
    pending_approvals: 1,
  });
  await answer(house, id, second, { decision: 'approve' });
  await house.turnDone(id);
  expect((await house.supervisor.getSession(id)).state).toBe('running');
});

describe('[config:security.approval.timeout_secs] an approval nobody answers', () => {
  test('[config:security.approval.on_timeout] is denied, and says so', async () => {
    const { house, id, host } = await asking({
      toml: `${toml}\n[security.approval]\ntimeout_secs = 0.05\non_timeout = "deny"`,
    });
    await house.turnDone(id);
    expect(host.runs).toEqual([]);
    const events = await house.events(id);
    expect(dataOf(events, 'approval.resolved')).toMatchObject([
      { decision: 'timeout', by: 'timeout' },
    ]);
    expect(await outcomeOf(house, id)).toMatchObject([{ status: 'denied' }]);
  });

  test('is denied later when the journal could not be written (regression)', async () => {
    const clock = createSteppedClock();
    const disk = { isFull: false };
    const { house, id } = await asking({
      clock,
      wrapStore: refusingOnce('approval.resolved', disk, new Error('ENOSPC')),
    });
    await clock.armed(300_000);
    disk.isFull = true;
    clock.advance(300_000);
    await clock.armed(1000);
    expect(disk.isFull).toBe(false);
    clock.advance(1000);
    await house.turnDone(id);
    expect(dataOf(await house.events(id), 'approval.resolved')).toMatchObject([
      { decision: 'timeout' },
    ]);
  });
});

describe('after a restart of the supervisor', () => {
  test('an approval is still pending, and is answered there', async () => {
    const { house, id } = await asking();
    const host = runsEverything();
    const gateway = answers({ '1.2': say('so be it') });
    const next = await house.again({ script: { gateway, host } });
    expect(await next.supervisor.listApprovals()).toMatchObject([{ call_id: first }]);
    await answer(next, id, first, { decision: 'approve' });
    await next.turnDone(id);
    expect(host.runs).toEqual([first]);
    const events = await next.events(id);
    expect(dataOf(events, 'approval.requested')).toHaveLength(1);
    expect(gateway.requests).toEqual(['1.2#1']);
    expect((await next.supervisor.getSession(id)).state).toBe('running');
  });

  test('one waits no longer than it may from then on, where the wall clock was set back (FAULTS 21) (regression)', async () => {
    const stepped = createSteppedClock();
    const { house, id } = await asking({ clock: stepped });
    const earlier = createSteppedClock(stepped.wallMs() - 3_600_000);
    const next = await house.again({
      clock: earlier,
      script: { gateway: answers({ '1.2': say('no') }) },
    });
    // The built-in timeout_secs.
    await earlier.armed(300_000);
    earlier.advance(300_000);
    await next.turnDone(id);
    expect(dataOf(await next.events(id), 'approval.resolved')).toMatchObject([
      { decision: 'timeout' },
    ]);
  });

  test('one that was answered before anybody asked is not waited for (regression)', async () => {
    const { house, id } = await asking({}, [call('a', 'rm x'), call('b', 'rm y')]);
    const reads = createLatch();
    const host = runsEverything();
    const next: House = await house.again({
      script: { gateway: answers({ '1.2': say('so be it') }), host },
      wrapStore: (store) =>
        overStore(store, {
          async readEffect(session, effect) {
            const past = await store.readEffect(session, effect);
            if (effect === first && !typesOf(past).includes('approval.resolved')) {
              // The person answers between our look into the journal and the wait.
              reads.open();
              await next.until(id, 'approval.resolved', 2);
            }
            return past;
          },
        }),
    });
    // Brings a worker, which asks for both.
    await answer(next, id, second, { decision: 'deny' });
    await reads.opened;
    await answer(next, id, first, { decision: 'approve' });
    await next.turnDone(id);
    expect(host.runs).toEqual([first]);
  });

  test('an interrupt ends a turn whose approval nobody waits for (regression)', async () => {
    const { house, id } = await asking();
    const onStart = (): never => {
      throw new Error('no worker yet');
    };
    const broken = {
      onStart: (room: string): void => {
        if (room === 'worker') onStart();
      },
    };
    const next = await house.again({
      toml: `${toml}\n[agent.worker]\nmax_restart_attempts = 100`,
      script: { gateway: answers({}), host: runsEverything(), ...broken },
    });
    await next.supervisor.interrupt(id, 'test');
    await next.turnDone(id);
    const events = await next.events(id);
    expect(dataOf(events, 'approval.resolved')).toMatchObject([{ decision: 'cancelled' }]);
    expect(await outcomeOf(next, id)).toMatchObject([{ status: 'cancelled' }]);
    expect((await next.supervisor.getSession(id)).state).toBe('running');
  });
});

test.each([
  ['never', 'denied', 0],
  ['all', 'ok', 1],
] as const)('a session with approve = %s is not asked: %s', async (approve, status, runs) => {
  const gateway = answers({ '1.1': say('', [call('a', 'rm x')]) });
  const host = runsEverything();
  const house = await createHouse({ toml, script: { gateway, host } });
  const id = await house.create({ approve });
  await house.send(id, 'hello');
  await house.turnDone(id);
  expect(host.runs).toHaveLength(runs);
  expect(await outcomeOf(house, id)).toMatchObject([{ status }]);
});
