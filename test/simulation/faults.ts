/** What goes wrong. Each run draws which kinds of fault it has and how often they come (a run with
 *  few kinds reaches states that a run with all of them never does); each fault ends by itself or
 *  when the world is healed. */
import { isPrxError } from '../../base/errors.ts';
import type { Random } from '../../base/random.ts';
import type { Phase } from './clients.ts';
import type { Room } from './facts.ts';
import type { SimulatedProcess } from './machine.ts';
import { drawOne } from './script.ts';
import { fairWeather, type World } from './world.ts';

export const faultKinds = [
  'kill worker',
  'freeze worker',
  'babble worker',
  'kill gateway',
  'freeze gateway',
  'babble gateway',
  'kill host',
  'freeze host',
  'babble host',
  'kill supervisor',
  'stop supervisor',
  'freeze supervisor',
  'lose power',
  'fill disk',
  'slow disk',
  'slow pipes',
  'provider fails',
  'starts fail',
] as const;
export type FaultKind = (typeof faultKinds)[number];

export interface FaultPlan {
  readonly kinds: readonly FaultKind[];
  /** Mean time between two faults. */
  readonly everyMs: number;
  readonly durationMs: number;
}

export function drawPlan(random: Random): FaultPlan {
  const isCalm = random.next() < 0.08;
  const share = random.next();
  const kinds = isCalm ? [] : faultKinds.filter(() => random.next() < 0.15 + share * 0.6);
  const everyMs = drawOne(random, [150, 500, 1500, 4000]);
  return { kinds, everyMs, durationMs: drawOne(random, [3000, 10_000, 30_000]) };
}

const WEATHER_MS_MAX = 5000;

/** Injects faults until the phase is over. */
export async function injectFaults(world: World, plan: FaultPlan, phase: Phase): Promise<void> {
  const random = world.random('faults');
  if (plan.kinds.length === 0) return;
  while (!phase.isOver()) {
    await world.time.sleep(-Math.log(1 - random.next()) * plan.everyMs);
    if (phase.isOver()) return;
    inject(world, drawOne(random, plan.kinds), random);
  }
}

/** Of what it is for there may be none: then nothing happens. */
export function inject(world: World, kind: FaultKind, random: Random): void {
  const [what, on = ''] = kind.split(' ');
  const room = rooms[on];
  if (room !== undefined) {
    const live = world.machine.live(room);
    if (live.length === 0) return;
    const target = drawOne(random, live);
    world.record({ kind: 'fault', fault: kind, target: String(target.pid) });
    strike(world, target, what ?? '', random);
    return;
  }
  const current = world.current();
  if (on === 'supervisor' && (current === undefined || current.isFrozen())) return;
  world.record({ kind: 'fault', fault: kind, target: '' });
  changes[kind]?.(world, random);
}

const rooms: Readonly<Record<string, Room>> = {
  worker: 'worker',
  gateway: 'gateway',
  host: 'sandbox',
};

function strike(world: World, target: SimulatedProcess, what: string, random: Random): void {
  if (what === 'kill') target.die({ code: undefined, signal: 'SIGKILL' });
  else if (what === 'babble') target.babble();
  else {
    target.freeze();
    world.time.setTimer(random.next() ** 2 * 60_000, () => target.thaw());
  }
}

/** What strikes no single process. */
const changes: { readonly [kind: string]: (world: World, random: Random) => void } = {
  'kill supervisor'(world, random) {
    world.crash();
    startAgain(world, random);
  },
  'lose power'(world, random) {
    world.losePower();
    startAgain(world, random);
  },
  'stop supervisor'(world, random) {
    void world.current()?.supervisor.requestStop(random.next() * 1000, 'SIGTERM');
    startAgain(world, random);
  },
  'freeze supervisor'(world, random) {
    world.freezeSupervisor();
    world.time.setTimer(random.next() ** 2 * 30_000, () => world.thawSupervisor());
  },
  'fill disk'(world, random) {
    world.disk.isFull = true;
    clearLater(world, random, () => {
      world.disk.isFull = false;
    });
  },
  'slow disk': ({ weather, ...world }, random) => {
    weather.store = { commitMsMax: 50, syncMsMax: 500 };
    clearLater(world, random, () => {
      weather.store = fairWeather().store;
    });
  },
  'slow pipes': ({ weather, ...world }, random) => {
    weather.delayMsMax = 300;
    clearLater(world, random, () => {
      weather.delayMsMax = fairWeather().delayMsMax;
    });
  },
  'provider fails': ({ weather, ...world }, random) => {
    weather.providerFaults = 0.6;
    clearLater(world, random, () => {
      weather.providerFaults = 0;
    });
  },
  'starts fail': ({ weather, ...world }, random) => {
    weather.startFaults = 0.7;
    clearLater(world, random, () => {
      weather.startFaults = 0;
    });
  },
};

function clearLater({ time }: Pick<World, 'time'>, random: Random, act: () => void): void {
  time.setTimer(random.next() * WEATHER_MS_MAX, act);
}

/** The service manager: it starts a supervisor wherever none is. */
export function startAgain(world: World, random: Random): void {
  const tryLater = (): void => {
    world.time.setTimer(random.next() ** 3 * 4000, () => {
      const current = world.current();
      if (current === undefined) boot(world, random);
      else if (!current.isReady() || current.isFrozen()) tryLater();
      else void current.ended.then(() => tryLater());
    });
  };
  tryLater();
}

function boot(world: World, random: Random): void {
  const incarnation = world.boot();
  incarnation?.ready.catch((error: unknown) => {
    // It was told to stop before it was up.
    if (isPrxError(error, 'SHUTTING_DOWN')) return;
    world.record({ kind: 'crashed', message: `the supervisor did not start: ${String(error)}` });
    world.crash();
    startAgain(world, random);
  });
}

/** Ends every fault; what was stopped goes on, but for workers: the heartbeat has to find them. */
export function heal(world: World): void {
  Object.assign(world.weather, fairWeather());
  world.disk.isFull = false;
  for (const process of world.machine.live()) if (process.room !== 'worker') process.thaw();
  world.thawSupervisor();
  world.record({ kind: 'healed' });
}
