/** One simulated world: a machine with a disk and a clock, on which supervisors live one after the
 *  other. The supervisor is the real composition; it knows the world only through its ports, and
 *  its death is the death of those: no timer, write, signal or answer of it comes through. */
import { PrxError } from '../../base/errors.ts';
import { type Logger, silentLogger } from '../../base/logger.ts';
import { createSeededRandom, type Random } from '../../base/random.ts';
import { type Config, compileAgents, compilePolicy, loadConfig } from '../../supervisor/config.ts';
import type { RawConfig } from '../../supervisor/config-schema.ts';
import type { SpoolFiles } from '../../supervisor/effects/spool.ts';
import type { Supervisor } from '../../supervisor/index.ts';
import { createRuntime, type Runtime } from '../../supervisor/runtime.ts';
import { createSupervisor } from '../../supervisor/supervisor.ts';
import { createDisk, type Disk } from './disk.ts';
import type { Fact, Room } from './facts.ts';
import { createMachine, type Machine, programs } from './machine.ts';
import { runProgram } from './programs.ts';
import { openSimulatedStore, type SimulatedStore, type StoreSettings } from './store.ts';
import type { ClockView, Time } from './time.ts';

/** How the world behaves just now; faults change it, healing resets it. */
export interface Weather {
  delayMsMax: number;
  store: StoreSettings;
  providerFaults: number;
  /** Chance that a process cannot be started. */
  startFaults: number;
}

export const fairWeather = (): Weather => ({
  delayMsMax: 2,
  store: { commitMsMax: 2, syncMsMax: 6 },
  providerFaults: 0,
  startFaults: 0,
});

/** One supervisor process. */
export interface Incarnation {
  readonly number: number;
  readonly supervisor: Supervisor;
  readonly runtime: Runtime;
  readonly clock: ClockView;
  /** Resolves when it is ready to serve. */
  readonly ready: Promise<void>;
  isReady(): boolean;
  isAlive(): boolean;
  isFrozen(): boolean;
  /** Resolves at its end, however it comes. */
  readonly ended: Promise<void>;
}

export interface World {
  readonly seed: string;
  readonly time: Time;
  readonly disk: Disk;
  readonly machine: Machine;
  readonly weather: Weather;
  readonly record: (fact: Fact) => void;
  /** The supervisor that lives now. */
  current(): Incarnation | undefined;
  /** Undefined: the world is closed. */
  boot(): Incarnation | undefined;
  /** No supervisor is started any more. */
  close(): void;
  /** SIGKILL of the supervisor alone. */
  crash(): void;
  /** Everything dies at once, and what was not synced may be gone. */
  losePower(): void;
  freezeSupervisor(): void;
  thawSupervisor(): void;
  /** A stream of choices of its own. */
  random(purpose: string): Random;
}

export interface WorldSpec {
  readonly seed: string;
  readonly time: Time;
  readonly record: (fact: Fact) => void;
  readonly settings: Settings;
  readonly logger?: Logger;
}

/** What differs from the shipped configuration. */
export interface Settings {
  readonly warmPool: number;
  readonly maxSessions: number;
  readonly idleHibernateSecs: number;
  readonly approvalTimeoutSecs: number;
  readonly restartAttempts: number;
  readonly supervisedShell: boolean;
  readonly parallelTools: boolean;
  readonly compactionTokens: number;
  readonly compactionStrategy: 'summarize' | 'truncate';
}

/** Nothing can be made there: what the supervisor leaves on the machine's own disk stays away. */
const STATE_DIR = '/dev/null/state';

let loaded: Config | undefined;

function toConfig(settings: Settings): Config {
  loaded ??= loadConfig({ stateDir: STATE_DIR }, { HOME: '/nonexistent' }).config;
  const { raw } = loaded;
  const { agent, security } = raw;
  const own: RawConfig = {
    ...raw,
    agent: {
      ...agent,
      limits: { ...agent.limits, max_concurrent_sessions: settings.maxSessions },
      worker: {
        ...agent.worker,
        warm_pool: settings.warmPool,
        idle_hibernate_secs: settings.idleHibernateSecs,
        max_restart_attempts: settings.restartAttempts,
      },
      loop: {
        ...agent.loop,
        parallel_tool_calls: settings.parallelTools,
        compaction_threshold_tokens: settings.compactionTokens,
        compaction_strategy: settings.compactionStrategy,
      },
    },
    security: {
      ...security,
      approval: { ...security.approval, timeout_secs: settings.approvalTimeoutSecs },
      tool_policy: {
        ...security.tool_policy,
        tools: settings.supervisedShell ? { shell: 'supervised' } : {},
      },
    },
  };
  return { ...loaded, raw: own, agents: compileAgents(own), policy: compilePolicy(own) };
}

