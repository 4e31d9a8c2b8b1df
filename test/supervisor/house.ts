/** A whole supervisor over a real journal in a folder of its own, on a machine without processes
 *  (machine.ts). It can be crashed and started again on the same state directory. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Clock, realClock } from '../../base/clock.ts';
import { createLogger, silentLogger } from '../../base/logger.ts';
import { realRandom } from '../../base/random.ts';
import type { EventEnvelope } from '../../protocol/events.ts';
import type { SessionId } from '../../protocol/ids.ts';
import type { CreateSession } from '../../protocol/resources.ts';
import type { Store } from '../../store/contract.ts';
import { openStore, type StoreOptions } from '../../store/index.ts';
import { readRealRss } from '../../supervisor/children/memory.ts';
import { type Config, loadConfig } from '../../supervisor/config.ts';
import { realSpools } from '../../supervisor/effects/spool.ts';
import type { Supervisor } from '../../supervisor/index.ts';
import type { Programs } from '../../supervisor/launch.ts';
import { createRuntime, type Runtime } from '../../supervisor/runtime.ts';
import { createSessionLogs } from '../../supervisor/session-log.ts';
import type { Session } from '../../supervisor/sessions/session.ts';
import type { Probe } from '../../supervisor/settings.ts';
import { createSupervisor } from '../../supervisor/supervisor.ts';
import { threadFiles } from '../programs.ts';
import { createMachine, type Machine, type MachineScript, programNames } from './machine.ts';
import { answers, runsEverything } from './script.ts';

export interface HouseSpec {
  readonly toml?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly script?: Partial<MachineScript>;
  readonly clock?: Clock;
  /** Whose time the events get; absent: the real one. */
  readonly storeClock?: Clock;
  /** Several: one for each time it is asked, the last one from then on. */
  readonly probe?: Probe | readonly Probe[];
  readonly stateDir?: string;
  readonly faults?: StoreOptions['faults'];
  /** Hears each log line; absent: nobody does. */
  readonly log?: (line: string) => void;
  readonly onReloaded?: (config: Config) => void;
  /** Puts something between the supervisor and its store. */
  readonly wrapStore?: (store: Store) => Store;
}

export interface House {
  readonly stateDir: string;
  readonly machine: Machine;
  readonly runtime: Runtime;
  readonly supervisor: Supervisor;
  readonly store: Store;
  /** Set by a graceful stop. */
  readonly stopped: Promise<void>;
  create(params?: CreateSession): Promise<SessionId>;
  send(id: SessionId, text: string): Promise<void>;
  session(id: SessionId): Session;
  events(id: SessionId): Promise<EventEnvelope[]>;
  /** The n-th event that matches, as a follower from the start sees it. */
  until(id: SessionId, what: Match, count?: number): Promise<EventEnvelope>;
  /** The n-th turn.completed. */
  turnDone(id: SessionId, count?: number): Promise<EventEnvelope>;
  /** SIGKILL of everything; resolves when the state directory is free. */
  crash(): Promise<void>;
  /** A new supervisor on the same state directory, after `crash`. */
  again(spec?: HouseSpec): Promise<House>;
}

export type Match = string | ((event: EventEnvelope) => boolean);

const programs: Programs = {
  node: 'node',
  ...programNames,
  workerReadable: ['/installation/'],
  isSource: true,
  threads: { writer: 'writer.js', reader: 'reader.js' },
  root: '/installation',
};

const open = new Set<House>();
const folders = new Set<string>();

