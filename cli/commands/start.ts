/** Starts the supervisor: this process becomes it, so that its pid is the one systemd knows. With
 *  --detach it runs in the background, and this command ends when it says that it is ready. */
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { isErrorCode, isPrxError, PrxError } from '../../base/errors.ts';
import { makeFolder } from '../../base/make-folder.ts';
import { type Context, defineCommand } from '../command.ts';
import { EXIT } from '../outcome.ts';
import { becomeOwnProgram, findProgram, toChildEnv, toNodeArgs } from '../own-programs.ts';

const READY_TIMEOUT_MS = 60_000;
const READY_POLL_MS = 25;
const STDERR_TAIL_LINES = 20;

export const command = defineCommand({
  build: (yargs) =>
    yargs
      .option('config', { type: 'string', requiresArg: true, describe: 'Config file (TOML)' })
      .option('listen', {
        type: 'string',
        requiresArg: true,
        describe: 'Also serve HTTP on HOST:PORT, such as 127.0.0.1:7433',
      })
      .option('detach', {
        alias: 'd',
        type: 'boolean',
        default: false,
        describe: 'Run in the background; return when it is ready',
      })
      .example('prx-supervisor start --detach', 'in the background, log in the state dir')
      .example('prx-supervisor start --listen 127.0.0.1:7433', 'with a TCP door'),
  run: async (context, args) => {
    if (context.door.kind === 'url') throw urlRefused();
    if (args.listen !== undefined) checkListen(args.listen);
    const { cwd } = context.machine;
    const options = {
      ...(args.config === undefined ? {} : { config: resolve(cwd, args.config) }),
      ...(args.stateDir === undefined ? {} : { stateDir: resolve(cwd, args.stateDir) }),
      ...(args.listen === undefined ? {} : { listen: args.listen }),
    };
    const { machine } = context;
    if (!args.detach) return becomeOwnProgram(machine, 'supervisor', [JSON.stringify(options)]);
    const line = [...toNodeArgs(machine, findProgram('supervisor')), JSON.stringify(options)];
    return startDetached(context, line);
  },
});

function urlRefused(): PrxError {
  const message = 'start runs a supervisor on this machine; leave out --url, or unset PRX_URL';
  return new PrxError('INVALID_REQUEST', message);
}

/** @throws INVALID_REQUEST unless it is HOST:PORT, with IPv6 in brackets. */
export function checkListen(text: string): void {
  const [, host, port] = /^(\[[0-9a-fA-F:.]+\]|[^:[\]]+):(\d{1,5})$/.exec(text) ?? [];
  if (host !== undefined && Number(port) <= 65_535) return;
  const message = `--listen ${text} is not HOST:PORT, such as 127.0.0.1:7433 or [::1]:7433`;
  throw new PrxError('INVALID_REQUEST', message, { data: { listen: text } });
}

async function startDetached(context: Context, line: readonly string[]): Promise<number> {
  const { door, machine } = context;
  if (door.kind === 'url') throw urlRefused();
  await refuseSecond(context);
  const logFile = join(door.stateDir, 'supervisor.log');
  const { descriptor, size } = openLog(door.stateDir, logFile);
  const { spawnQuick } = await import('../../base/process.ts');
  const child = await spawnQuick({
    command: machine.node.path,
    args: line,
    env: toChildEnv(machine),
    ownSession: true,
    stdio: ['ignore', descriptor, descriptor],
  });
  closeSync(descriptor);
  let exitCode: number | undefined;
  void child.exited.then((exit) => {
    exitCode = exit.code ?? EXIT.failed;
  });
  const deadlineMs = machine.clock.nowMs() + READY_TIMEOUT_MS;
  while (exitCode === undefined && machine.clock.nowMs() < deadlineMs) {
    const line = findReadyLine({ logFile, from: size });
    if (line !== undefined) {
      child.child.unref();
      return sayReady(context, logFile, line);
    }
    await machine.clock.sleep(READY_POLL_MS);
  }
  return sayFailed(context, { logFile, from: size, exitCode });
}

async function refuseSecond(context: Context): Promise<void> {
  if (!(await isAnswering(context))) return;
  const { pid } = await context.connect().getStatus();
  const message = `a supervisor (pid ${pid}) already runs here; stop it with: ${context.self} stop`;
  throw new PrxError('ALREADY_RUNNING', message, { data: { pid } });
}

function openLog(stateDir: string, logFile: string): { descriptor: number; size: number } {
  try {
    makeFolder(stateDir);
    const descriptor = openSync(logFile, 'a', 0o600);
    return { descriptor, size: statSync(logFile).size };
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const message = `cannot write the log ${logFile}: ${reason}; name a folder of yours with --state-dir`;
    throw new PrxError('STATE_DIR_UNUSABLE', message, { cause });
  }
}

async function isAnswering(context: Context): Promise<boolean> {
  try {
    await context.connect().getHealth();
    return true;
  } catch (error) {
    if (isPrxError(error, 'NOT_RUNNING') || isPrxError(error, 'PEER_CLOSED')) return false;
    throw error;
  }
}

interface LogPart {
  readonly logFile: string;
  /** Where this start's part of the log begins, bytes. */
  readonly from: number;
}

/** What was written since then; all of it, when somebody cut the file meanwhile. */
function readLog({ logFile, from }: LogPart): string {
  const file = openSync(logFile, 'r');
  try {
    const { size } = fstatSync(file);
    const start = size < from ? 0 : from;
    const bytes = Buffer.alloc(size - start);
    const length = readSync(file, bytes, 0, bytes.length, start);
    return bytes.toString('utf8', 0, length).trimEnd();
  } finally {
    closeSync(file);
  }
}

/** It answers on its socket a moment before: the TCP door may still be refused then, and the start
 *  with it. */
function findReadyLine(log: LogPart): string | undefined {
  return readLog(log)
    .split('\n')
    .find((line) => line.startsWith('ready: '));
}

async function sayReady(context: Context, logFile: string, line: string): Promise<number> {
  const status = await context.connect().getStatus();
  if (context.json) context.printJson(status);
  else if (context.quiet) context.print(String(status.pid));
  else {
    context.print(line);
    context.say(`log: ${logFile} · stop it with: ${context.self} stop`);
  }
  return EXIT.done;
}

interface FailedStart extends LogPart {
  readonly exitCode: number | undefined;
}

function sayFailed(context: Context, failed: FailedStart): number {
  const tail = readLog(failed).split('\n').slice(-STDERR_TAIL_LINES).join('\n');
  if (context.json) throw toFailure(tail, failed);
  if (tail !== '') context.say(tail);
  if (failed.exitCode !== undefined) {
    context.say(
      `the supervisor ended at its start (exit ${failed.exitCode}); log: ${failed.logFile}`,
    );
    return failed.exitCode === 0 ? EXIT.failed : failed.exitCode;
  }
  context.say(`not ready within ${READY_TIMEOUT_MS / 1000} s; it goes on. Log: ${failed.logFile}`);
  return EXIT.timeout;
}

/** For programs: the code that stands behind what it said last. */
function toFailure(tail: string, { exitCode, logFile }: FailedStart): PrxError {
  if (exitCode === undefined) {
    const message = `not ready within ${READY_TIMEOUT_MS / 1000} s; it goes on`;
    return new PrxError('DEADLINE_EXCEEDED', message, { data: { log: logFile } });
  }
  const [, said = tail, code] = /^prx-supervisor: (.*) \(([A-Z_]+)\)$/ms.exec(tail) ?? [];
  const data = { exit_code: exitCode, log: logFile };
  return new PrxError(isErrorCode(code) ? code : 'INTERNAL', said, { data });
}
