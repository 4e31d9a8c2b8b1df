/** Those who fork: they work in the copy, and remove it in the midst of that, or keep it. */
import { isPrxError } from '../../base/errors.ts';
import type { Random } from '../../base/random.ts';
import type { SessionId } from '../../protocol/ids.ts';
import { ask, follow, insist, isPassing, type Phase, sendInput } from './clients.ts';
import { createScript, drawInt } from './script.ts';
import type { World } from './world.ts';

const FORKS_MAX = 3;
const KEPT = 0.4;

export interface Branching {
  /** Until it is over. */
  readonly storm: Phase;
  /** Copies are watched until then. */
  readonly show: Phase;
  /** Hears of each copy that stays: a session as any other. */
  readonly onKept: (fork: SessionId) => void;
}

/** In some runs nobody does. */
export const isBranching = (world: World): boolean => world.random('branches').next() < 0.4;

export async function branch(
  world: World,
  session: SessionId,
  { storm, show, onKept }: Branching,
): Promise<void> {
  const random = world.random(`brancher/${session}`);
  const work: Promise<unknown>[] = [];
  for (let left = drawInt(random, 0, FORKS_MAX); left > 0; left -= 1) {
    await Promise.race([storm.over, world.time.sleep(random.next() * 6000)]);
    if (storm.isOver()) break;
    const fork = await tryFork(world, random, session);
    if (fork === undefined) continue;
    const watching = follow(world, { session: fork, name: `${fork} 0` }, show);
    const sending = sendSome(world, random, fork);
    for (const each of [watching, sending]) each.catch(() => undefined); // Heard of below.
    await world.time.sleep(random.next() ** 2 * 4000);
    if (random.next() < KEPT) {
      onKept(fork);
      work.push(sending);
      continue;
    }
    await remove(world, random, fork);
    work.push(untilRemoved(watching), untilRemoved(sending));
  }
  await Promise.all(work);
}

/** Undefined: it is not known whether there is one. */
async function tryFork(
  world: World,
  random: Random,
  session: SessionId,
): Promise<SessionId | undefined> {
  try {
    return (await ask(world, random, (each) => each.fork(session, undefined, undefined))).id;
  } catch (error) {
    if (!isPassing(error)) throw error;
    return undefined;
  }
}

async function sendSome(world: World, random: Random, session: SessionId): Promise<void> {
  for (let index = drawInt(random, 0, 2); index > 0; index -= 1) {
    const script = createScript(`${session}-${index}`, random);
    const own = world.random(`input/${script.key}`);
    await sendInput(world, own, { session, script, onBusy: 'enqueue' });
  }
}

/** What was answered stands: it is gone, and stays so. */
async function remove(world: World, random: Random, session: SessionId): Promise<void> {
  await insist(world, random, (each) => each.deleteSession(session, 'brancher')).catch(isGone);
  if (!world.disk.sessions.has(session)) return;
  world.record({ kind: 'stuck', session, why: 'it was removed, and is there' });
}

const untilRemoved = (work: Promise<unknown>): Promise<unknown> => work.catch(isGone);

function isGone(error: unknown): void {
  if (!isPrxError(error, 'SESSION_NOT_FOUND')) throw error;
}
