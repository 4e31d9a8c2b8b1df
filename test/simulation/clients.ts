/** The clients of a simulated world: senders that send again after doubt, a person who interrupts,
 *  suspends, closes and restarts, one who answers approvals, and followers that come and go. They
 *  talk to whichever supervisor lives, and believe nothing but an answer. */
import { isPrxError, toPrxError } from '../../base/errors.ts';
import type { Random } from '../../base/random.ts';
import type { EventEnvelope } from '../../protocol/events.ts';
import type { SessionId } from '../../protocol/ids.ts';
import type { Supervisor } from '../../supervisor/index.ts';
import { drawInt, drawOne, type TurnScript, toText } from './script.ts';
import type { World } from './world.ts';

/** No answer came: the deed may be done or not. */
class Doubt extends Error {}

const ANSWER_MS_MAX = 120_000;
/** Chance that an answer is lost on its way back. */
const LOST = 0.03;

/** Asks the supervisor that lives now. Rejects with Doubt, or with its PrxError. */
export async function ask<T>(
  world: World,
  random: Random,
  act: (supervisor: Supervisor) => Promise<T>,
): Promise<T> {
  await world.time.sleep(random.next() * 2);
  const current = world.current();
  if (current === undefined || !current.isReady() || current.isFrozen()) {
    await world.time.sleep(50);
    throw new Doubt('no supervisor answers');
  }
  const doubt = (why: string) => (): never => {
    throw new Doubt(why);
  };
  const waited = new AbortController();
  const answer = await Promise.race([
    act(current.supervisor),
    current.ended.then(doubt('the supervisor died')),
    world.time.sleep(ANSWER_MS_MAX, waited.signal).then(doubt('no answer in time')),
  ]).finally(() => waited.abort());
  if (random.next() < LOST) throw new Doubt('the answer was lost');
  return answer;
}

/** Troubles that pass: the same request is made again. */
const passing = ['STORE_DEGRADED', 'SHUTTING_DOWN', 'AT_CAPACITY', 'QUEUE_FULL'];

export const isPassing = (error: unknown): boolean =>
  error instanceof Doubt || passing.includes(toPrxError(error).code);

/** Repeats until there is an answer, or an error that is one. */
export async function insist<T>(
  world: World,
  random: Random,
  act: (supervisor: Supervisor) => Promise<T>,
): Promise<T> {
  for (;;) {
    try {
      return await ask(world, random, act);
    } catch (error) {
      if (!isPassing(error)) throw error;
      await world.time.sleep(drawInt(random, 10, 500));
    }
  }
}

/** A part of a run that its clients take part in until it is over. */
export interface Phase {
  isOver(): boolean;
  readonly over: Promise<void>;
  end(): void;
}

export function createPhase(): Phase {
  let isOver = false;
  let resolve: () => void = () => undefined;
  const over = new Promise<void>((done) => {
    resolve = done;
  });
  return {
    over,
    isOver: () => isOver,
    end() {
      isOver = true;
      resolve();
    },
  };
}

export interface Sent {
  readonly session: SessionId;
  readonly key: string;
  readonly inputId: string | undefined;
}

export interface Input {
  readonly session: SessionId;
  readonly script: TurnScript;
  readonly onBusy: 'enqueue' | 'interrupt' | 'steer' | 'reject';
}

/** Sends one input until it is answered for good. Undefined input id: it was refused. */
export async function sendInput(world: World, random: Random, input: Input): Promise<Sent> {
  const { session, script, onBusy } = input;
  const { key } = script;
  for (;;) {
    try {
      const params = { text: toText(script), idempotency_key: key, on_busy: onBusy };
      const send = (): Promise<{ input_id: string; seq: number }> =>
        ask(world, random, (supervisor) => supervisor.acceptInput(session, params, 'sender'));
      const { input_id: inputId, seq } = await send();
      world.record({ kind: 'accepted', session, key, inputId, seq });
      // Now and then it forgets that it was answered, and sends again.
      if (random.next() < 0.1) throw new Doubt('it forgot');
      return { session, key, inputId };
    } catch (error) {
      if (isPrxError(error, 'SESSION_BUSY')) {
        world.record({ kind: 'refused', session, key });
        return { session, key, inputId: undefined };
      }
      const isClosed = isPrxError(error, 'SESSION_NOT_OPEN');
      if (!isClosed && !isPassing(error)) throw error;
      await world.time.sleep(drawInt(random, 10, isClosed ? 3000 : 500));
    }
  }
}

/** `restart` clears the count of deaths, which the journal does not show. */
export async function restart(world: World, random: Random, session: SessionId): Promise<void> {
  world.record({ kind: 'forgiven', session });
  try {
    await ask(world, random, (supervisor) => supervisor.restart(session, 'operator'));
  } finally {
    world.record({ kind: 'forgiven', session });
  }
}

/** A person at work on one session; every refusal of a state is an answer. */
export async function operate(world: World, session: SessionId, phase: Phase): Promise<void> {
  const random = world.random(`operator/${session}`);
  while (!phase.isOver()) {
    await world.time.sleep(random.next() * 12_000);
    if (phase.isOver()) return;
    const command = drawOne(random, commands);
    try {
      if (command === 'restart') await restart(world, random, session);
      else await ask(world, random, (supervisor) => supervisor[command](session, 'operator'));
    } catch (error) {
      if (!isPassing(error) && !isPrxError(error, 'STATE_INVALID')) throw error;
    }
  }
}

/** In some runs nobody waits: a pause ends as soon as it is granted, the configuration is read
 *  again in the midst of everything, and the wall clock is set. */
