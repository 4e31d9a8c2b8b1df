/** The restart budget of one session: what a death costs, and whom it is blamed on. A generation
 *  that committed something before it died costs nothing: the turn goes on from there. Deaths in a
 *  turn, in a row and without anything committed, are blamed on the turn's input (poison); deaths
 *  outside of a turn, and starts that fail, on the worker. Deaths ordered by us, and those of the
 *  supervisor (it takes its workers with it, unheard), are not counted at all. */
import type { Clock } from '../../base/clock.ts';
import type { TurnDeath } from '../../store/contract.ts';
import type { ExitCause } from './child.ts';
import { decideRestart, type RestartDecision, type RestartPolicy } from './restart.ts';

export interface TurnBlame {
  readonly turn: number;
  /** It had committed something of the turn. */
  readonly progress: boolean;
}

export type DeathVerdict =
  | RestartDecision
  | { readonly kind: 'poison'; readonly turn: number; readonly reason: string };

export interface RestartBudget {
  /** @param blame the turn in which the worker died; undefined: in none. */
  onDeath(cause: ExitCause, blame: TurnBlame | undefined): DeathVerdict;
  /** Something of the open turn was committed, or it ended: the next death is the first again. */
  onProgress(): void;
  /** As onProgress, and the back-off begins anew. */
  forgive(): void;
  /** What the deaths in the open turn say by themselves: why its input is to be set aside. Whoever
   *  heard the last one may have died before that was journaled, with effects cancelled already. */
  findPoison(): string | undefined;
}

export interface RestartBudgetDeps {
  readonly clock: Clock;
  readonly random: { next(): number };
  readonly policy: () => RestartPolicy;
  /** Deaths in the open turn that an earlier supervisor journaled. */
  readonly earlier: readonly TurnDeath[];
}

interface Fruitless {
  readonly atMs: number;
  readonly cause: ExitCause;
}

/** Running out of memory this often at one place is no accident: a third worker would allocate the
 *  same again. */
const MEMORY_DEATHS_MAX = 2;
/** One more than the greatest budget. */
const HISTORY_MAX = 1001;

export function createRestartBudget(deps: RestartBudgetDeps): RestartBudget {
  const { clock, random, policy } = deps;
  let restarts: readonly number[] = [];
  let outside: readonly number[] = [];
  let inTurn: readonly Fruitless[] = deps.earlier.map((death) => toMonotonic(clock, death));

  function decide(cause: ExitCause, counted: readonly number[]): RestartDecision {
    const nowMs = clock.nowMs();
    const death = { policy: policy(), cause, counted, restarts, nowMs, random: random.next() };
    const decision = decideRestart(death);
    if (decision.kind === 'restart') restarts = [...restarts, nowMs].slice(-HISTORY_MAX);
    return decision;
  }

  function inTurnDeath(cause: ExitCause, { turn, progress }: TurnBlame): DeathVerdict {
    if (progress) {
      inTurn = [];
      // A budget of none is none: there is no restart, whoever is to blame.
      return decide(cause, []);
    }
    const earlier = inTurn;
    inTurn = [...inTurn, { atMs: clock.nowMs(), cause }].slice(-HISTORY_MAX);
    const decision = decide(
      cause,
      earlier.map(({ atMs }) => atMs),
    );
    if (decision.kind === 'fail') return { kind: 'poison', turn, reason: decision.reason };
    if (decision.kind !== 'restart' || !isHungry(inTurn)) return decision;
    return { kind: 'poison', turn, reason: HUNGRY };
  }

  return {
    onDeath(cause, blame) {
      if (cause === 'stopped') return { kind: 'stop' };
      if (blame !== undefined) return inTurnDeath(cause, blame);
      const decision = decide(cause, outside);
      outside = [...outside, clock.nowMs()].slice(-HISTORY_MAX);
      return decision;
    },
    onProgress() {
      inTurn = [];
    },
    forgive() {
      restarts = [];
      outside = [];
      inTurn = [];
    },
    findPoison() {
      const last = inTurn.at(-1);
      if (last === undefined) return undefined;
      const counted = inTurn.slice(0, -1).map(({ atMs }) => atMs);
      // As it was judged then, however long ago that is.
      const then = { cause: last.cause, nowMs: last.atMs };
      const decision = decideRestart({
        ...then,
        policy: policy(),
        counted,
        restarts: [],
        random: 0,
      });
      if (decision.kind === 'fail') return decision.reason;
      return decision.kind === 'restart' && isHungry(inTurn) ? HUNGRY : undefined;
    },
  };
}

const HUNGRY = `the worker ran out of memory ${MEMORY_DEATHS_MAX} times at the same place`;

function isHungry(deaths: readonly Fruitless[]): boolean {
  const last = deaths.slice(-MEMORY_DEATHS_MAX);
  return last.length === MEMORY_DEATHS_MAX && last.every(isOutOfMemory);
}

const isOutOfMemory = ({ cause }: Fruitless): boolean => cause === 'memory';

/** A time stamp of the journal on our clock; one from the future is one of now. */
function toMonotonic(clock: Clock, { at, cause }: TurnDeath): Fruitless {
  const agoMs = Math.max(0, clock.wallMs() - Date.parse(at));
  return { atMs: clock.nowMs() - agoMs, cause };
}
