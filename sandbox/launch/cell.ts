/** The cell of a session: an outer pid namespace in which every sandbox of the session is born,
 *  so that all of them die with the host, at whatever instant it is killed. It holds no policy.
 *  Its death is armed before it says `ready`, and nothing is started in it before that. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { assert } from '../../base/assert.ts';
import type { Clock } from '../../base/clock.ts';
import { PrxError } from '../../base/errors.ts';
import { type QuickProcess, spawnQuick } from '../../base/process.ts';
import { toAdvice } from './advice.ts';
import { STAGE_BYTES, toAccountFiles, toCellArguments } from './arguments.ts';
import type { Identity } from './identity.ts';
import {
  type PreludeReport,
  parsePreludeReport,
  STAGE,
  type StageItem,
  toPreludeCommand,
} from './prelude.ts';
import { killProcess, killTree, listChildren } from './process-tree.ts';

/** The programs that a cell and its sandboxes are made of; full paths. */
export interface Programs {
  readonly bwrap: string;
  readonly nsenter: string;
  readonly mkfifo: string;
  readonly cat: string;
  /** Absent: the limits that only it can set inside are not set. */
  readonly prlimit: string | undefined;
  /** Absent: root has no way to stage a workspace. */
  readonly perl: string | undefined;
}

export interface Cell {
  readonly identity: Identity;
  readonly report: PreludeReport;
  /** The stage as the host reaches it; gone with the cell. */
  readonly stagePath: string;
  isAlive(): boolean;
  /** The command line that starts `command` inside, dying with the cell. */
  enter(command: readonly string[]): { readonly command: string; readonly args: string[] };
  /** Kills what lost its starter: it hangs below the cell's first process then. */
  killStrays(): void;
  close(): void;
}

export interface CellSpec {
  readonly programs: Programs;
  readonly identity: Identity;
  readonly items: readonly StageItem[];
  readonly clock: Clock;
}

const START_MS = 10_000;
const LINES_MAX = 200;

/** Starts a cell. Throws SANDBOX_UNAVAILABLE with the reason and the mend. */
export async function startCell(spec: CellSpec): Promise<Cell> {
  const { identity, programs, clock } = spec;
  const [command = '', ...args] = toCellCommand(spec);
  const quick = await spawnQuick({
    command,
    args,
    cwd: '/',
    env: {},
    ownSession: false,
    stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
  });
  const stderr = collectText(quick.child.stderr);
  const status = collectText(quick.child.stdio[3] as Readable | null);
  const lines = await readUntilReady(quick, clock);
  const report = parsePreludeReport(lines ?? []);
  const initPid = Number(/"child-pid": (\d+)/.exec(status())?.[1]);
  if (lines === undefined || !Number.isSafeInteger(initPid)) {
    quick.child.kill('SIGKILL');
    throw unavailable([...(report.failure === undefined ? [] : [report.failure]), stderr()]);
  }
  const stagePath = `/proc/${initPid}/root${STAGE}`;
  writeAccounts(stagePath, identity);
  return createCell({ quick, initPid, stagePath, identity, report, programs });
}

function toCellCommand(spec: CellSpec): string[] {
  const { identity, programs, items } = spec;
  const payload = ['/bin/sh', '-c', `echo ready; exec ${programs.cat} >/dev/null`];
  const cell = [
    programs.bwrap,
    ...toCellArguments({ stage: STAGE, staged: identity.drops }),
    '--',
    ...payload,
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
  readonly programs: Programs;
}

function createCell(parts: CellParts): Cell {
  const { quick, initPid, stagePath, identity, report, programs } = parts;
  let alive = true;
  void quick.exited.then(() => {
    alive = false;
  });
  const payload = new Set(listChildren(initPid));
  return {
    identity,
    report,
    stagePath,
    isAlive: () => alive && existsSync(stagePath),
    enter: (command) => ({
      command: programs.nsenter,
      args: ['-t', String(initPid), '-U', '-m', '-p', '--preserve-credentials', '--', ...command],
    }),
    killStrays() {
      if (!alive) return;
      for (const pid of listChildren(initPid)) if (!payload.has(pid)) killTree(pid);
    },
    close() {
      if (!alive) return;
      killProcess(initPid);
      quick.child.stdin?.destroy();
    },
  };
}

/** The lines before `ready`, or undefined when the start failed or took too long. */
async function readUntilReady(quick: QuickProcess, clock: Clock): Promise<string[] | undefined> {
  const { stdout } = quick.child;
  assert(stdout !== null, 'the cell has a standard output');
  const timer = clock.setTimer(START_MS, () => quick.child.kill('SIGKILL'));
  let text = '';
  try {
    for await (const chunk of stdout.iterator({ destroyOnReturn: false })) {
      text += String(chunk);
      const lines = text.split('\n');
      if (lines.length > LINES_MAX) return undefined;
      const ready = lines.indexOf('ready');
      if (ready >= 0) return lines.slice(0, ready);
      if (lines.some((line) => line.startsWith('fail '))) break;
    }
  } finally {
    timer.cancel();
  }
  return undefined;
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

function writeAccounts(stagePath: string, identity: Identity): void {
  const files = toAccountFiles(identity.uid, identity.gid);
  mkdirSync(join(stagePath, 'etc'), { recursive: true });
  for (const [name, text] of Object.entries(files)) {
    writeFileSync(join(stagePath, 'etc', name), text, { mode: 0o644 });
  }
}

function unavailable(said: readonly string[]): PrxError {
  const { reason, mend } = toAdvice(said.join('\n'));
  const message = `the bubblewrap sandbox could not be started: ${reason}; mend: ${mend}`;
  return new PrxError('SANDBOX_UNAVAILABLE', message, { data: { reason, mend } });
}
