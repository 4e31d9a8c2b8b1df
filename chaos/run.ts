/** One run, from the scratch folder to the verdict: load and faults side by side, then a healed
 *  phase in which everything must come to its end, then five echoes in every session, a clean stop,
 *  and the checks. */
import type { ApiClient } from '../api/client.ts';
import { PrxError, toPrxError } from '../base/errors.ts';
import { createSeededRandom } from '../base/random.ts';
import type { EventEnvelope } from '../protocol/events.ts';
import {
  addSession,
  type Bench,
  closeBench,
  openBench,
  openSessions,
  type RunOptions,
  SESSIONS,
} from './bench.ts';
import { checkHistory } from './checks/all.ts';
import type { StreamClient } from './clients.ts';
import { createHistory, type History, type Violation } from './history.ts';
import { type Load, runApprover } from './load.ts';
import { createPlan } from './plan.ts';
import {
  countFaults,
  countProviderFaults,
  countStatuses,
  countWork,
  findTooLittle,
  type Report,
} from './report.ts';
import { countEffects, findLeftFiles } from './world.ts';

const FORKS_MAX = 4;
const APPROVERS = 2;
const ECHOES = 5;
const SETTLE_MS = 60_000;
const ECHO_MS = 30_000;
const CATCH_UP_MS = 15_000;
const STOP_MS = 10_000;
const GONE_MS = 5000;
const POLL_MS = 50;
const SAMPLE_MS = 250;

/** Undefined: it was aborted. Whatever happens, no process, mount or folder is left, but for the
 *  folder of a run that failed. */
export async function runChaos(options: RunOptions): Promise<Report | undefined> {
  const bench = await openBench(options);
  let keep = true;
  try {
    const report = await runBench(bench);
    keep = report !== undefined && !report.ok;
    return report;
  } catch (error) {
    const message = `${toPrxError(error).message}; kept for a look: ${bench.home.dir}`;
    throw new PrxError('INTERNAL', message, { cause: error });
  } finally {
    await closeBench(bench, keep);
  }
}

async function runBench(bench: Bench): Promise<Report | undefined> {
  const { options, findings } = bench;
  const sampling = new AbortController();
  const sampled = sample(bench, sampling.signal);
  try {
    await bench.lifeline.up();
    await openSessions(bench);
    await disturb(bench);
    if (options.signal.aborted) return undefined;
    await heal(bench);
    const history = await collect(bench);
    if (options.signal.aborted) return undefined;
    sampling.abort();
    await sampled;
    await stopAll(bench);
    const effects = countEffects(bench.workspaces);
    return judge(bench, createHistory({ ...history, effects }), findings);
  } finally {
    sampling.abort();
    await sampled;
  }
}

async function sample(bench: Bench, signal: AbortSignal): Promise<void> {
  const { options, processes, observer, injector, lifeline } = bench;
  const startMs = options.clock.nowMs();
  while (!signal.aborted) {
    processes.list();
    observer.checkWorkers();
    const seconds = Math.round((options.clock.nowMs() - startMs) / 1000);
    const { turns, tools } = observer.counts();
    const facts = [
      `${seconds} s`,
      `seed ${options.seed}`,
      `${turns} turns`,
      `${tools} tool calls`,
      `${injector.faults.length} faults`,
      `${lifeline.startsMs.length} starts`,
      `${bench.findings.length} findings`,
    ];
    options.onProgress(facts.join(' · '));
    await options.clock.sleep(SAMPLE_MS, signal);
  }
}

/** Load and faults, for as long as was asked. */
async function disturb(bench: Bench): Promise<void> {
  const { options, injector } = bench;
  const { clock, seed } = options;
  const durationMs = options.seconds * 1000;
  const over = new AbortController();
  const timer = clock.setTimer(durationMs, () => over.abort());
  const signal = AbortSignal.any([over.signal, options.signal]);
  const approvers = Array.from({ length: APPROVERS }, (_, index) =>
    startApprover(bench, `${seed}/approver/${index}`, signal),
  );
  const forked: Promise<void>[] = [];
  const forking = fork(bench, signal, (load) => forked.push(load.run(signal)));
  const loads = bench.loads.map((load) => load.run(signal));
  await injector.run(createPlan(seed, durationMs), signal);
  await bench.lifeline.up();
  await Promise.all([...loads, ...approvers, forking]);
  await Promise.all(forked);
  timer.cancel();
}

function startApprover(bench: Bench, seed: string, signal: AbortSignal): Promise<void> {
  return runApprover({
    client: bench.connect(),
    clock: bench.options.clock,
    random: createSeededRandom(seed),
    signal,
    onFinding: (message) => bench.find('answer', message),
  });
}

/** Copies of sessions join the load, one after the other. */
async function fork(
  bench: Bench,
  signal: AbortSignal,
  onForked: (load: Load) => void,
): Promise<void> {
  const { clock, seed, seconds } = bench.options;
  const random = createSeededRandom(`${seed}/fork`);
  const client = bench.connect();
  for (let left = FORKS_MAX; left > 0; left -= 1) {
    await clock.sleep((seconds * 1000) / (FORKS_MAX + 1), signal);
    if (signal.aborted) return;
    const source = bench.loads[Math.floor(random.next() * SESSIONS)];
    if (source === undefined) return;
    try {
      onForked(addSession(bench, (await client.fork(source.session)).id));
    } catch {
      // In doubt, and there is no key to ask again with: what it made, if anything, stays unused.
    }
  }
}

