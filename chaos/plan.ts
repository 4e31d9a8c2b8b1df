/** The faults of one run, drawn from its seed before it begins: what, when, on which of the
 *  processes that are there then, and for how long. Pure. Each lane is worked off in order, the
 *  lanes side by side; what happens to the supervisor has one lane, because it excludes itself. */
import { createSeededRandom, type Random } from '../base/random.ts';
import { drawInt } from './choice.ts';

export const faultKinds = [
  'kill worker',
  'kill gateway',
  'kill host',
  'kill call',
  'kill supervisor',
  'freeze worker',
  'freeze gateway',
  'freeze host',
  'freeze supervisor',
  'stop supervisor',
  'fill disk',
] as const;

/** kill: SIGKILL; freeze: SIGSTOP, later SIGCONT; stop: SIGTERM, then a new start. `call` is any
 *  process below a sandbox host: the cell, a parked sandbox, a command. */
export type FaultKind = (typeof faultKinds)[number];

export interface PlannedFault {
  readonly kind: FaultKind;
  /** After the begin of the run. */
  readonly atMs: number;
  /** Which of the candidates, in [0, 1). */
  readonly pick: number;
  /** How long it lasts: the freeze, the full disk, the pause before the supervisor starts again;
   *  of another kill: how long the victim lives on once it was seen. */
  readonly holdMs: number;
}

export interface Lane {
  readonly name: string;
  readonly faults: readonly PlannedFault[];
}

const lanes: Readonly<Record<string, readonly FaultKind[]>> = {
  worker: ['kill worker', 'freeze worker'],
  gateway: ['kill gateway', 'freeze gateway'],
  host: ['kill host'],
  call: ['kill call'],
  frozen: ['freeze host'],
  supervisor: ['kill supervisor', 'stop supervisor', 'freeze supervisor'],
  disk: ['fill disk'],
};

/** One fault of the kind in each slot of this length, ms: more than a run must reach, because some
 *  find nobody to hit. The supervisor is spared a little: while it is down nothing else happens. */
const KILL_SLOT_MS = 4800;
const SUPERVISOR_SLOT_MS = 5400;
const OTHER_SLOT_MS = 12_000;

const holdRanges: Readonly<Record<FaultKind, readonly [fromMs: number, toMs: number]>> = {
  'kill worker': [0, 300],
  'kill gateway': [0, 300],
  'kill host': [0, 500],
  'kill call': [0, 200],
  'kill supervisor': [0, 500],
  'freeze worker': [100, 3000],
  'freeze gateway': [100, 2500],
  'freeze host': [100, 1500],
  'freeze supervisor': [100, 1500],
  'stop supervisor': [0, 300],
  'fill disk': [100, 1500],
};

export function createPlan(seed: string, durationMs: number): readonly Lane[] {
  return Object.entries(lanes).map(([name, kinds]) => {
    const faults = kinds.flatMap((kind) => planKind(kind, durationMs, seed));
    return { name, faults: faults.sort((one, other) => one.atMs - other.atMs) };
  });
}

/** How many faults of each kind a run of this length must have seen to count as one. */
export function minimumOf(kind: FaultKind, durationMs: number): number {
  const isKill = kind.startsWith('kill');
  return Math.floor(durationMs / (isKill ? 6000 : 15_000));
}

function planKind(kind: FaultKind, durationMs: number, seed: string): PlannedFault[] {
  const random: Random = createSeededRandom(`${seed}/plan/${kind}`);
  const count = Math.max(1, Math.floor(durationMs / slotOf(kind)));
  const [fromMs, toMs] = holdRanges[kind];
  return Array.from({ length: count }, (_, slot) => ({
    kind,
    atMs: Math.round(((slot + random.next()) / count) * durationMs),
    pick: random.next(),
    holdMs: drawInt(random, fromMs, toMs),
  }));
}

function slotOf(kind: FaultKind): number {
  if (kind === 'kill supervisor') return SUPERVISOR_SLOT_MS;
  return kind.startsWith('kill') ? KILL_SLOT_MS : OTHER_SLOT_MS;
}
