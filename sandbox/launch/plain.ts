/** The levels without namespaces. `none`: no isolation but another user where that is possible, a
 *  session of its own, limits and the clock; what a command leaves behind is found by a mark in
 *  its environment, which a hostile one can remove. `limits-only` and `landlock` put a keeper over
 *  each command (keeper.ts), a limit on processes and a folder of its own for temporary files. */
import { mkdirSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { assert } from '../../base/assert.ts';
import { PrxError } from '../../base/errors.ts';
import { listDescendants, type QuickProcess, spawnQuick } from '../../base/process.ts';
import type { Random } from '../../base/random.ts';
import type { SandboxPolicy } from '../../protocol/sandbox-methods.ts';
import { toForeignNotice, toReadOnlyNotice } from './advice.ts';
import { toEnvironment, toLimitCommand } from './arguments.ts';
import type { Backend, CommandEnd, Level, RunningCommand, ToolHostProcess } from './backend.ts';
import { toKeptTree, toPlainTree } from './command-tree.ts';
import { decideIdentity, type Identity } from './identity.ts';
import type { Keeping } from './keeping.ts';
import { decideRlimits } from './limits.ts';
import { createPipeSource } from './pipes.ts';
import {
  countTasks,
  killGroup,
  killProcess,
  listProcesses,
  signalProcess,
} from './process-tree.ts';
import { PROOF_SCRIPT, proveCommand } from './prove.ts';
import type { RuntimeFiles } from './runtime-files.ts';
import { findPath, findProgram, isWritable, readHardLimits, type SurveyedPath } from './survey.ts';

export interface PlainSpec {
  readonly level: Exclude<Level, 'bubblewrap' | 'unshare'>;
  readonly policy: SandboxPolicy;
  readonly files: RuntimeFiles;
  /** Where pipes are made; ours alone. */
  readonly scratchDir: string;
  readonly random: Random;
  /** Absent: nobody stands over a command (level none). */
  readonly keeping: Keeping | undefined;
  /** True: the first command shows by itself whether it works. */
  readonly isProved: boolean;
}

const MARK = 'PRX_CALL';
/** The kernel's limit for one argument is 128 KiB. */
const SCRIPT_BYTES_MAX = 120_000;

/** A fork bomb can outrun any number of looks; where nobody keeps, nothing promises to win. */
const LOOKS_MAX = 20;

interface Place {
  readonly workspace: string;
  readonly identity: Identity;
  readonly env: Readonly<Record<string, string>>;
}

type Stdio = readonly ('ignore' | 'pipe' | number)[];

/** Throws WORKSPACE_REFUSED, SANDBOX_UNAVAILABLE. */
export async function createPlainBackend(spec: PlainSpec): Promise<Backend> {
  try {
    const backend = openBackend(spec);
    if (!spec.isProved) await proveCommand(await backend.run(PROOF_SCRIPT));
    return backend;
  } catch (error) {
    spec.keeping?.close();
    throw error;
  }
}

function openBackend(spec: PlainSpec): Backend {
  const { level, policy, files, scratchDir, random, keeping } = spec;
  const { workspace, identity, isForeign } = findPlace(policy);
  const place: Place = {
    workspace: workspace.realPath,
    identity,
    env: toEnvironment({ allowlist: policy.envAllowlist, env: policy.env }),
  };
  // Where there is a keeping, in its folder: the next start removes that of a host that was killed.
  const pipeFolder = keeping === undefined ? scratchDir : join(keeping.folder, 'pipes');
  mkdirSync(pipeFolder, { recursive: true, mode: 0o700 });
  const mkfifo = findProgram('mkfifo') ?? 'mkfifo';
  const pipes = createPipeSource({ folder: pipeFolder, mkfifo, random, batch: 2 });
  const running = new Set<() => void>();

  async function launch(command: readonly string[], stdio: Stdio): Promise<Launched> {
    const mark = random.hex(8);
    const own = keeping?.open(identity);
    const home = own?.temporary ?? '/tmp';
    const env = { ...place.env, HOME: home, TMPDIR: home, [MARK]: mark };
    const line = own === undefined ? command : own.toCommand(command);
    const quick = await start({ ...place, env }, line, stdio).catch((error: unknown) => {
      own?.close();
      throw error;
    });
    const { ended, kill } = own === undefined ? leave(quick, mark) : keep(quick, mark);
    running.add(kill);
    const over = ended.finally(() => {
      running.delete(kill);
      own?.close();
    });
    return { quick, ended: over, kill };
  }

  async function runScript(line: readonly string[], input: 'ignore' | 'pipe') {
    const [stdout, stderr] = [await pipes.take(), await pipes.take()];
    try {
      const { quick, ended, kill } = await launch(line, [input, stdout.writerFd, stderr.writerFd]);
      const streams = { stdout: stdout.output, stderr: stderr.output };
      const command: RunningCommand = { ...streams, ended, kill, tree: toTree(quick.pid) };
      return { command, stdin: quick.child.stdin };
    } finally {
      stdout.closeWriter();
      stderr.closeWriter();
    }
  }

  async function speak(command: readonly string[]): Promise<ToolHostProcess> {
    const { quick, ended, kill } = await launch(command, ['pipe', 'pipe', 'pipe']);
    const { stdin, stdout, stderr } = quick.child;
    assert(stdin !== null && stdout !== null && stderr !== null, 'who is spoken to has pipes');
    for (const stream of [stdin, stdout, stderr]) stream.on('error', () => undefined);
    return { stdin, stdout, stderr, exited: ended, kill, tree: toTree(quick.pid) };
  }

  const toTree = keeping === undefined ? toPlainTree : toKeptTree;
  const toLimited = (command: readonly string[]): readonly string[] => [
    ...toLimits(policy, identity, keeping !== undefined),
    ...command,
  ];
  const toShell = (script: string): readonly string[] =>
    toLimited(['/bin/sh', '-c', checkScript(script)]);
  return {
    level,
    workspace: place.workspace,
    uid: identity.uid,
    workspaceAccess: policy.workspace === '' ? 'none' : isForeign ? 'read-only' : 'write',
    notice: isForeign ? toNotice(place, level) : undefined,
    searchProgram: files.search?.path,
    nodeProgram: files.interpreter.path,
    memoryKeeper: 'watch',
    temporaryFolder: keeping?.folder,
    network: level === 'landlock' ? policy.network.mode : 'full',
    view: () => undefined,
    run: async (script) => (await runScript(toShell(script), 'ignore')).command,
    async start(script, _use, admit) {
      const line = toShell(script);
      await admit();
      const { command, stdin } = await runScript(line, 'pipe');
      assert(stdin !== null, 'a command with an input has a pipe');
      return { ...command, stdin: stdin.on('error', () => undefined) };
    },
    startFileHost: () => speak(files.fileHost.bare),
    startToolHost: () => speak(toLimited(files.toolHost.bare)),
    toToolPath: (root) => root,
    startServer: async (script) => speak(toShell(script)),
    async close() {
      for (const kill of running) kill();
      keeping?.close();
    },
  };
}

interface Launched extends Pick<RunningCommand, 'ended' | 'kill'> {
  readonly quick: QuickProcess;
}

function findPlace(policy: SandboxPolicy) {
  const workspace = findPath(policy.workspace === '' ? '/' : policy.workspace);
  if (workspace?.kind !== 'folder') {
    throw new PrxError('WORKSPACE_REFUSED', `the workspace ${policy.workspace} is no folder`);
  }
  const host = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  const identity = decideIdentity(host, workspace.owner);
  return { workspace, identity, isForeign: isForeign(policy, workspace, identity) };
}

function isForeign(policy: SandboxPolicy, workspace: SurveyedPath, identity: Identity): boolean {
  if (policy.workspace === '') return false;
  return identity.drops ? workspace.owner.uid !== identity.uid : !isWritable(workspace.realPath);
}

function toNotice({ workspace, identity }: Place, level: Level): string {
  const why = `at level ${level} nothing is mounted; level bubblewrap can`;
  if (identity.drops) return toReadOnlyNotice(workspace, why);
  return toForeignNotice(workspace, identity.uid);
}

/** Without a user namespace the limit of processes counts all that the user has: where there is a
 *  keeper, that many more; else it is not set. */
function toLimits(policy: SandboxPolicy, identity: Identity, isKept: boolean): string[] {
  const limits = decideRlimits(policy, readHardLimits());
  const room = limits.processes > 0 && isKept ? countTasks(identity.uid) : 0;
  const processes = room === 0 && !isKept ? 0 : limits.processes + room;
  return toLimitCommand({ ...limits, processes });
}

function checkScript(script: string): string {
  if (Buffer.byteLength(script) <= SCRIPT_BYTES_MAX) return script;
  const message = `the command is longer than ${SCRIPT_BYTES_MAX} bytes; write it to a file first`;
  throw new PrxError('LIMIT_EXCEEDED', message);
}

async function start(
  place: Place,
  commandLine: readonly string[],
  stdio: Stdio,
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

/** Nobody stands over it. */
function leave(quick: QuickProcess, mark: string): Pick<RunningCommand, 'ended' | 'kill'> {
  const kill = (): void => {
    killGroup(quick.pid);
    killMarked(mark);
  };
  const ended = quick.exited.then(({ code, signal }): CommandEnd => {
    kill();
    if (code !== undefined) return { kind: 'exited', code };
    if (signal === undefined) return { kind: 'lost', detail: 'it left no exit code' };
    return { kind: 'exited', code: 128 + constants.signals[signal] };
  });
  return { ended, kill };
}

/** The keeper ends when everything below it has; on a busy machine it is not the first to be let
 *  run. The mark is for one that was killed. */
function keep(quick: QuickProcess, mark: string): Pick<RunningCommand, 'ended' | 'kill'> {
  let asked = false;
  const kill = (): void => {
    for (const pid of listDescendants(quick.pid)) killProcess(pid);
    signalProcess(quick.pid, 'SIGTERM');
    if (asked) killMarked(mark);
    asked = true;
  };
  const ended = quick.exited.then(({ code }): CommandEnd => {
    if (code !== undefined) return { kind: 'exited', code };
    killMarked(mark);
    return { kind: 'lost', detail: 'its keeper was killed, or could not start it' };
  });
  return { ended, kill };
}

/** Who was being forked during one look is found by the next. */
function killMarked(mark: string): void {
  const wanted = `${MARK}=${mark}`;
  for (let look = 0; look < LOOKS_MAX; look += 1) {
    const found = listProcesses().filter((pid) => readEnvironment(pid).includes(wanted));
    if (found.length === 0) return;
    for (const pid of found) killProcess(pid);
  }
}

function readEnvironment(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0');
  } catch {
    // Another user's, or gone since: not ours to kill in either case.
    return [];
  }
}
