/** The simulated machine: a process table, pipes, and programs that run in memory. What the
 *  supervisor starts as worker is the real worker; gateway and sandbox host are scripted programs
 *  over the real protocol. Each process can be killed, stopped, made to write garbage or to die in
 *  the middle of a frame; and the supervisor at the other end of its pipes can die as well. */
import { type Duplex, Readable } from 'node:stream';
import { PrxError } from '../../base/errors.ts';
import type { MarkTable } from '../../base/marked-processes.ts';
import type {
  ProcessExit,
  ProcessIdentity,
  ProcessPort,
  ProcessSpec,
  RunningProcess,
} from '../../base/process.ts';
import { createSeededRandom, type Random } from '../../base/random.ts';
import type { Transport } from '../../protocol/connection.ts';
import { parseOrphanSocketName } from '../../protocol/orphan-methods.ts';
import { createStreamTransport } from '../../protocol/transport.ts';
import type { Disk } from './disk.ts';
import type { Fact, Room } from './facts.ts';
import { createLink, createWritable, type Link } from './link.ts';
import { createPipe, type Pipe } from './pipe.ts';
import type { ClockView, Time } from './time.ts';

/** Program names as the simulated installation has them. */
export const programs: Readonly<Record<Room, string>> = {
  worker: 'worker.js',
  gateway: 'gateway.js',
  sandbox: 'sandbox.js',
};

/** A process as its program sees it. */
export interface SimulatedProcess {
  readonly room: Room;
  readonly pid: number;
  readonly identity: ProcessIdentity;
  readonly clock: ClockView;
  readonly random: Random;
  readonly transport: Transport;
  isAlive(): boolean;
  isFrozen(): boolean;
  die(exit: ProcessExit): void;
  freeze(): void;
  thaw(): void;
  /** Writes bytes that are no protocol. */
  babble(): void;
  /** Serves whoever connects to its socket; undefined: it does not listen. */
  door: ((socket: Duplex) => void) | undefined;
  /** The one session of a sandbox host, once it knows. */
  session: string | undefined;
}

export interface Machine {
  /** The processes as one incarnation of the supervisor may start and signal them. */
  createPort(owner: MachineOwner): ProcessPort;
  /** What an incarnation may ask of processes it did not start. */
  createAdoption(owner: MachineOwner): SimulatedAdoption;
  live(room?: Room): readonly SimulatedProcess[];
  /** The supervisor died: its ends of all pipes are closed. */
  orphan(owner: MachineOwner): void;
  /** The supervisor stood still and goes on. */
  release(owner: MachineOwner): void;
  losePower(): void;
}

export interface SimulatedAdoption {
  readonly owner: string;
  readonly marks: MarkTable;
  readonly connect: (path: string, signal: AbortSignal) => Promise<Transport>;
}

export interface MachineOwner {
  isAlive(): boolean;
  isFrozen(): boolean;
}

export interface MachineDeps {
  readonly seed: string;
  readonly time: Time;
  readonly disk: Disk;
  readonly record: (fact: Fact) => void;
  readonly run: (process: SimulatedProcess) => void;
  readonly delayMsMax: () => number;
  /** Throws to make a start fail. */
  readonly onStart: (room: Room) => void;
}

interface Entry {
  readonly process: SimulatedProcess;
  readonly spec: ProcessSpec;
  /** Sockets that are connected to it. */
  readonly links: Link[];
  readonly owner: MachineOwner;
  readonly up: Pipe;
  readonly down: Pipe;
}

/** Above every pid the kernel gives: never our own. */
const FIRST_PID = 5_000_000;
const SPAWN_MS_MAX = 20;
const EXIT_MS_MAX = 3;
/** Chance that a process that is killed dies in the middle of a frame. */
const CUT = 0.3;
const GARBAGE = Buffer.from('Debugger listening on nothing\n');

