/** Memory bombs and hangs in a worker and in a tool, beside seven sessions that stream: how far the
 *  limit is overshot, how long the misbehaving one lives, and what its neighbours feel.
 *  FAULTS 13 (frozen), 14 (spinning), 43 and 45 (buffers), 44 (in a grandchild), 46 (heap),
 *  49 (the sampler is blind). */
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { listDescendants } from '../base/process.ts';
import { type Provider, startProvider } from '../bench/provider.ts';
import type { EventEnvelope } from '../protocol/events.ts';
import { findRunning, pause } from '../test/integration/processes.ts';
import { type Feed, isType, openFeed } from './feed.ts';
import {
  createTokenClock,
  STREAM,
  STREAMERS,
  type Streamers,
  splitSpan,
  startStreamers,
  type TokenTimes,
  toUsual,
} from './latency.ts';
import { createSearch, readPeakMb } from './peaks.ts';
import { AS_STRANGER } from './processor-group.ts';
import type { Figure, Outcome, Proof, ProofOptions } from './proof.ts';
import { toQuantile } from './report.ts';
import { openStand, type Stand, toConfig } from './stand.ts';

const WORKER_MB = 192;
/** The least that may be configured: below it runtimes do not start. */
const TOOL_MB = 2048;
const HEARTBEAT_SECS = 2;
const TOOL_SECS = 4;
const RATIO_MAX = 1.5;
/** Two heartbeats missed, SIGTERM, a grace, and one second. */
const HANG_MS_MAX = 2 * HEARTBEAT_SECS * 1000 + 200 + 1000;
/** From a session's first turn until the spare worker that it took was replaced. */
const REFILL_MS = 800;
/** Long enough for a 99th percentile that some tokens are above. */
const BEFORE_MS = 3000;
/** As long as a tool takes to reach its limit. */
const CONTROL_MS = 1500;
const SAMPLE_MS = 5;

interface Bomb {
  readonly name: string;
  readonly in: 'worker' | 'tool';
  /** The input: `bomb:KIND` for a worker's hook, else a tool call's command, else a stream. */
  readonly text: string;
  /** Limit in MB that it breaks; absent: it hangs. */
  readonly limitMb?: number;
  /** Cause in each `worker.exited`, or status in `tool.completed`: one of these. Empty: the
   *  control, which does nothing and shows what the machine does by itself. */
  readonly ends: readonly string[];
  /** So many workers die of it before their input is set aside; absent: not judged. */
  readonly deaths?: number;
  /** Done from outside, once it has begun. */
  readonly assist?: (stand: Stand, feed: Feed) => void;
  readonly boundMs?: number;
}

const EAT = 'perl -e "my @a; push @a, 1 x 8000000 while 1"';
/** Ends as the tool's does, by the kernel's limit of one process. */
const EAT_BESIDE = `${AS_STRANGER} ulimit -d ${TOOL_MB * 1024}; exec ${EAT}`;
const SPIN = 'while :; do :; done';
/** As idle as a tool. */
const SPIN_BESIDE = `${AS_STRANGER} exec timeout ${CONTROL_MS / 1000} chrt -i 0 sh -c '${SPIN}'`;
const run = (command: string): string => JSON.stringify({ command });
const asBomb = (kind: string): string => `bomb:${kind}`;