export async function createHouse(spec: HouseSpec = {}): Promise<House> {
  const stateDir = spec.stateDir ?? mkdtempSync(join(tmpdir(), 'prx-house-'));
  folders.add(stateDir);
  const file = join(stateDir, 'test-config.toml');
  const load = (): ReturnType<typeof loadConfig> => loadConfig({ config: file, stateDir }, env);
  const env = { HOME: '/nonexistent', ...spec.env };
  writeFileSync(file, spec.toml ?? '');
  const machine = createMachine({ gateway: answers({}), host: runsEverything(), ...spec.script });
  const faults = spec.faults === undefined ? {} : { faults: spec.faults };
  const logger = spec.log ? createLogger('test', 'debug', { write: spec.log }) : silentLogger;
  const redact = (line: string): string => line;
  const openSessionLog = spec.log
    ? createSessionLogs({ stateDir, clock: realClock, logger, redact })
    : () => silentLogger;
  const clock = spec.clock ?? realClock;
  const { wallMs } = clock;
  const opened = await openStore({
    // One wall clock for all, as in a supervisor.
    ...{ stateDir, clock: spec.storeClock ?? { ...realClock, wallMs }, logger },
    ...faults,
    threadFiles,
  });
  const store = spec.wrapStore?.(opened) ?? opened;
  let markStopped: () => void = () => undefined;
  const stopped = new Promise<void>((resolve) => {
    markStopped = resolve;
  });
  const probes = [spec.probe ?? { level: 'bubblewrap' }].flat();
  const lastProbe = probes.at(-1) ?? { level: 'none' };
  const runtime = createRuntime({
    openSessionLog,
    clock,
    random: realRandom,
    logger,
    processes: machine,
    readRss: readRealRss,
    spools: realSpools,
    store,
    ...load(),
    loadConfig: load,
    env,
    programs,
    version: '0.0.0-test',
    probe: async () => probes.shift() ?? lastProbe,
    onReloaded: spec.onReloaded ?? (() => undefined),
    onStopped: markStopped,
  });
  const supervisor = createSupervisor(runtime);
  const parts = { stateDir, machine, runtime, supervisor, store, stopped };
  const house: House = { ...parts, ...readings(parts), again: (next = {}) => reopen(next, spec) };
  async function reopen(next: HouseSpec, before: HouseSpec): Promise<House> {
    await house.crash();
    const script = next.script ?? before.script;
    return createHouse({ ...before, ...next, ...(script ? { script } : {}), stateDir });
  }
  open.add(house);
  await runtime.start(async () => undefined);
  return house;
}

type Parts = Pick<House, 'stateDir' | 'machine' | 'runtime' | 'supervisor' | 'store' | 'stopped'>;

function readings(parts: Parts): Omit<House, keyof Parts | 'again'> {
  const { runtime, supervisor, store, machine } = parts;
  const events = async (id: SessionId): Promise<EventEnvelope[]> => {
    const found: EventEnvelope[] = [];
    for (let since = 0; ; ) {
      const page = await store.readEvents(id, { since, limit: 1000 });
      if (page.events.length === 0) return found;
      found.push(...page.events);
      since = found.at(-1)?.seq ?? since;
    }
  };
  const until = async (id: SessionId, what: Match, count = 1): Promise<EventEnvelope> => {
    const matches = typeof what === 'string' ? (each: EventEnvelope) => each.type === what : what;
    const end = new AbortController();
    let left = count;
    try {
      const followed = await supervisor.followEvents(id, { since: 0, signal: end.signal });
      for await (const event of followed) {
        if (matches(event)) left -= 1;
        if (left === 0) return event;
      }
    } finally {
      end.abort();
    }
    throw new Error('the stream ended before the event came');
  };
  let crashing: Promise<void> | undefined;
  async function crash(): Promise<void> {
    // Halting stands for the death of this process: nothing of it writes any more.
    const halted = runtime.directory.halt();
    for (const each of machine.started) each.die();
    await halted;
    await store.close();
  }
  return {
    async create(params = {}) {
      return (await supervisor.createSession(params, 'test')).view.id;
    },
    async send(id, text) {
      await supervisor.acceptInput(id, { text }, 'test');
    },
    session(id) {
      const session = runtime.directory.find(id);
      if (session === undefined) throw new Error(`session ${id} is not open`);
      return session;
    },
    events,
    until,
    turnDone: (id, count = 1) => until(id, 'turn.completed', count),
    crash() {
      crashing ??= crash();
      return crashing;
    },
  };
}

/** Ends all houses of a test file; for afterEach. */
export async function demolish(): Promise<void> {
  await Promise.allSettled([...open].map((house) => house.crash()));
  open.clear();
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  folders.clear();
}

/** Each of five milliseconds: a guard against a hang, no statement of how long it takes. */
const LOOKS_MAX = 6000;

/** Resolves when the warm pool has so many spares. */
export async function filled(house: House, warm: number): Promise<void> {
  for (let looks = 0; looks < LOOKS_MAX; looks += 1) {
    if ((await house.supervisor.status(false)).capacity.warm === warm) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`the pool did not get ${warm} spares`);
}