export const isHasty = (world: World): boolean => world.random('hurry').next() < 0.3;

/** Suspends and resumes without a moment in between. */
export async function waver(world: World, session: SessionId, phase: Phase): Promise<void> {
  const random = world.random(`waverer/${session}`);
  while (!phase.isOver()) {
    await world.time.sleep(random.next() * 4000);
    if (phase.isOver()) return;
    try {
      await ask(world, random, (each) => each.suspend(session, 'waverer'));
      await ask(world, random, (each) => each.resume(session, 'waverer'));
    } catch (error) {
      if (!isPassing(error) && !isPrxError(error, 'STATE_INVALID')) throw error;
    }
  }
}

/** An administrator: reloads, and sets the clock of the machine. */
export async function administer(world: World, phase: Phase): Promise<void> {
  const random = world.random('administrator');
  while (!phase.isOver()) {
    await world.time.sleep(random.next() * 5000);
    if (phase.isOver()) return;
    if (random.next() < 0.3) {
      world.time.setWall(drawInt(random, -1, 2) * 3_600_000 * random.next());
      continue;
    }
    await ask(world, random, (each) => each.reload()).catch((error: unknown) => {
      // A gateway that stands still does not hear of its settings.
      if (!isPassing(error) && !isPrxError(error, 'DEADLINE_EXCEEDED')) throw error;
    });
  }
}

const commands = [
  'interrupt',
  'interrupt',
  'interrupt',
  'suspend',
  'resume',
  'resume',
  'restart',
  'restart',
  'close',
] as const;

/** Another answer was there first, or its session is gone. */
const answered = ['APPROVAL_NOT_FOUND', 'APPROVAL_RESOLVED', 'SESSION_NOT_FOUND'];

/** Answers approvals, slowly, and some of them never. */
export async function approve(world: World, phase: Phase): Promise<void> {
  const random = world.random('approver');
  const ignored = new Set<string>();
  while (!phase.isOver()) {
    await world.time.sleep(random.next() * 1500);
    try {
      const pending = await ask(world, random, (supervisor) => supervisor.listApprovals());
      for (const { session, call_id: call } of pending) {
        if (ignored.has(`${session} ${call}`)) continue;
        const draw = random.next();
        if (draw < 0.1) ignored.add(`${session} ${call}`);
        if (draw < 0.1) continue;
        const decision = draw < 0.3 ? ('deny' as const) : ('approve' as const);
        const scope = draw > 0.9 ? ('session' as const) : ('once' as const);
        const resolve = (supervisor: Supervisor): Promise<void> =>
          supervisor.resolveApproval(session, call, { decision, scope }, 'approver');
        await ask(world, random, resolve);
      }
    } catch (error) {
      if (!isPassing(error) && !answered.includes(toPrxError(error).code)) throw error;
    }
  }
}

export interface Follower {
  readonly session: SessionId;
  readonly name: string;
}

/** Follows one session from its start, over every break of the connection, from its last event. */
export async function follow(world: World, follower: Follower, phase: Phase): Promise<void> {
  const { session, name } = follower;
  const random = world.random(`follower/${name}`);
  let last: { seq: number; epoch: number } | undefined;
  while (!phase.isOver()) {
    const end = new AbortController();
    const patienceMs = random.next() < 0.3 ? random.next() * 5000 : Number.POSITIVE_INFINITY;
    try {
      const since = last?.seq ?? 0;
      const cursor = last === undefined ? {} : { epoch: last.epoch };
      const options = { since, ...cursor, signal: end.signal };
      const events = await ask(world, random, (each) => each.followEvents(session, options));
      world.record({ kind: 'opened', follower: name, session, since });
      const onEvent = (event: EventEnvelope): void => {
        last = { seq: event.seq, epoch: event.epoch };
        world.record({ kind: 'seen', follower: name, event });
      };
      await hear(world, events, { random, patienceMs, phase, onEvent });
    } catch (error) {
      if (isPrxError(error, 'CURSOR_SUPERSEDED')) {
        const lastGoodSeq = Number(error.data['last_good_seq']);
        world.record({ kind: 'superseded', follower: name, lastGoodSeq });
        last = { seq: lastGoodSeq, epoch: world.disk.epoch };
      } else if (!isPassing(error)) throw error;
    } finally {
      end.abort();
    }
    await world.time.sleep(random.next() * 1000);
  }
}

interface Hearing {
  readonly random: Random;
  readonly patienceMs: number;
  readonly phase: Phase;
  readonly onEvent: (event: EventEnvelope) => void;
}

/** Hears a stream until it ends, its supervisor does, or the client goes away. */
async function hear(
  world: World,
  events: AsyncIterable<EventEnvelope>,
  { random, patienceMs, phase, onEvent }: Hearing,
): Promise<void> {
  const incarnation = world.current();
  if (incarnation === undefined) return;
  const iterator = events[Symbol.asyncIterator]();
  const gone = Promise.race([incarnation.ended, phase.over]).then(() => undefined);
  const waited = new AbortController();
  const left = world.time.sleep(patienceMs, waited.signal).then(() => undefined);
  try {
    for (;;) {
      const next = await Promise.race([iterator.next(), gone, left]);
      if (next === undefined || next.done === true || !incarnation.isAlive()) return;
      onEvent(next.value);
      // A slow reader: its live queue overflows and it is served from the journal.
      if (random.next() < 0.02) await world.time.sleep(random.next() * 3000);
    }
  } finally {
    waited.abort();
  }
}