const BOMBS: readonly Bomb[] = [
  { name: 'control: a turn that waits', in: 'worker', text: 'wait', ends: [] },
  {
    ...{ name: 'control: the same memory, taken by a process of nobody', in: 'worker' },
    ...{ text: 'wait', ends: [], assist: () => startBeside(EAT_BESIDE) },
  },
  {
    ...{ name: 'control: a process of nobody that spins', in: 'worker', text: 'wait', ends: [] },
    assist: () => startBeside(SPIN_BESIDE),
  },
  {
    ...{ name: 'worker: buffers', in: 'worker', text: asBomb('buffers'), limitMb: WORKER_MB },
    ...{ ends: ['memory'], deaths: 2 },
  },
  {
    ...{ name: 'worker: heap', in: 'worker', text: asBomb('heap'), limitMb: WORKER_MB },
    ...{ ends: ['memory'], deaths: 2 },
  },
  {
    ...{ name: 'worker: buffers, sampler frozen', in: 'worker', limitMb: WORKER_MB },
    ...{ text: asBomb('buffers'), ends: ['memory'], deaths: 2, assist: freezeMonitor },
  },
  {
    ...{ name: 'worker: spins', in: 'worker', text: asBomb('spin'), boundMs: HANG_MS_MAX },
    ends: ['unresponsive'],
  },
  {
    ...{ name: 'worker: frozen', in: 'worker', text: 'slow', boundMs: HANG_MS_MAX },
    ...{ ends: ['unresponsive'], assist: freezeWorker },
  },
  {
    ...{ name: 'tool: memory', in: 'tool', text: run(EAT), limitMb: TOOL_MB },
    ends: ['error', 'memory', 'killed', 'timeout'],
  },
  {
    ...{ name: 'tool: memory in a grandchild', in: 'tool', limitMb: TOOL_MB },
    ...{ text: run(`(setsid ${EAT} &); sleep 300`), ends: ['timeout', 'memory'] },
  },
  {
    ...{ name: 'tool: spins', in: 'tool', text: run(SPIN), ends: ['timeout'] },
    boundMs: TOOL_SECS * 1000 + 1000,
  },
  {
    ...{ name: 'tool: frozen', in: 'tool', text: run('kill -STOP $$'), ends: ['timeout'] },
    boundMs: TOOL_SECS * 1000 + 1000,
  },
];

interface Result {
  /** Of each worker or tool that misbehaved. */
  readonly livedMs: number[];
  readonly peakMb: number[];
  readonly before: number[];
  readonly during: number[];
  /** p99 during / before, of each round. */
  readonly latencyRatios: number[];
  readonly gapRatios: number[];
}

const createResult = (): Result => ({
  ...{ livedMs: [], peakMb: [], before: [], during: [] },
  ...{ latencyRatios: [], gapRatios: [] },
});

interface Campaign {
  readonly stand: Stand;
  readonly streamers: Streamers;
  readonly results: ReadonlyMap<Bomb, Result>;
  readonly violations: string[];
}

export const bombs: Proof = {
  name: 'bombs',
  claim: 'memory bombs and hangs end by their limits, and seven streams beside them do not feel it',
  runs: 10,
  async run(options) {
    const provider = await startProvider();
    const stand = await openStand(toBombConfig(provider), options, addHook);
    try {
      return await campaign(stand, provider, options);
    } finally {
      await stand.close();
      await provider.close();
    }
  },
};

const toBombConfig = ({ url }: Provider): string =>
  toConfig(
    url,
    `memory_limit_mb = ${TOOL_MB}
timeout_secs = ${TOOL_SECS}
[agent.limits]
max_memory_mb = ${WORKER_MB}
[agent.worker]
heartbeat_interval_secs = ${HEARTBEAT_SECS}
max_restart_attempts = 1`,
  );

/** Into the installation of this run, before its supervisor starts. */
function addHook(dir: string): void {
  const worker = join(dir, 'dist', 'worker.js');
  const hook = readFileSync(join(import.meta.dirname, 'bomb-hook.cjs'), 'utf8');
  writeFileSync(worker, `${hook}${readFileSync(worker, 'utf8')}`);
}

async function campaign(stand: Stand, provider: Provider, options: ProofOptions): Promise<Outcome> {
  const clock = createTokenClock();
  provider.answer = async ({ prompt, step }, reply) => {
    if (prompt === STREAM) return clock.streamTokens(reply);
    if (prompt === 'slow' && step === 0) await pause(500);
    if (prompt === 'wait') await pause(CONTROL_MS);
    if (prompt.startsWith('{') && step === 0) reply.callTool('shell', JSON.parse(prompt));
    else reply.say('the end');
    reply.end();
  };
  const streamers = await startStreamers(stand, clock);
  const results = new Map(BOMBS.map((bomb) => [bomb, createResult()]));
  const campaign: Campaign = { stand, streamers, results, violations: [] };
  for (let run = 1; run <= options.runs; run += 1) {
    for (const [bomb, result] of results) await explode(campaign, bomb, result);
    options.onProgress(`${run} of ${options.runs} rounds`);
  }
  await streamers.close();
  return toOutcome(campaign);
}

