/** Many runs, in a few processes. Each says which seed it begins, so that one that hangs (code
 *  that never lets go of its process cannot be stopped from within) is found, named and killed. */
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { realClock } from '../../base/clock.ts';
import { realProcesses } from '../../base/process.ts';
import type { FaultKind } from './faults.ts';
import { listStrikes, runSeed, type Strike } from './run.ts';

export interface CampaignSpec {
  /** Seeds are `SEED-0`, `SEED-1` … */
  readonly seed: string;
  readonly runs: number;
  readonly jobs: number;
  /** Each of them is calm but for this one, and is run again for every instant in which it can
   *  strike. */
  readonly strike?: FaultKind;
}

export interface Totals {
  runs: number;
  failed: number;
  readonly counts: Map<string, number>;
}

const violationSchema = z.object({ check: z.string(), message: z.string() });
const lineSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('begin'), seed: z.string(), index: z.number() }),
  z.object({
    kind: z.literal('end'),
    seed: z.string(),
    violations: z.array(violationSchema),
    counts: z.array(z.tuple([z.string(), z.number()])),
  }),
]);
export type CampaignLine = z.infer<typeof lineSchema>;
export type RunEnd = Extract<CampaignLine, { kind: 'end' }>;

/** A run takes about 50 ms; ten thousand times that is no slow machine any more. */
const HANG_MS = 120_000;
const VIOLATIONS_MAX = 5;

/** What the dead of a world leave behind (promises nobody settles) stays until its process ends. */
const RUNS_PER_PROCESS = 250;

/** The seeds of one process: every `step`-th from `first` on. */
export interface Share {
  readonly seed: string;
  readonly first: number;
  readonly step: number;
  readonly runs: number;
  readonly strike?: FaultKind;
}

export async function runShare(
  { seed, first, step, runs, strike: fault }: Share,
  say: (line: CampaignLine) => void,
): Promise<void> {
  for (let index = first; index < runs; index += step) {
    const name = `${seed}-${index}`;
    const strikes = fault === undefined ? [undefined] : await listStrikes(name, fault);
    for (const strike of strikes) {
      const at = strike === undefined ? '' : ` --strike '${fault}' --at ${toPlace(strike)}`;
      say({ kind: 'begin', seed: `${name}${at}`, index });
      const { violations, counts } = await runSeed(name, strike === undefined ? {} : { strike });
      const few = violations.slice(0, VIOLATIONS_MAX);
      say({ kind: 'end', seed: `${name}${at}`, violations: few, counts: [...counts] });
    }
  }
}

const toPlace = ({ fact, promises }: Strike): string => `${fact}.${promises}`;

/** @param onRun  hears of each run as it ends. */
export async function runCampaign(
  spec: CampaignSpec,
  program: string,
  onRun: (end: RunEnd) => void,
): Promise<Totals> {
  const totals: Totals = { runs: 0, failed: 0, counts: new Map() };
  const hear = (end: RunEnd): void => {
    totals.runs += 1;
    if (end.violations.length > 0) totals.failed += 1;
    for (const [what, count] of end.counts) {
      totals.counts.set(what, (totals.counts.get(what) ?? 0) + count);
    }
    onRun(end);
  };
  const shares = Array.from({ length: spec.jobs }, (_, first) =>
    runProcesses({ ...spec, first, step: spec.jobs }, program, hear),
  );
  await Promise.all(shares);
  return totals;
}

/** One process after the other, until the share is done; a hang costs its process. */
async function runProcesses(
  share: Share,
  program: string,
  hear: (end: RunEnd) => void,
): Promise<void> {
  const perProcess = share.strike === undefined ? RUNS_PER_PROCESS : 1;
  for (let first = share.first; first < share.runs; ) {
    const next = Math.min(share.runs, first + perProcess * share.step);
    const open = await runProcess({ ...share, first, runs: next }, program, hear);
    if (open === undefined) {
      first += Math.ceil((next - first) / share.step) * share.step;
      continue;
    }
    const message = `it did not end within ${HANG_MS} ms, or took its process along`;
    hear({
      kind: 'end',
      seed: open.seed,
      violations: [{ check: 'no hang', message }],
      counts: [],
    });
    first = open.index + share.step;
  }
}

/** The run that was begun and not ended; undefined: the share is done. */
async function runProcess(
  { seed, first, step, runs, strike }: Share,
  program: string,
  hear: (end: RunEnd) => void,
): Promise<{ readonly seed: string; readonly index: number } | undefined> {
  const range = [first, step, runs].join(':');
  const running = await realProcesses.start({
    command: process.execPath,
    args: [program, '--seed', seed, '--share', range, ...(strike ? ['--strike', strike] : [])],
    env: {},
    ownSession: false,
  });
  running.stderr.pipe(process.stderr);
  let open: { seed: string; index: number } | undefined;
  let timer = realClock.setTimer(HANG_MS, () => running.kill('SIGKILL'));
  for await (const text of createInterface({ input: running.stdout })) {
    timer.cancel();
    timer = realClock.setTimer(HANG_MS, () => running.kill('SIGKILL'));
    const line = lineSchema.parse(JSON.parse(text));
    open = line.kind === 'begin' ? line : undefined;
    if (line.kind === 'end') hear(line);
  }
  timer.cancel();
  await running.exited;
  return open;
}
