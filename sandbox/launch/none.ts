/** The level `none`: no isolation but another user where that is possible, a session of its own,
 *  limits and the clock. Only by explicit configuration, and named on every result. What a command
 *  leaves behind is found by a mark in its environment, which a hostile one can remove. */
import { mkdirSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { assert } from '../../base/assert.ts';
import { PrxError, systemCode } from '../../base/errors.ts';
import { type QuickProcess, spawnQuick } from '../../base/process.ts';
import type { Random } from '../../base/random.ts';
import type { SandboxPolicy } from '../../protocol/sandbox-methods.ts';
import { toReadOnlyNotice } from './advice.ts';
import { toEnvironment, toLimitCommand } from './arguments.ts';
import type { Backend, CommandEnd, RunningCommand } from './backend.ts';
import { toPlainTree } from './command-tree.ts';
import { decideIdentity, type Identity } from './identity.ts';
import { decideRlimits } from './limits.ts';
import { createPipeSource } from './pipes.ts';
import { killProcess, listProcesses } from './process-tree.ts';
import type { RuntimeFiles } from './runtime-files.ts';
import { findPath, findProgram, readHardLimits } from './survey.ts';

export interface NoneSpec {
  readonly policy: SandboxPolicy;
  readonly files: RuntimeFiles;
  /** Where pipes are made; ours alone. */
  readonly scratchDir: string;
  readonly random: Random;
}

const MARK = 'PRX_CALL';
/** The kernel's limit for one argument is 128 KiB. */
const SCRIPT_BYTES_MAX = 120_000;

/** A fork bomb can outrun any number of looks; this level does not promise to win. */
const LOOKS_MAX = 20;

interface Place {
  readonly workspace: string;
  readonly identity: Identity;
  readonly env: Readonly<Record<string, string>>;
}

/** Throws WORKSPACE_REFUSED, SANDBOX_UNAVAILABLE. */
export async function createNoneBackend(spec: NoneSpec): Promise<Backend> {
  const { policy, files, scratchDir, random } = spec;
  const found = findPath(policy.workspace === '' ? '/' : policy.workspace);
  if (found?.kind !== 'folder') {
    throw new PrxError('WORKSPACE_REFUSED', `the workspace ${policy.workspace} is no folder`);
  }
  const host = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  const identity = decideIdentity(host, found.owner);
  const isForeign = policy.workspace !== '' && identity.drops && found.owner.uid !== identity.uid;
  const env = toEnvironment({ allowlist: policy.envAllowlist, env: policy.env });
  const place = { workspace: found.realPath, identity, env: { ...env, HOME: '/tmp' } };
  mkdirSync(scratchDir, { recursive: true, mode: 0o700 });
  const mkfifo = findProgram('mkfifo') ?? 'mkfifo';
  const pipes = createPipeSource({ folder: scratchDir, mkfifo, random, batch: 2 });
  const prlimit = findProgram('prlimit');
  // Without a user namespace the process limit counts all processes of the user: not set.
  const limits = { ...decideRlimits(policy, readHardLimits()), processes: 0 };
  const limitCommand = prlimit === undefined ? [] : toLimitCommand(prlimit, limits);
  const running = new Set<() => void>();

  async function runCommand(script: string, stdin: 'ignore' | 'pipe') {
    const [stdout, stderr] = [await pipes.take(), await pipes.take()];
    const mark = random.hex(8);
    try {
      const stdio = [stdin, stdout.writerFd, stderr.writerFd];
      const args = [...limitCommand, '/bin/sh', '-c', checkScript(script)];
      const quick = await start({ ...place, env: { ...place.env, [MARK]: mark } }, args, stdio);
      const command = toCommand(quick, mark, { stdout: stdout.output, stderr: stderr.output });
      running.add(command.kill);
      void command.ended.then(() => running.delete(command.kill));
      return { command, stdin: quick.child.stdin };
    } finally {
      stdout.closeWriter();
      stderr.closeWriter();
    }
  }

  return {
    level: 'none',
    workspace: found.realPath,
    uid: identity.uid,
    workspaceAccess: policy.workspace === '' ? 'none' : isForeign ? 'read-only' : 'write',
    notice: isForeign
      ? toReadOnlyNotice(found.realPath, 'at level none nothing is mounted; level bubblewrap can')
      : undefined,
    searchProgram: files.search?.path,
    nodeProgram: files.interpreter.path,
    memoryKeeper: 'watch',
    view: () => undefined,
    run: async (script) => (await runCommand(script, 'ignore')).command,
    async start(script, _use, admit) {
      checkScript(script);
      await admit();
      const { command, stdin } = await runCommand(script, 'pipe');
      assert(stdin !== null, 'a command with an input has a pipe');
      return { ...command, stdin: stdin.on('error', () => undefined) };
    },
    async startFileHost() {
      const quick = await start(place, files.bareFileHostCommand, ['pipe', 'pipe', 'pipe']);
      const { stdin, stdout, stderr } = quick.child;
      assert(stdin !== null && stdout !== null && stderr !== null, 'the file host has pipes');
      for (const stream of [stdin, stdout, stderr]) stream.on('error', () => undefined);
      const kill = (): void => void quick.child.kill('SIGKILL');
      return { stdin, stdout, stderr, exited: quick.exited, kill };
    },
    async startServer(script) {
      const mark = random.hex(8);
      const args = [...limitCommand, '/bin/sh', '-c', checkScript(script)];
      const marked = { ...place, env: { ...place.env, [MARK]: mark } };
      const quick = await start(marked, args, ['pipe', 'pipe', 'pipe']);
      const { stdin, stdout, stderr } = quick.child;
      assert(stdin !== null && stdout !== null && stderr !== null, 'a server has pipes');
      for (const stream of [stdin, stdout, stderr]) stream.on('error', () => undefined);
      const { ended, kill } = toCommand(quick, mark, { stdout, stderr });
      running.add(kill);
      return { stdin, stdout, stderr, exited: ended.finally(() => running.delete(kill)), kill };
    },
    async close() {
      for (const kill of running) kill();
    },
  };
}

function checkScript(script: string): string {
  if (Buffer.byteLength(script) <= SCRIPT_BYTES_MAX) return script;
  const message = `the command is longer than ${SCRIPT_BYTES_MAX} bytes; write it to a file first`;
  throw new PrxError('LIMIT_EXCEEDED', message);
}

async function start(
  place: Place,
  commandLine: readonly string[],
  stdio: readonly ('ignore' | 'pipe' | number)[],
): Promise<QuickProcess> {
  const [command = '', ...args] = commandLine;
  const { uid, gid, drops } = place.identity;
  return await spawnQuick({
    command,
    args,
    cwd: place.workspace,
    env: place.env,
    ownSession: true,
    stdio: [...stdio],
    ...(drops ? { uid, gid } : {}),
  });
}

function toCommand(
  quick: QuickProcess,
  mark: string,
  streams: Pick<RunningCommand, 'stdout' | 'stderr'>,
): RunningCommand {
  const kill = (): void => {
    killGroup(quick.pid);
    // Who was being forked during one look is found by the next.
    for (let look = 0; look < LOOKS_MAX; look += 1) {
      const found = findMarked(mark);
      if (found.length === 0) return;
      for (const pid of found) killProcess(pid);
    }
  };
  const ended = quick.exited.then(({ code, signal }): CommandEnd => {
    kill();
    if (code !== undefined) return { kind: 'exited', code };
    if (signal === undefined) return { kind: 'lost', detail: 'it left no exit code' };
    return { kind: 'exited', code: 128 + constants.signals[signal] };
  });
  return { ...streams, ended, kill, tree: toPlainTree(quick.pid) };
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    // The whole group is gone already.
    if (systemCode(error) !== 'ESRCH') throw error;
  }
}

function findMarked(mark: string): number[] {
  const wanted = `${MARK}=${mark}`;
  return listProcesses().filter((pid) => readEnvironment(pid).includes(wanted));
}

function readEnvironment(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0');
  } catch {
    // Another user's, or gone since: not ours to kill in either case.
    return [];
  }
}