export function createMachine(deps: MachineDeps): Machine {
  const { time, disk, record } = deps;
  const entries = new Map<number, Entry>();
  const random = createSeededRandom(`${deps.seed}/machine`);
  let started = 0;
  let bootPids = 0;

  function start(spec: ProcessSpec, owner: MachineOwner): RunningProcess {
    const room = findRoom(spec);
    deps.onStart(room);
    started += 1;
    bootPids += 1;
    const pid = FIRST_PID + bootPids;
    const { running, entry } = createProcess({ ...deps, spec, room, pid, started, owner });
    entries.set(pid, entry);
    record({ kind: 'process.started', pid, room });
    deps.run(entry.process);
    return running;
  }

  const find = ({ pid, startTicks, bootId }: ProcessIdentity): SimulatedProcess | undefined => {
    const found = entries.get(pid)?.process;
    const isSame = found?.identity.startTicks === startTicks && bootId === disk.bootId;
    return isSame && found.isAlive() ? found : undefined;
  };

  return {
    live: (room) =>
      [...entries.values()]
        .map(({ process }) => process)
        .filter((each) => each.isAlive() && (room === undefined || each.room === room)),
    createPort: (owner) => ({
      async start(spec) {
        await time.sleep(random.next() * SPAWN_MS_MAX);
        if (!owner.isAlive()) return new Promise(() => undefined);
        return start(spec, owner);
      },
      findIdentity(pid) {
        const found = entries.get(pid)?.process;
        return found?.isAlive() ? found.identity : undefined;
      },
      isAlive: (identity) => find(identity) !== undefined,
      signalIdentity(identity, signal) {
        const found = owner.isAlive() ? find(identity) : undefined;
        if (found !== undefined) signalProcess(found, signal);
        return found !== undefined;
      },
      listDescendants: () => [],
    }),
    createAdoption: (owner) => createAdoption({ deps, entries, random }, owner),
    orphan(owner) {
      for (const entry of entries.values()) {
        if (entry.owner !== owner) continue;
        entry.down.end();
        entry.up.drop();
      }
      for (const { links } of entries.values()) for (const link of links) link.hangUp();
    },
    release(owner) {
      for (const entry of entries.values()) {
        if (entry.owner !== owner) continue;
        entry.up.release();
        entry.down.release();
      }
      for (const { links } of entries.values()) for (const link of links) link.release();
    },
    losePower() {
      for (const { process } of entries.values())
        process.die({ code: undefined, signal: undefined });
      entries.clear();
      bootPids = 0;
    },
  };
}

interface Adoption {
  readonly deps: MachineDeps;
  readonly entries: ReadonlyMap<number, Entry>;
  readonly random: Random;
}

/** The mark of the one state dir of this world. */
const OWNER = 'simulated';
const CONNECT_MS_MAX = 5;

function createAdoption(
  { deps, entries, random }: Adoption,
  owner: MachineOwner,
): SimulatedAdoption {
  const live = (): readonly Entry[] =>
    [...entries.values()].filter((each) => each.process.isAlive());
  const find = (pid: number): Entry | undefined =>
    live().find(({ process }) => process.pid === pid);
  const marks: MarkTable = {
    find: (name) =>
      live().flatMap(({ spec, process: { identity } }) => {
        const mark = spec.env[name];
        return mark === undefined ? [] : [{ identity, mark }];
      }),
    read: (pid, name) => find(pid)?.spec.env[name],
    listAncestors: (pid) => (find(pid)?.owner === owner ? [process.pid] : [1]),
    pidMax: () => 2 * FIRST_PID,
    kill({ pid, startTicks }) {
      const found = owner.isAlive() ? find(pid) : undefined;
      if (found?.process.identity.startTicks !== startTicks) return false;
      found.process.die({ code: undefined, signal: 'SIGKILL' });
      return true;
    },
  };
  return {
    owner: OWNER,
    marks,
    async connect(path, signal) {
      await deps.time.sleep(random.next() * CONNECT_MS_MAX, signal);
      const name = parseOrphanSocketName(path.slice(path.lastIndexOf('/') + 1));
      const found = name === undefined ? undefined : find(name.pid);
      const door = found?.process.door;
      if (found === undefined || door === undefined || !owner.isAlive()) {
        throw Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' });
      }
      const { process } = found;
      const isHeld = (): boolean =>
        (process.isAlive() && process.isFrozen()) || (owner.isAlive() && owner.isFrozen());
      const link = createLink({ ...deps, random, isHeld });
      found.links.push(link);
      door(link.theirs);
      return createStreamTransport(link.ours, link.ours);
    },
  };
}

function signalProcess(process: SimulatedProcess, signal: NodeJS.Signals): void {
  // A stopped process takes every signal but this one when it goes on.
  if (process.isFrozen() && signal !== 'SIGKILL') return;
  process.die({ code: undefined, signal });
}

