/** One run: a storm of work and faults, then a healed world in which every session must complete
 *  a few more turns, then a stop after which nothing may be left. */
import type { Random } from '../../base/random.ts';
import type { SessionId } from '../../protocol/ids.ts';
import { branch, isBranching } from './branches.ts';
import {
  administer,
  approve,
  ask,
  createPhase,
  follow,
  type Input,
  insist,
  isHasty,
  operate,
  type Phase,
  restart,
  sendInput,
  waver,
} from './clients.ts';
import { type FaultPlan, heal, injectFaults, startAgain } from './faults.ts';
import { createScript, drawInt, drawOne, echoScript } from './script.ts';
import type { World } from './world.ts';

const ECHOES = 3;
/** A healed world has this long for all that is left to do, virtual ms. */
const HEALED_MS_MAX = 3_600_000;
const POLL_MS = 500;
/** After the stop: effects that run have at most this long (the provider's total timeout). */
const AFTERLIFE_MS = 3_700_000;

export interface ScenarioDeps {
  readonly world: World;
  readonly plan: FaultPlan;
  /** Sequence number up to which a follower has seen its session. */
  readonly seenBy: (follower: string) => number;
}

export async function playScenario({ world, plan, seenBy }: ScenarioDeps): Promise<void> {
  const random = world.random('scenario');
  const storm = createPhase();
  const show = createPhase();
  world.boot()?.ready.catch(() => undefined);
  const sessions = await createSessions(world, random);
  const followers = sessions.flatMap((session) =>
    Array.from({ length: drawInt(random, 1, 2) }, (_, index) => ({
      session,
      name: `${session} ${index}`,
    })),
  );
  const forks: SessionId[] = [];
  const onKept = (fork: SessionId): void => void forks.push(fork);
  const branching = isBranching(world)
    ? sessions.map((session) => branch(world, session, { storm, show, onKept }))
    : [];
  const background = [
    ...followers.map((follower) => follow(world, follower, show)),
    approve(world, show),
  ];
  const senders = sessions.map((session) => sendAll(world, session));
  const haste = isHasty(world)
    ? [administer(world, storm), ...sessions.map((session) => waver(world, session, storm))]
    : [];
  const storming = [
    injectFaults(world, plan, storm),
    ...haste,
    ...sessions.map((session) =>
      random.next() < 0.6 ? operate(world, session, storm) : undefined,
    ),
  ];
  await Promise.race([
    world.time.sleep(plan.durationMs),
    failed([...background, ...senders, ...branching]),
  ]);
  storm.end();
  await Promise.all(storming);
  await restore(world, random);
  const opening = createPhase();
  const opener = [...sessions, ...forks].map((session) => keepOpen(world, session, opening));
  const working = [...senders, ...branching];
  await bounded(world, [...working, failed(background)], 'senders', working);
  await echoAll(world, [...sessions, ...forks], background);
  opening.end();
  await Promise.all(opener);
  await waitFor(world, () =>
    followers.every(({ session, name }) => seenBy(name) === lastSeq(world, session)),
  ).catch(() => reportBlind(world, followers, seenBy));
  show.end();
  await Promise.all(background);
  await stopAll(world, random);
}

async function createSessions(world: World, random: Random): Promise<SessionId[]> {
  const sessions: SessionId[] = [];
  for (let count = drawInt(random, 1, 3); count > 0; count -= 1) {
    const params = {
      // A folder that is on every machine; nothing is written there.
      // A folder that is there, and nobody's home. Nothing is written to it.
      workspace: import.meta.dirname,
      idempotency_key: `session-${count}`,
      approve: drawOne(random, ['ask', 'ask', 'all', 'never'] as const),
    };
    const { view } = await insist(world, random, (each) => each.createSession(params, 'sender'));
    sessions.push(view.id);
  }
  return sessions;
}

async function sendAll(world: World, session: SessionId): Promise<void> {
  const random = world.random(`sender/${session}`);
  const count = drawInt(random, 1, 4);
  const sending: Promise<unknown>[] = [];
  for (let index = 1; index <= count; index += 1) {
    const script = createScript(`${session}-${index}`, random);
    const onBusy = drawOne(random, busyWays);
    sending.push(
      sendInput(world, world.random(`input/${script.key}`), { session, script, onBusy }),
    );
    await world.time.sleep(random.next() ** 2 * 6000);
  }
  await Promise.all(sending);
}