async function explode(campaign: Campaign, bomb: Bomb, result: Result): Promise<void> {
  const { stand, streamers, violations } = campaign;
  const workspace = stand.bench.workspace;
  const { view } = await stand.client.createSession({ workspace, approve: 'all' });
  const feed = openFeed(stand.client, view.id);
  // Its first turn, and the next spare: whatever a start costs is over when the quiet begins.
  await turn(stand, feed, 'hello');
  if (bomb.in === 'tool') await turn(stand, feed, JSON.stringify({ command: 'true' }));
  await pause(REFILL_MS);
  // From before: who looks costs time as well, on both sides of the comparison.
  const sampling = sample(campaign, bomb, feed);
  const beforeMs = performance.now();
  await pause(BEFORE_MS);
  const from = feed.seen.length;
  const startMs = performance.now();
  await stand.client.sendInput(view.id, { text: bomb.text });
  bomb.assist?.(stand, feed);
  const ended = await feed.until(isType('turn.completed'), from);
  result.peakMb.push(...sampling.stop(from));
  for (const pid of findMonitors(stand)) process.kill(pid, 'SIGCONT');
  const ends = feed.seen.slice(from).filter(({ event }) => isEnd(bomb, event));
  const lastMs = ends.at(-1)?.atMs ?? ended.atMs;
  // The tokens that were under way have a moment to arrive.
  await pause(100);
  const spans = splitSpan(beforeMs, startMs, lastMs - startMs);
  const before = spans.map((span) => streamers.between(...span));
  addTokens(result, before, streamers.between(startMs, lastMs));
  result.livedMs.push(...listLives(bomb, feed, { from, startMs }));
  const said = ends.map(({ event }) => toEnd(event));
  const isExpected =
    said.length > 0 === bomb.ends.length > 0 &&
    said.every((end) => bomb.ends.includes(end)) &&
    said.length === (bomb.deaths ?? said.length);
  if (!isExpected) violations.push(`${bomb.name}: it ended as '${said.join()}'`);
  const alive = await turn(stand, feed, 'hello');
  if (alive !== 'completed') violations.push(`${bomb.name}: the next turn is ${alive}`);
  feed.close();
  await stand.client.close(view.id);
}

function addTokens(result: Result, before: readonly TokenTimes[], during: TokenTimes): void {
  const toRatio = (of: keyof TokenTimes): number =>
    toQuantile(during[of], 0.99) / toUsual(before.map((times) => times[of]));
  result.before.push(...before.flatMap(({ latencies }) => latencies));
  result.during.push(...during.latencies);
  result.latencyRatios.push(toRatio('latencies'));
  result.gapRatios.push(toRatio('gaps'));
}

async function turn(stand: Stand, feed: Feed, text: string): Promise<string> {
  const from = feed.seen.length;
  await stand.client.sendInput(feed.session, { text });
  const { event } = await feed.until(isType('turn.completed'), from);
  return (event.data as { outcome: string }).outcome;
}

const isEnd = (bomb: Bomb, { type, data }: EventEnvelope): boolean =>
  bomb.in === 'tool'
    ? type === 'tool.completed'
    : type === 'worker.exited' && (data as { cause: string }).cause !== 'stopped';

function toEnd({ data }: EventEnvelope): string {
  const { cause, status } = data as { cause?: string; status?: string };
  return cause ?? status ?? '?';
}

interface Span {
  readonly from: number;
  readonly startMs: number;
}

/** Each misbehaving life, from its input or its own start to its end. */
function listLives(bomb: Bomb, feed: Feed, { from, startMs }: Span): number[] {
  const lives: number[] = [];
  let bornMs = startMs;
  for (const { event, atMs } of feed.seen.slice(from)) {
    if (event.type === 'worker.started' || event.type === 'tool.started') bornMs = atMs;
    if (isEnd(bomb, event)) lives.push(atMs - bornMs);
  }
  return lives;
}

interface Sampling {
  /** @returns the peak of each that ended as the bomb does since event `from`, MiB */
  stop(from: number): readonly number[];
}