const installation = {
  node: 'node',
  ...programs,
  mcp: 'mcp.js',
  workerReadable: ['/installation/'],
  isSource: true,
  threads: { writer: 'writer.js', reader: 'reader.js' },
  root: '/installation',
};

export function createWorld(spec: WorldSpec): World {
  const { seed, time, record } = spec;
  const config = toConfig(spec.settings);
  const disk = createDisk(record);
  const weather = fairWeather();
  const starts = createSeededRandom(`${seed}/starts`);
  let incarnations = 0;
  let closed = false;
  let current:
    | (Incarnation & { readonly store: SimulatedStore; freeze(on: boolean): void })
    | undefined;
  let end: ((how: 'killed' | 'power' | 'stopped') => void) | undefined;
  const machine: Machine = createMachine({
    seed,
    time,
    disk,
    record,
    run: (process) =>
      runProgram(process, { disk, record, providerFaults: () => weather.providerFaults }),
    delayMsMax: () => weather.delayMsMax,
    onStart(room: Room) {
      if (starts.next() >= weather.startFaults) return;
      record({ kind: 'start.failed', room });
      throw new PrxError('SPAWN_FAILED', `could not start a ${room}: EAGAIN`);
    },
  });

  function boot(): Incarnation | undefined {
    if (closed) return undefined;
    incarnations += 1;
    const number = incarnations;
    let alive = true;
    let frozen = false;
    let ready = false;
    const clock = time.createView();
    const random = createSeededRandom(`${seed}/supervisor/${number}`);
    const storeRandom = createSeededRandom(`${seed}/store/${number}`);
    const store = openSimulatedStore({
      disk,
      clock,
      random: storeRandom,
      settings: () => weather.store,
    });
    const owner = { isAlive: () => alive, isFrozen: () => frozen };
    let markEnded: () => void = () => undefined;
    const ended = new Promise<void>((resolve) => {
      markEnded = resolve;
    });
    const finish = (how: 'killed' | 'power' | 'stopped'): void => {
      if (!alive) return;
      store.crash();
      alive = false;
      clock.kill();
      machine.orphan(owner);
      current = undefined;
      record({ kind: 'supervisor.ended', incarnation: number, how });
      markEnded();
    };
    end = finish;
    const runtime = createRuntime({
      openSessionLog: () => silentLogger,
      clock,
      random,
      logger: spec.logger ?? silentLogger,
      processes: machine.createPort(owner),
      adoption: machine.createAdoption(owner),
      readRss: async () => new Map(),
      spools: toSpoolFiles(disk, () => alive),
      store,
      config,
      values: [],
      loadConfig: () => ({ config, values: [] }),
      env: {},
      programs: installation,
      version: '0.0.0',
      probe: async () => ({ level: 'bubblewrap' }),
      onReloaded: () => undefined,
      onStopped: () => finish('stopped'),
    });
    record({ kind: 'supervisor.started', incarnation: number, epoch: disk.epoch });
    const started = runtime
      .start(async () => undefined)
      .then(() => {
        ready = true;
      });
    const incarnation = {
      number,
      supervisor: createSupervisor(runtime),
      runtime,
      clock,
      store,
      ready: started,
      isReady: () => ready,
      isAlive: () => alive,
      isFrozen: () => frozen,
      ended,
      freeze(on: boolean) {
        frozen = on;
        if (on) clock.freeze();
        else {
          clock.thaw();
          machine.release(owner);
        }
      },
    };
    current = incarnation;
    return incarnation;
  }

  return {
    seed,
    time,
    disk,
    machine,
    weather,
    record,
    current: () => current,
    boot,
    close() {
      closed = true;
    },
    crash: () => end?.('killed'),
    losePower() {
      end?.('power');
      machine.losePower();
      disk.losePower(createSeededRandom(`${seed}/power/${incarnations}`));
    },
    freezeSupervisor: () => current?.freeze(true),
    thawSupervisor: () => current?.freeze(false),
    random: (purpose) => createSeededRandom(`${seed}/${purpose}`),
  };
}

function toSpoolFiles(disk: Disk, isAlive: () => boolean): SpoolFiles {
  return {
    read: (path, offset) => disk.readSpool(path, offset),
    remove(stateDir, session, effect) {
      if (isAlive()) disk.removeSpools(`${stateDir}/spool/${session}/${effect}-`);
    },
    removeTurn(stateDir, session, turn) {
      const isMeant = (name: string): boolean => Number.parseInt(name, 10) <= turn;
      if (isAlive()) disk.removeSpools(`${stateDir}/spool/${session}/`, isMeant);
    },
    has: (path) => disk.hasSpool(path),
  };
}