/** After the last fault: every input comes to its end, and every session echoes. */
async function heal(bench: Bench): Promise<void> {
  const { options, loads, observer } = bench;
  const { clock, seed } = options;
  const over = new AbortController();
  const signal = AbortSignal.any([over.signal, options.signal]);
  const approver = startApprover(bench, `${seed}/approver/last`, signal);
  await Promise.all(loads.map((load) => load.reopen()));
  const deadlineMs = clock.nowMs() + SETTLE_MS;
  const isBusy = (): boolean => loads.some((load) => observer.openInputs(load.session) > 0);
  while (isBusy() && clock.nowMs() < deadlineMs && !signal.aborted) await clock.sleep(POLL_MS);
  for (const { session } of loads) {
    const open = observer.openInputs(session);
    if (open > 0) bench.find('liveness', `${session} has ${open} inputs without an end`);
  }
  await Promise.all(loads.map((load) => echo(bench, load, signal)));
  over.abort();
  await approver;
}

async function echo(bench: Bench, load: Load, signal: AbortSignal): Promise<void> {
  for (let number = 1; number <= ECHOES && !signal.aborted; number += 1) {
    const outcome = await load.echo(ECHO_MS);
    if (outcome === 'completed') continue;
    const what = outcome ?? `no end within ${ECHO_MS} ms`;
    bench.find('liveness', `echo ${number} of ${load.session}: ${what}`);
    return;
  }
}

/** The journals as the api reads them, and the clients when they have caught up. */
async function collect(bench: Bench): Promise<Omit<History, 'facts' | 'effects'>> {
  const { options, clients, loads, model, injector, lifeline } = bench;
  const { clock } = options;
  const api = bench.connect();
  const journals = new Map<string, readonly EventEnvelope[]>();
  try {
    for (const { session } of loads) journals.set(session, await readJournal(api, session));
    const { deep } = await api.getStatus({ deep: true });
    for (const problem of deep?.journal.problems ?? [])
      bench.find('journal', JSON.stringify(problem));
  } catch (error) {
    bench.find('liveness', `the journal cannot be read: ${toPrxError(error).message}`);
  }
  const deadlineMs = clock.nowMs() + CATCH_UP_MS;
  const lengthOf = (client: StreamClient): number =>
    journals.get(client.log().session)?.length ?? 0;
  const isBehind = (): boolean =>
    clients.some((client) => !client.isBroken() && client.lastSeq() < lengthOf(client));
  while (isBehind() && clock.nowMs() < deadlineMs) await clock.sleep(POLL_MS);
  await Promise.all(clients.map((client) => client.stop()));
  return {
    journals,
    clients: clients.map((client) => toLength(client.log(), lengthOf(client))),
    inputs: loads.flatMap((load) => load.inputs),
    requests: model.requests,
    faults: injector.faults,
    startsMs: lifeline.startsMs,
  };
}

type Log = ReturnType<StreamClient['log']>;

/** A session may have gone to sleep after its journal was read: what came later is not compared. */
function toLength(log: Log, length: number): Log {
  return { ...log, digests: log.digests.slice(0, length) };
}

async function readJournal(api: ApiClient, session: string): Promise<readonly EventEnvelope[]> {
  const events: EventEnvelope[] = [];
  for (;;) {
    const page = await api.readEvents(session, { since: events.length, limit: 1000 });
    if (page.events.length === 0) return events;
    events.push(...page.events);
  }
}

/** The clean stop, and one undisturbed start and stop more: what a kill left lying about is the
 *  next supervisor's to clear. Then nothing of the run is left. */
async function stopAll(bench: Bench): Promise<void> {
  const { lifeline, processes, home, options } = bench;
  const { clock } = options;
  for (const isLast of [false, true]) {
    if (!(await lifeline.end('SIGTERM', STOP_MS))) {
      bench.find('supervisor', `it did not stop within ${STOP_MS} ms`);
      return;
    }
    if (!isLast) await lifeline.up();
  }
  const deadlineMs = clock.nowMs() + GONE_MS;
  while (processes.leftovers().length > 0 && clock.nowMs() < deadlineMs) await clock.sleep(POLL_MS);
  for (const { identity, kind, command } of processes.leftovers()) {
    bench.find('left behind', `${kind} ${identity.pid} still runs: ${command}`);
  }
  for (const path of findLeftFiles(home.stateDir, home.tmpDir)) {
    bench.find('left behind', `the file ${path}`);
  }
}

function judge(bench: Bench, history: History, findings: readonly Violation[]): Report {
  const { options, disk, injector, home } = bench;
  const violations = [...findings, ...checkHistory(history)];
  const work = countWork(history, bench.reconnects);
  const faults = countFaults(history);
  const tooLittle = findTooLittle(options.seconds, faults, work, 'disk' in disk);
  const missed = [...injector.missed].map(([kind, count]) => `${kind}: ${count} found no target`);
  const ok = violations.length === 0 && tooLittle.length === 0;
  return {
    seed: options.seed,
    seconds: options.seconds,
    ok,
    faults,
    provider_faults: countProviderFaults(history),
    work,
    tool_statuses: countStatuses(history),
    too_little: tooLittle,
    skipped: [
      ...('skipped' in disk ? [disk.skipped] : []),
      'slow disk and clock jumps: the test suite has them',
      ...missed,
    ],
    violations,
    fault_log: history.faults,
    ...(ok ? {} : { scratch: home.dir }),
  };
}
