/** What one run is made of: the scratch folder, the model server, the supervisor and whoever talks
 *  to it; and how all of it is taken away again, whatever happened. */
import { type ApiClient, createClient } from '../api/client.ts';
import type { Clock } from '../base/clock.ts';
import type { Random } from '../base/random.ts';
import { type StreamClient, startClient } from './clients.ts';
import { type DiskChoice, openDisk } from './disk.ts';
import { type Violation, violate } from './history.ts';
import { createHome, type Home, writeConfig } from './home.ts';
import { createInjector, type Injector } from './injector.ts';
import { createLifeline, type Lifeline } from './lifeline.ts';
import { createLoad, type Load } from './load.ts';
import { type ModelServer, startModelServer } from './model-server.ts';
import { createObserver, type Observer } from './observer.ts';
import { createProcessWatch, type ProcessWatch } from './processes.ts';

export interface RunOptions {
  readonly seed: string;
  readonly seconds: number;
  readonly clock: Clock;
  readonly random: Random;
  /** Folder of the running program. */
  readonly here: string;
  /** PATH for the supervisor. */
  readonly path: string;
  /** Aborted by Ctrl-C: everything is ended and removed. */
  readonly signal: AbortSignal;
  readonly onProgress: (line: string) => void;
}

export interface Bench {
  readonly options: RunOptions;
  readonly home: Home;
  readonly model: ModelServer;
  readonly processes: ProcessWatch;
  readonly lifeline: Lifeline;
  readonly injector: Injector;
  readonly observer: Observer;
  readonly disk: DiskChoice;
  readonly sleepMark: string;
  readonly findings: Violation[];
  readonly workspaces: string[];
  readonly loads: Load[];
  readonly clients: StreamClient[];
  reconnects: number;
  connect(): ApiClient;
  find(check: string, message: string): void;
}

/** More than may be resident at once: queueing and hibernation belong to the load. */
export const SESSIONS = 8;
const CLIENTS_PER_SESSION = 2;
/** A request that is not answered in this time is in doubt: a frozen supervisor takes longer. */
const REQUEST_MS = 4000;
const END_MS = 10_000;
const FINDINGS_MAX = 200;

export async function openBench(options: RunOptions): Promise<Bench> {
  const { clock, path } = options;
  const findings: Violation[] = [];
  const find = (check: string, message: string): void => {
    if (findings.length < FINDINGS_MAX) findings.push(violate(check, message));
  };
  const sleepMark = `300.${Number.parseInt(options.random.hex(4), 16)}`;
  const model = await startModelServer(clock);
  const home = createHome(options.here);
  writeConfig(home, model.url);
  const disk = await openDisk(home, path);
  const processes = createProcessWatch(home.dir, sleepMark, clock);
  const lifeline = createLifeline({
    home,
    clock,
    path,
    isExcused: () => injector.isDiskFull(),
    onFinding: (message) => find('supervisor', message),
  });
  const injector = createInjector({
    clock,
    processes,
    lifeline,
    disk: 'disk' in disk ? disk.disk : undefined,
    onFinding: (message) => find('supervisor', message),
  });
  const observer = createObserver(clock, (message) => find('one worker', message));
  const socketPath = `${home.stateDir}/api.sock`;
  return {
    options,
    home,
    model,
    processes,
    lifeline,
    injector,
    observer,
    disk,
    sleepMark,
    findings,
    workspaces: [],
    loads: [],
    clients: [],
    reconnects: 0,
    connect: () => createClient({ socketPath, clock, timeoutMs: REQUEST_MS }),
    find,
  };
}

export async function openSessions(bench: Bench): Promise<void> {
  const client = bench.connect();
  for (let number = 1; number <= SESSIONS; number += 1) {
    const workspace = bench.home.createWorkspace(`w${number}`);
    bench.workspaces.push(workspace);
    const { view } = await client.createSession({ workspace, name: `s${number}` });
    addSession(bench, view.id);
  }
}

export function addSession(bench: Bench, session: string): Load {
  const { options, observer, sleepMark } = bench;
  const { clock, seed } = options;
  const load = createLoad(
    {
      client: bench.connect(),
      clock,
      observer,
      seed,
      sleepMark,
      onFinding: (message) => bench.find('answer', message),
    },
    session,
  );
  bench.loads.push(load);
  for (let number = 1; number <= CLIENTS_PER_SESSION; number += 1) {
    const client = startClient({
      session,
      name: `${session}/${number}`,
      seed,
      connect: bench.connect,
      clock,
      onEvent: observer.onEvent,
      onReconnect: () => {
        bench.reconnects += 1;
      },
    });
    bench.clients.push(client);
  }
  return load;
}

/** @param keep  the scratch folder stays, with what was in the state dir */
export async function closeBench(bench: Bench, keep: boolean): Promise<void> {
  const { disk, processes, model, home, clients, lifeline } = bench;
  await Promise.all(clients.map((client) => client.stop()));
  await lifeline.end('SIGKILL', END_MS);
  processes.killAll();
  if ('disk' in disk) await disk.disk.close(keep);
  await model.close();
  if (!keep) home.remove();
}