function findRoom(spec: ProcessSpec): Room {
  for (const [room, program] of Object.entries(programs)) {
    if (spec.args.includes(program)) return room as Room; // the keys of the table
  }
  throw new PrxError('SPAWN_FAILED', `could not start ${spec.command}: ENOENT`);
}

interface ProcessOptions extends MachineDeps {
  readonly spec: ProcessSpec;
  readonly room: Room;
  readonly pid: number;
  readonly started: number;
  readonly owner: MachineOwner;
}

function createProcess(options: ProcessOptions): { running: RunningProcess; entry: Entry } {
  const { time, owner, pid, room, disk } = options;
  const random = createSeededRandom(`${options.seed}/process/${options.started}`);
  const clock = time.createView();
  const links: Link[] = [];
  let alive = true;
  let frozen = false;
  let frozenAtMs = 0;
  let resolveExit: (exit: ProcessExit) => void = () => undefined;
  const exited = new Promise<ProcessExit>((resolve) => {
    resolveExit = resolve;
  });
  const isHeld = (): boolean => (alive && frozen) || (owner.isAlive() && owner.isFrozen());
  const stdout = new Readable({ read: () => undefined });
  const stderr = new Readable({ read: () => undefined });
  const input = new Readable({ read: () => undefined });
  const pipeDeps = { time, random, delayMsMax: options.delayMsMax };
  const up = createPipe(pipeDeps, { isHeld, take: (chunk) => void stdout.push(chunk ?? null) });
  const down = createPipe(pipeDeps, { isHeld, take: (chunk) => void input.push(chunk ?? null) });
  const output = createWritable(() => alive && owner.isAlive(), up);
  const stdin = createWritable(() => alive && owner.isAlive(), {
    ...down,
    write(chunk) {
      const order = findOrder(chunk);
      if (order !== undefined) {
        const { session = process.session, effect } = order;
        options.record({ kind: 'ordered', session, effect, pid });
      }
      down.write(chunk);
    },
  });

  function die(exit: ProcessExit): void {
    if (!alive) return;
    alive = false;
    clock.kill();
    if (exit.code === undefined && random.next() < CUT) up.cut();
    up.end();
    up.release();
    down.drop();
    for (const link of links) link.hangUp();
    stderr.push(null);
    options.record({ kind: 'process.ended', pid, room });
    time.setTimer(random.next() * EXIT_MS_MAX, () => {
      if (owner.isAlive()) resolveExit(exit);
    });
  }

  const process: SimulatedProcess = {
    room,
    pid,
    identity: { pid, startTicks: options.started, bootId: disk.bootId },
    clock,
    random,
    transport: whileAlive(createStreamTransport(input, output), () => alive),
    isAlive: () => alive,
    isFrozen: () => frozen,
    die,
    freeze() {
      if (!frozen) frozenAtMs = time.nowMs();
      frozen = true;
      clock.freeze();
    },
    thaw() {
      if (!frozen || !alive) return;
      options.record({ kind: 'process.thawed', pid, frozenMs: time.nowMs() - frozenAtMs });
      frozen = false;
      clock.thaw();
      up.release();
      down.release();
      for (const link of links) link.release();
    },
    door: undefined,
    session: undefined,
    babble: () => up.write(GARBAGE),
  };
  const kill = (signal: NodeJS.Signals): boolean => {
    if (!alive || !owner.isAlive()) return false;
    signalProcess(process, signal);
    return true;
  };
  const running = { pid, stdin, stdout, stderr, exited, kill, killGroup: kill };
  return { running, entry: { process, spec: options.spec, owner, up, down, links } };
}

/** The effect that a frame to a gateway or a host asks for. The writer sends one frame a write. */
function findOrder(frame: Buffer): { session?: string; effect: string } | undefined {
  if (!frame.includes('"method":"model/generate"') && !frame.includes('"method":"tool/run"')) {
    return undefined;
  }
  const body = frame.subarray(frame.indexOf('\r\n\r\n') + 4).toString('utf8');
  return (JSON.parse(body) as { params: { session?: string; effect: string } }).params;
}

/** The dead hear nothing, not even what lies in their buffers. */
function whileAlive({ reader, writer }: Transport, isAlive: () => boolean): Transport {
  return {
    writer,
    reader: {
      onError: reader.onError,
      onClose: reader.onClose,
      onPartialMessage: reader.onPartialMessage,
      dispose: () => reader.dispose(),
      listen: (deliver) =>
        reader.listen((message) => {
          if (isAlive()) deliver(message);
        }),
    },
  };
}