const busyWays: readonly Input['onBusy'][] = [
  'enqueue',
  'enqueue',
  'enqueue',
  'steer',
  'steer',
  'interrupt',
  'reject',
];

async function restore(world: World, random: Random): Promise<void> {
  heal(world);
  const current = world.current();
  if (current === undefined) startAgain(world, random);
  await waitFor(world, () => world.current()?.isReady() === true);
}

/** A session that is suspended, closed or failed is brought back. */
async function keepOpen(world: World, session: SessionId, phase: Phase): Promise<void> {
  const random = world.random(`keeper/${session}`);
  while (!phase.isOver()) {
    await world.time.sleep(POLL_MS);
    try {
      const { state } = await ask(world, random, (each) => each.getSession(session));
      if (state === 'suspended') await ask(world, random, (each) => each.resume(session, 'keeper'));
      else if (state === 'failed' || state === 'stopped') {
        await restart(world, random, session);
      }
    } catch {
      // It looks again.
    }
  }
}

/** Every session works: a few more turns each, to their end. */
async function echoAll(
  world: World,
  sessions: readonly SessionId[],
  background: readonly Promise<void>[],
): Promise<void> {
  const sent = sessions.flatMap((session) =>
    Array.from({ length: ECHOES }, (_, index) => {
      const script = echoScript(`${session}-echo-${index}`);
      const input: Input = { session, script, onBusy: 'enqueue' };
      return sendInput(world, world.random(`input/${script.key}`), input);
    }),
  );
  await bounded(world, [...sent, failed(background)], 'echoes', sent);
  const isDone = (session: SessionId): boolean => {
    const record = world.disk.records.get(session);
    return record?.open_turn === undefined && record?.queued.length === 0;
  };
  await waitFor(world, () => sessions.every(isDone)).catch(() => {
    for (const session of sessions.filter((each) => !isDone(each))) {
      const { state, state_reason, open_turn } = world.disk.records.get(session) ?? {};
      const why = JSON.stringify({ state, state_reason, open_turn });
      world.record({ kind: 'stuck', session, why });
    }
  });
}

/** Rejects when one of these does; never resolves. */
function failed(work: readonly Promise<unknown>[]): Promise<never> {
  return new Promise((_, reject) => {
    for (const each of work) each.catch(reject);
  });
}

async function bounded(
  world: World,
  work: readonly Promise<unknown>[],
  what: string,
  all: readonly Promise<unknown>[],
): Promise<void> {
  const waited = new AbortController();
  const late = world.time.sleep(HEALED_MS_MAX, waited.signal).then(() => 'late' as const);
  const [...others] = work.slice(all.length);
  const done = await Promise.race([Promise.all(work.slice(0, all.length)), late, ...others]);
  waited.abort();
  if (done === 'late')
    world.record({ kind: 'stuck', session: '', why: `the ${what} wait for ever` });
}

async function waitFor(world: World, isTrue: () => boolean): Promise<void> {
  const untilMs = world.time.nowMs() + HEALED_MS_MAX;
  while (!isTrue()) {
    if (world.time.nowMs() > untilMs) throw new RangeError('it did not come');
    await world.time.sleep(POLL_MS);
  }
}

const lastSeq = (world: World, session: SessionId): number =>
  world.disk.records.get(session)?.last_seq ?? 0;

function reportBlind(
  world: World,
  followers: readonly { session: SessionId; name: string }[],
  seenBy: (follower: string) => number,
): void {
  for (const { session, name } of followers) {
    const seen = seenBy(name);
    const last = lastSeq(world, session);
    if (seen !== last) {
      world.record({
        kind: 'stuck',
        session,
        why: `follower ${name} saw ${seen} of ${last} events`,
      });
    }
  }
}

async function stopAll(world: World, random: Random): Promise<void> {
  await waitFor(world, () => world.current()?.isReady() === true);
  const current = world.current();
  if (current === undefined) throw new RangeError('the healed world has a supervisor');
  world.close();
  const stop = random.next() < 0.5;
  if (stop) {
    await current.supervisor.requestStop(1000, 'the end');
    await Promise.race([current.ended, world.time.sleep(60_000)]);
    if (current.isAlive())
      world.record({ kind: 'stuck', session: '', why: 'the stop does not end' });
  }
  world.crash();
  await world.time.sleep(AFTERLIFE_MS);
  world.record({ kind: 'survived', pids: world.machine.live().map(({ pid }) => pid) });
}
