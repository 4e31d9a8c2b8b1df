/** A machine without processes: what the supervisor starts as worker, gateway or sandbox host runs
 *  in memory behind real pipes. Workers are the real worker; gateway and host do what the test's
 *  script says, an MCP host as well. Each can be killed at any instant. */
import { PassThrough } from 'node:stream';
import { realClock } from '../../base/clock.ts';
import { PrxError } from '../../base/errors.ts';
import {
  type ProcessExit,
  type ProcessPort,
  type ProcessSpec,
  type RunningProcess,
  realProcesses,
} from '../../base/process.ts';
import type { Transport } from '../../protocol/connection.ts';
import { createStreamTransport } from '../../protocol/transport.ts';
import { serveWorker } from '../../worker/session.ts';
import type { FakeProcess, Room } from './fake-process.ts';
import { type GatewayScript, serveGateway } from './scripted-gateway.ts';
import { type HostScript, serveHost } from './scripted-host.ts';

/** Program names as the house gives them to the supervisor. */
export const programNames: Readonly<Record<Room, string>> = {
  worker: 'worker.js',
  gateway: 'gateway.js',
  sandbox: 'sandbox.js',
  mcp: 'mcp.js',
};

export interface MachineScript {
  readonly gateway: GatewayScript;
  readonly host: HostScript;
  /** Hears each message a worker writes, before it is on the pipe; false: it is lost. */
  onWorkerWrite?(message: unknown, worker: FakeProcess): boolean | undefined;
  /** Replaces the worker's program (a broken worker). */
  runWorker?(process: FakeProcess, transport: Transport): void;
  /** An MCP host's program; absent: it never says a word. */
  runMcp?(process: FakeProcess, transport: Transport): void;
  /** Throws to make the start of a process fail. */
  onStart?(room: Room, count: number): void;
}

export interface Machine extends ProcessPort {
  readonly started: FakeProcess[];
  of(room: Room): FakeProcess[];
  live(room: Room): FakeProcess[];
  script: MachineScript;
}

/** Above every pid the kernel gives. */
const FIRST_PID = 5_000_000;

export function createMachine(script: MachineScript): Machine {
  const started: FakeProcess[] = [];
  const machine: Machine = {
    ...realProcesses,
    started,
    script,
    of: (room) => started.filter((each) => each.room === room),
    live: (room) => started.filter((each) => each.room === room && each.isAlive()),
    async start(spec) {
      const room = findRoom(spec);
      machine.script.onStart?.(room, machine.of(room).length + 1);
      const { running, own, transport } = createPipes(room, spec, FIRST_PID + started.length);
      started.push(own);
      if (room === 'worker') serveFakeWorker(machine, own, transport);
      else if (room === 'gateway') serveGateway(own, transport, () => machine.script.gateway);
      else if (room === 'sandbox') serveHost(own, transport, () => machine.script.host);
      else if (machine.script.runMcp !== undefined) machine.script.runMcp(own, transport);
      else transport.reader.listen(() => undefined);
      return running;
    },
  };
  return machine;
}

function findRoom(spec: ProcessSpec): Room {
  for (const [room, program] of Object.entries(programNames)) {
    if (spec.args.includes(program)) return room as Room; // the keys of programNames
  }
  throw new PrxError('SPAWN_FAILED', `could not start ${spec.command}: ENOENT`);
}

interface Pipes {
  readonly running: RunningProcess;
  readonly own: FakeProcess;
  readonly transport: Transport;
}

function createPipes(room: Room, spec: ProcessSpec, pid: number): Pipes {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  let alive = true;
  let resolveExit: (exit: ProcessExit) => void = () => undefined;
  const exited = new Promise<ProcessExit>((resolve) => {
    resolveExit = resolve;
  });
  const own: FakeProcess = {
    room,
    spec,
    pid,
    isAlive: () => alive,
    die(exit = { signal: 'SIGKILL' }, text = '') {
      if (!alive) return;
      alive = false;
      stderr.end(text);
      stdout.end();
      stdin.destroy();
      resolveExit({ code: exit.code, signal: exit.signal });
    },
  };
  const kill = (signal: NodeJS.Signals): boolean => {
    const wasAlive = alive;
    own.die({ signal });
    return wasAlive;
  };
  const running = { pid, stdin, stdout, stderr, exited, kill, killGroup: kill };
  for (const stream of [stdin, stdout, stderr]) stream.on('error', () => undefined);
  return { running, own, transport: createStreamTransport(stdin, stdout) };
}

function serveFakeWorker(machine: Machine, own: FakeProcess, transport: Transport): void {
  const { writer } = transport;
  const heard: Transport = {
    reader: transport.reader,
    writer: {
      onError: writer.onError,
      onClose: writer.onClose,
      end: () => writer.end(),
      dispose: () => writer.dispose(),
      async write(message) {
        if (!own.isAlive()) return;
        if (machine.script.onWorkerWrite?.(message, own) === false) return;
        if (own.isAlive()) await writer.write(message);
      },
    },
  };
  if (machine.script.runWorker !== undefined) {
    machine.script.runWorker(own, heard);
    return;
  }
  const connection = serveWorker({
    transport: heard,
    clock: realClock,
    pid: own.pid,
    confinement: ['test'],
    readRssBytes: () => 1,
  });
  void connection.closed.then(() => own.die({ code: 0, signal: undefined }));
}
