/** One simulated run from its seed: the world, the scenario, the checkers, and the verdict. */
import type { Logger } from '../../base/logger.ts';
import { createSeededRandom, type Random } from '../../base/random.ts';
import { createChecks } from './checks/all.ts';
import type { Violation } from './checks/check.ts';
import { createTrace, type Fact } from './facts.ts';
import { drawPlan, type FaultKind, type FaultPlan, inject } from './faults.ts';
import { takeLoop } from './loop.ts';
import { playScenario } from './scenario.ts';
import { drawInt, drawOne } from './script.ts';
import { createTime } from './time.ts';
import { createWorld, type Settings, type World } from './world.ts';

export interface RunReport {
  readonly seed: string;
  readonly hash: string;
  readonly violations: readonly Violation[];
  /** How often what happened: turns, calls, requests, faults by kind. */
  readonly counts: ReadonlyMap<string, number>;
  readonly virtualMs: number;
  readonly facts: number;
  readonly recent: readonly string[];
}

export interface RunOptions {
  readonly plan?: FaultPlan;
  readonly logger?: Logger;
  readonly onFact?: (fact: Fact) => void;
  readonly strike?: Strike;
  /** Replaces parts of the world: a broken one, to see a checker find it. */
  readonly spoil?: (world: World) => void;
}

/** One fault in a world that is calm otherwise. */
export interface Strike {
  readonly fault: FaultKind;
  /** In the instant behind this fact; they are counted from 1. */
  readonly fact: number;
  /** So many promises may be settled in between. */
  readonly promises: number;
}

const CALM: FaultPlan = { kinds: [], everyMs: 1000, durationMs: 3000 };
/** At once, and when what was waiting for the fact has gone on. */
const PROMISES = [0, 4];

/** At one instant; a storm of a hundred processes stays far below. */
const TURNS_MAX = 200_000;
/** Timers of one run. */
const TIMERS_MAX = 2_000_000;
const PROJECT_EVERY = 64;

export async function runSeed(seed: string, options: RunOptions = {}): Promise<RunReport> {
  const loop = takeLoop();
  const random = createSeededRandom(`${seed}/world`);
  const time = createTime();
  const counts = new Map<string, number>();
  const settings = drawSettings(random, createSeededRandom(`${seed}/compaction`));
  const checks = createChecks(settings, time.nowMs);
  const trace = createTrace(time.nowMs, (fact) => {
    count(counts, fact);
    options.onFact?.(fact);
    checks.hear(fact);
    if (trace.count() === options.strike?.fact) void strikeSoon(world, options.strike);
  });
  const world = createWorld({
    seed,
    time,
    record: trace.record,
    settings,
    ...(options.logger === undefined ? {} : { logger: options.logger }),
  });
  options.spoil?.(world);
  const onRejection = (error: unknown): void => {
    trace.record({ kind: 'crashed', message: `unhandled: ${describe(error)}` });
  };
  process.on('unhandledRejection', onRejection);
  let over = false;
  try {
    const plan = options.plan ?? (options.strike === undefined ? drawPlan(random) : CALM);
    const scenario = playScenario({ world, plan, seenBy: checks.seenBy }).then(
      () => {
        over = true;
      },
      (error: unknown) => {
        over = true;
        trace.record({ kind: 'crashed', message: describe(error) });
      },
    );
    for (let timers = 0; !over && timers < TIMERS_MAX; timers += 1) {
      await loop.settle(() => undefined, TURNS_MAX);
      if (timers % PROJECT_EVERY === 0 && timers < PROJECT_EVERY * 100) project(world);
      if (over || !time.advance()) break;
    }
    await loop.settle(() => undefined, TURNS_MAX);
    if (over) await scenario;
    else trace.record({ kind: 'crashed', message: 'the scenario does not end' });
  } catch (error) {
    trace.record({ kind: 'crashed', message: describe(error) });
  } finally {
    world.crash();
    process.off('unhandledRejection', onRejection);
    loop.release();
  }
  return {
    seed,
    hash: trace.hash(),
    violations: checks.end(),
    counts,
    virtualMs: time.nowMs(),
    facts: trace.count(),
    recent: trace.recent,
  };
}

/** Every instant of a calm run in which this fault can strike. */
export async function listStrikes(seed: string, fault: FaultKind): Promise<Strike[]> {
  const { facts } = await runSeed(seed, { plan: CALM });
  return Array.from({ length: facts }, (_, index) => index + 1).flatMap((fact) =>
    PROMISES.map((promises) => ({ fault, fact, promises })),
  );
}

async function strikeSoon(world: World, { fault, promises }: Strike): Promise<void> {
  for (let left = promises; left >= 0; left -= 1) await undefined;
  inject(world, fault, world.random('strike'));
}

/** What the live session objects believe, for the checker that folds the journal itself. */
function project(world: World): void {
  for (const session of world.current()?.runtime.directory.all() ?? []) {
    world.record({ kind: 'projected', record: session.record() });
  }
}

function drawSettings(random: Random, own: Random): Settings {
  return {
    warmPool: drawInt(random, 0, 2),
    maxSessions: drawInt(random, 1, 3),
    idleHibernateSecs: drawOne(random, [1, 5, 300]),
    approvalTimeoutSecs: drawOne(random, [5, 60]),
    restartAttempts: drawOne(random, [3, 3, 20]),
    supervisedShell: random.next() < 0.4,
    parallelTools: random.next() < 0.7,
    // What is fixed of a request takes about 3,000.
    compactionTokens: drawOne(own, [80_000, 80_000, 80_000, 3200, 3600]),
    compactionStrategy: drawOne(own, ['summarize', 'truncate'] as const),
  };
}

function count(counts: Map<string, number>, fact: Fact): void {
  const add = (what: string): void => void counts.set(what, (counts.get(what) ?? 0) + 1);
  if (fact.kind === 'fault') add(`fault: ${fact.fault}`);
  else if (fact.kind === 'requested') add('provider requests');
  else if (fact.kind === 'executed') add('tool calls run');
  else if (fact.kind === 'removed') add('removals');
  else if (fact.kind === 'written') {
    const { type } = fact.row.event;
    const data = fact.row.event.data as object | undefined;
    if (type === 'turn.completed') add('turns completed');
    if (type === 'approval.requested') add('approvals');
    if (type === 'context.compacted') add('compactions');
    if (type === 'session.created' && data !== undefined && 'forked_from' in data) add('forks');
    if (type === 'effect.adopted') add('effects adopted');
    if (type === 'effect.resolved') add('effects indeterminate');
  } else if (fact.kind === 'supervisor.started') add('supervisors');
  else if (fact.kind === 'process.started') add(`${fact.room}s`);
}

function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