/** Looks every few milliseconds; the kernel keeps each process's own peak between two looks. */
function sample({ stand }: Campaign, bomb: Bomb, feed: Feed): Sampling {
  if (bomb.limitMb === undefined) return { stop: () => [] };
  const peaks = new Map<number, number>();
  const findEaters = createSearch(stand);
  const look = (): void => {
    const worker = findWorker(feed);
    // A worker may start no process. Nobody is asked for his environment: who reads it waits for
    // the lock of a memory that is just growing, and this process stamps the tokens.
    const pids = bomb.in === 'tool' ? findEaters() : [worker];
    const mb = Math.max(0, ...pids.map(readPeakMb));
    const key = bomb.in === 'tool' ? 0 : worker;
    peaks.set(key, Math.max(peaks.get(key) ?? 0, mb));
  };
  const timer = setInterval(look, SAMPLE_MS);
  return {
    stop(from) {
      clearInterval(timer);
      const dead = new Set(
        feed.seen
          .slice(from)
          .filter(({ event }) => isEnd(bomb, event))
          .map(({ event }) => (bomb.in === 'tool' ? 0 : (event.data as { pid: number }).pid)),
      );
      return [...peaks].flatMap(([key, mb]) => (dead.has(key) ? [mb] : []));
    },
  };
}

function findMonitors({ bench }: Stand): readonly number[] {
  return findRunning(join(bench.dir, 'dist', 'monitor.js'));
}

function freezeMonitor(stand: Stand): void {
  for (const pid of findMonitors(stand)) process.kill(pid, 'SIGSTOP');
}

/** No supervisor knows of it: what its neighbours feel is the machine's. */
function startBeside(script: string): void {
  spawn('/bin/sh', ['-c', script], { stdio: 'ignore', detached: true });
}

/** The model takes its time, and the worker stops meanwhile. */
function freezeWorker(_stand: Stand, feed: Feed): void {
  const worker = findWorker(feed);
  for (const pid of [worker, ...listDescendants(worker)]) process.kill(pid, 'SIGSTOP');
}

/** The pid of the newest one; it is started before any of this begins. */
function findWorker({ seen }: Feed): number {
  const newest = seen.findLast(({ event }) => event.type === 'worker.started');
  if (newest === undefined) throw new Error('the session has no worker yet');
  return (newest.event.data as { pid: number }).pid;
}

function toOutcome({ stand, results, violations }: Campaign): Outcome {
  const figures = [...results].flatMap(([bomb, result]): Figure[] => {
    const { livedMs, peakMb, before, during, latencyRatios, gapRatios } = result;
    const { name, limitMb, boundMs } = bomb;
    const isControl = bomb.ends.length === 0;
    const judged = isControl ? {} : { bound: RATIO_MAX, judged: 'median' as const };
    const bound = boundMs === undefined ? {} : { bound: boundMs };
    return [
      ...(isControl
        ? []
        : [{ name: `${name}: time to its end`, unit: 'ms' as const, samples: livedMs, ...bound }]),
      ...(limitMb === undefined
        ? []
        : [
            {
              ...{ name: `${name}: peak / limit (${limitMb} MiB)`, unit: '×' as const },
              samples: peakMb.map((mb) => mb / limitMb),
            },
          ]),
      { name: `${name}: others' tokens, before`, unit: 'ms', samples: before },
      { name: `${name}: others' tokens, during`, unit: 'ms', samples: during },
      {
        name: `${name}: latency p99, during / before`,
        unit: '×',
        samples: latencyRatios,
        ...judged,
      },
      { name: `${name}: gap p99, during / before`, unit: '×', samples: gapRatios, ...judged },
    ];
  });
  const counts = [...results].map(([bomb, { livedMs }]) => [`${bomb.name}, ends`, livedMs.length]);
  return {
    counts: { 'sessions that stream beside them': STREAMERS, ...Object.fromEntries(counts) },
    figures,
    violations,
    notes: [
      ...stand.notes,
      'a worker can start no process, so that a bomb in a grandchild (FAULTS 44) is a tool only',
      'one process meets its own limit, which is as large, before the watch over the whole call',
    ],
  };
}
