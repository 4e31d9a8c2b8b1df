/** The cell of a session: an outer pid namespace in which every sandbox of the session is born,
 *  so that all of them die with the host, at whatever instant it is killed. It holds no policy.
 *  Its first process is a shell that starts bubblewrap on request and ends when our pipe to it
 *  ends: 1 MB instead of a runtime's 40, and its forks do not stop our event loop. Entering from
 *  outside (nsenter) was tried: killed, it leaves a child to the machine's first process, and where
 *  that one does not reap, the cell cannot end. */
import { chownSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { assert } from '../../base/assert.ts';
import type { Clock } from '../../base/clock.ts';
import { PrxError, toPrxError } from '../../base/errors.ts';
import { OWNER_MARK, type QuickProcess, spawnQuick } from '../../base/process.ts';
import type { Random } from '../../base/random.ts';
import type { NetworkPolicy } from '../../protocol/network.ts';
import { receiveDoor, toDoorEnvironment } from '../network/door.ts';
import { toAdvice } from './advice.ts';
import { SCRIPT_FOLDER, STAGE_BYTES, type SystemEntry, toCellArguments } from './arguments.ts';
import { type EtcPlan, fillEtc } from './etc.ts';
import type { Identity } from './identity.ts';
import {
  type PreludeReport,
  parsePreludeReport,
  STAGE,
  type StageItem,
  toPreludeCommand,
} from './prelude.ts';
import {
  killGroup,
  killProcess,
  listChildren,
  listProcesses,
  readCommandLine,
  readInnerPid,
} from './process-tree.ts';
import { SLOTS_AT_ONCE, SPAWNER_SCRIPT } from './spawner.ts';

/** The programs that a cell and its sandboxes are made of; full paths. */
export interface Programs {
  /** The command that takes bubblewrap's arguments: bubblewrap, or our own builder. */
  readonly builder: readonly string[];
  readonly mkfifo: string;
  /** Absent: root has no way to stage a workspace. */
  readonly perl: string | undefined;
}

/** A sandbox that is being built; its pipes exist, and wait to be opened. */
export interface Birth {
  readonly slot: number;
  /** Shown inside as the folder of the script; empty. */
  readonly slotPath: string;
  /** Holds the pipes in, out, err and status; never shown inside. */
  readonly pipesPath: string;
  /** Resolves when its process should long have opened them: one that has not never will. */
  readonly overdue: Promise<void>;
}

export interface BirthSpec {
  /** The arguments for bubblewrap, given the slot's own mount source. */
  readonly toArguments: (slotSource: string) => readonly string[];
  /** True: it waits for a byte of its input before its command is there. */
  readonly isHeld: boolean;
}

export interface Cell {
  readonly identity: Identity;
  readonly report: PreludeReport;
  isAlive(): boolean;
  /** Resolves when its outer process is gone; whatever was born in it ends then. */
  readonly ended: Promise<void>;
  /** Starts a sandbox. Rejects with SANDBOX_UNAVAILABLE when the cell has died. */
  bear(spec: BirthSpec): Promise<Birth>;
  /** Removes what a birth left on the stage. */
  bury(birth: Birth): void;
  /** The first process of a sandbox as the host counts, given its pid as the cell counts. */
  findHostPid(innerPid: number): number | undefined;
  /** Ends what has lost its monitor: of a bubblewrap that is killed in its first millisecond the
   *  child waits for it for ever. Idempotent. */
  endStrays(): void;
  /** Resolves when its outer process was reaped: nobody else may do it after us. Idempotent. */
  close(): Promise<void>;
}

export interface CellSpec {
  readonly programs: Programs;
  readonly identity: Identity;
  readonly system: readonly SystemEntry[];
  readonly items: readonly StageItem[];
  readonly etc: EtcPlan;
  /** What its shell does before the script of a call. */
  readonly limitScript: string;
  /** The system call filter; empty: none. */
  readonly filter: Buffer;
  readonly network: NetworkPolicy['mode'];
  /** Absent: nothing listens in the cell. */
  readonly door?: DoorSpec | undefined;
  /** The mark by which a sweep knows what is left of it; no sandbox in it has it. */
  readonly owner?: string | undefined;
  readonly clock: Clock;
  readonly random: Random;
}

export interface DoorSpec {
  /** The runtime, where the cell finds it. */
  readonly runtime: string;
  /** Takes what connects from inside. */
  readonly onConnection: (socket: Socket) => void;
}

/** What a parked shell does first: waits for a line that says whether more input follows. At the
 *  end of its input without one it ends. */
const WAIT_SCRIPT = `read -r prx_input || exit 1
[ "$prx_input" = in ] || exec </dev/null
unset prx_input
`;

const START_MS = 10_000;
/** From its birth until a sandbox has opened its pipes: milliseconds, on a machine that is busy. */
const OPEN_MS = 10_000;
const LINES_MAX = 200;
/** What a birth left is removed when its answer is on its way. */
const BURY_DELAY_MS = 20;
/** The kernel ends a killed namespace in a few milliseconds. On a busy machine its processes, which
 *  run when nobody else wants to, end later: who waits for us must not find any behind us. */
const CLOSE_MS = 10_000;
/** A dying process closes its pipes before its children are somebody else's. */
const STRAY_DELAYS_MS = [0, 20, 200, 2000] as const;

/** Starts a cell. Throws SANDBOX_UNAVAILABLE with the reason and the mend. */
export async function startCell(spec: CellSpec): Promise<Cell> {
  const { identity, clock } = spec;
  const mark = spec.random.hex(8);
  const [command = '', ...args] = toCellCommand(spec, mark);
  const quick = await spawnQuick({
    command,
    args,
    cwd: '/',
    env: toEnvironment(spec),
    // A signal to our group must not hit bubblewrap in its first millisecond either.
    ownSession: true,
    stdio: ['pipe', 'pipe', 'pipe', ...(spec.door === undefined ? [] : ['ipc' as const])],
  });
  const door = spec.door === undefined ? undefined : receiveDoor(quick, spec.door.onConnection);
  const stderr = collectText(quick.child.stderr);
  quick.child.stdin?.on('error', () => undefined);
  const output = readLines(quick);
  const lines = await output.untilReady(clock, quick);
  const report = parsePreludeReport(lines ?? []);
  const [initPid] = lines === undefined ? [] : listChildren(quick.pid);
  // The door was sent before the line that says ready.
  const isOpen = door === undefined || (lines !== undefined && (await door.opened(clock)));
  const stagePath = `/proc/${initPid}/root${STAGE}`;
  const isUp = initPid !== undefined && isOpen;
  // It may die at any instant: what cannot be written then is no fault of the machine.
  const fault = isUp ? tryWriteStage(stagePath, spec) : '';
  if (!isUp || fault !== undefined) {
    door?.close();
    if (initPid !== undefined) killProcess(initPid);
    killGroup(quick.pid);
    quick.child.stdin?.destroy();
    await quick.exited;
    killMarked(mark);
    await Promise.race([output.closed, clock.sleep(CLOSE_MS)]);
    throw unavailable([report.failure ?? '', output.said(), stderr(), fault ?? '']);
  }
  void quick.exited.then(() => door?.close());
  return createCell({ quick, initPid, stagePath, identity, report, output, clock });
}

/** A bubblewrap killed in its first millisecond leaves a child that waits for it for ever. One that
 *  has left its group by then has its starter's command line, and so the mark of this cell. */
function killMarked(mark: string): void {
  for (const pid of listProcesses()) if (readCommandLine(pid).includes(mark)) killProcess(pid);
}

/** A bubblewrap killed in its first millisecond together with its host is found by the mark. */
function toEnvironment({ door, owner }: CellSpec): Record<string, string> {
  return {
    ...(owner === undefined ? {} : { [OWNER_MARK]: owner }),
    ...(door === undefined ? {} : toDoorEnvironment(door.runtime)),
  };
}

function toCellCommand(spec: CellSpec, mark: string): string[] {
  const { identity, programs, etc, system, network, limitScript } = spec;
  const items = [...spec.items, ...etc.items];
  const stage = { stage: STAGE, staged: identity.drops, items };
  const cell = [
    ...programs.builder,
    ...toCellArguments({ ...stage, mark, network, system }),
    '--',
    ...['/bin/sh', '-c', SPAWNER_SCRIPT, 'spawner', STAGE, programs.mkfifo],
    ...[...programs.builder, '--args', '3', '--'],
    ...['/bin/sh', '-c', `${WAIT_SCRIPT}${limitScript}\n. ${SCRIPT_FOLDER}/call.sh`, 'sh'],
  ];
  if (!identity.drops) return cell;
  assert(programs.perl !== undefined, 'staging was decided where perl is');
  return toPreludeCommand({
    perl: programs.perl,
    arch: process.arch,
    identity,
    stageBytes: STAGE_BYTES,
    items,
    command: cell,
  });
}

interface CellParts {
  readonly quick: QuickProcess;
  readonly initPid: number;
  readonly stagePath: string;
  readonly identity: Identity;
  readonly report: PreludeReport;
  readonly output: CellOutput;
  readonly clock: Clock;
}

function createCell(parts: CellParts): Cell {
  const { quick, initPid, stagePath, identity, report, output, clock } = parts;
  const { stdin } = quick.child;
  assert(stdin !== null, 'the cell has a standard input');
  let alive = true;
  let slots = 0;
  const ended = quick.exited.then(() => {
    alive = false;
    // Only its outer process may be gone: the end of the pipe ends the inner one.
    stdin.destroy();
  });

  function preparePipes(first: number): void {
    for (let slot = first; slot < first + SLOTS_AT_ONCE; slot += 1) {
      const path = join(stagePath, 'pipes', String(slot));
      mkdirSync(path, { mode: 0o700 });
      // On the stage, which is memory of this cell, not a folder of the user's.
      if (identity.drops) chownSync(path, identity.uid, identity.gid);
    }
  }

  function prepare(slot: number, spec: BirthSpec): Birth {
    const slotPath = join(stagePath, 'slots', String(slot));
    const pipesPath = join(stagePath, 'pipes', String(slot));
    mkdirSync(slotPath, { mode: 0o755 });
    if ((slot - 1) % SLOTS_AT_ONCE === 0) preparePipes(slot);
    const args = spec.toArguments(`${STAGE}/slots/${slot}`).map((arg) => `${arg}\0`);
    writeFileSync(join(pipesPath, 'args'), args.join(''), { mode: 0o644 });
    return { slot, slotPath, pipesPath, overdue: clock.sleep(OPEN_MS) };
  }

  function tryPrepare(slot: number, spec: BirthSpec): Birth {
    try {
      return prepare(slot, spec);
    } catch (error) {
      if (isAlive()) throw error;
      throw unavailable(['the cell has died']);
    }
  }

  const isAlive = (): boolean => alive && existsSync(stagePath);

  return {
    identity,
    report,
    isAlive,
    ended,
    async bear(spec) {
      slots += 1;
      if (!alive) throw unavailable(['the cell has died']);
      const birth = tryPrepare(slots, spec);
      const made = output.awaitLine(`made ${birth.slot}`);
      stdin.write(`${birth.slot} ${spec.isHeld ? 'hold' : '-'}\n`);
      const isMade = await Promise.race([made.then(() => true), ended.then(() => false)]);
      if (!isMade) throw unavailable(['the cell has died']);
      return birth;
    },
    bury(birth) {
      clock.setTimer(BURY_DELAY_MS, () => {
        // The stage is gone with the cell, and its pid may be somebody else's.
        if (!alive) return;
        rmSync(birth.slotPath, { recursive: true, force: true });
        rmSync(birth.pipesPath, { recursive: true, force: true });
      });
    },
    findHostPid(innerPid) {
      if (!alive) return undefined;
      // Below its monitor; or below the spawner, once the monitor was killed.
      const children = listChildren(initPid);
      const born = [...children.flatMap(listChildren), ...children];
      return born.find((pid) => readInnerPid(pid) === innerPid);
    },
    endStrays() {
      for (const delayMs of STRAY_DELAYS_MS) {
        clock.setTimer(delayMs, () => {
          if (!alive) return;
          // A monitor is of the cell's own pid namespace; who is first in another one had one.
          const strays = listChildren(initPid).filter((pid) => readInnerPid(pid) !== undefined);
          for (const pid of strays) killProcess(pid);
        });
      }
    },
    async close() {
      if (!alive) return;
      killProcess(initPid);
      stdin.destroy();
      await Promise.race([ended, clock.sleep(CLOSE_MS)]);
    },
  };
}

interface CellOutput {
  /** The lines before `ready`, or undefined when it failed or took too long, which ends it. */
  untilReady(clock: Clock, quick: QuickProcess): Promise<string[] | undefined>;
  awaitLine(line: string): Promise<void>;
  /** Resolves when nobody can say anything any more. */
  readonly closed: Promise<void>;
  said(): string;
}

function readLines(quick: QuickProcess): CellOutput {
  const { stdout } = quick.child;
  assert(stdout !== null, 'the cell has a standard output');
  const waiting = new Map<string, () => void>();
  const before: string[] = [];
  const reader = createInterface({ input: stdout });
  const closed = new Promise<void>((resolve) => {
    reader.once('close', resolve);
  });
  reader.on('line', (line) => {
    const resolve = waiting.get(line);
    waiting.delete(line);
    if (resolve !== undefined) resolve();
    else if (before.length < LINES_MAX) before.push(line);
  });
  const awaitLine = (line: string): Promise<void> =>
    new Promise((resolve) => {
      waiting.set(line, resolve);
    });
  return {
    ...{ awaitLine, closed },
    said: () => before.join('\n'),
    async untilReady(clock, { child, exited }) {
      const timer = clock.setTimer(START_MS, () => child.kill('SIGKILL'));
      const ready = awaitLine('ready').then(() => true);
      // A child of a bubblewrap that was killed keeps the pipe open while it waits for it.
      const over = Promise.race([closed, exited]).then(() => false);
      const isReady = await Promise.race([ready, over]);
      timer.cancel();
      return isReady ? before.splice(0) : undefined;
    },
  };
}

const TEXT_MAX = 16_384;

/** Reads a small stream to its end in the background; returns what came so far. */
function collectText(stream: Readable | null): () => string {
  let text = '';
  stream?.on('data', (chunk: Buffer) => {
    if (text.length < TEXT_MAX) text += chunk.toString('utf8');
  });
  // A reset pipe says the same as its end.
  stream?.on('error', () => undefined);
  return () => text;
}

/** The filter is opened anew for each sandbox, because whoever reads it moves the offset.
 *  @returns why it could not be written. */
function tryWriteStage(path: string, { etc, identity, filter }: CellSpec): string | undefined {
  try {
    fillEtc(path, etc, identity);
    writeFileSync(join(path, 'filter'), filter, { mode: 0o644 });
    return undefined;
  } catch (error) {
    return `its stage could not be filled: ${toPrxError(error).message}`;
  }
}

function unavailable(said: readonly string[]): PrxError {
  const { reason, mend } = toAdvice(said.join('\n'));
  const message = `the sandbox could not be started: ${reason}; mend: ${mend}`;
  return new PrxError('SANDBOX_UNAVAILABLE', message, { data: { reason, mend } });
}
