/** Real supervisors for integration tests: the built programs, a scratch state dir, a client, and a
 *  clean end: nothing that was started here outlives its test. */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createClient } from '../../api/client.ts';
import { realClock } from '../../base/clock.ts';
import type { EventEnvelope } from '../../protocol/events.ts';

export type Client = ReturnType<typeof createClient>;

const root = join(import.meta.dirname, '..', '..');

export interface Running {
  readonly pid: number;
  readonly ready: string;
  readonly exited: Promise<number>;
  stderr(): string;
  kill(signal: NodeJS.Signals): void;
}

export interface Bench {
  readonly dir: string;
  readonly stateDir: string;
  readonly workspace: string;
  /** Everything runs as this user; undefined: as ours. */
  readonly uid: number | undefined;
  readonly client: Client;
  /** Starts a supervisor on the bench's state dir; resolves at its ready line. */
  start(env?: Readonly<Record<string, string>>): Promise<Running>;
  /** Changes the config file; the next start reads it. */
  configure(change: (text: string) => string): void;
  /** All events of a session so far. */
  events(session: string): Promise<readonly EventEnvelope[]>;
  /** Follows a session from its beginning until `until` says so; every event seen. */
  follow(
    session: string,
    until: (event: EventEnvelope) => boolean,
  ): Promise<readonly EventEnvelope[]>;
  /** Live processes of this bench, whoever their parent is now. */
  leftovers(): readonly number[];
  /** Stops everything and removes the folder. */
  close(): Promise<void>;
}

/** An unprivileged user of no account, for what must work without root. */
export const OTHER_UID = 1500;

/** @param uid runs everything as this user; absent: as ours.
 *  @param around  a command line that becomes the program which it finds behind it: its supervisors
 *    are started through it; absent: as they are. */
export function createBench(config: string, uid?: number, around: readonly string[] = []): Bench {
  const dir = mkdtempSync(join(tmpdir(), 'prx-it-'));
  const stateDir = join(dir, 'state');
  const workspace = join(dir, 'workspace');
  mkdirSync(workspace);
  writeFileSync(join(dir, 'config.toml'), config);
  // An installation of its own: every process of this bench has the bench's path in its command
  // line, so that what is left over can be found whatever became of its parents.
  cpSync(join(root, 'dist'), join(dir, 'dist'), { recursive: true });
  cpSync(join(root, 'package.json'), join(dir, 'package.json'));
  symlinkSync(join(root, 'node_modules'), join(dir, 'node_modules'));
  if (uid !== undefined) giveTo(dir, uid);
  const children: ChildProcess[] = [];
  const client = createClient({ socketPath: join(stateDir, 'api.sock'), clock: realClock });

  async function follow(
    session: string,
    until: (event: EventEnvelope) => boolean,
  ): Promise<readonly EventEnvelope[]> {
    const seen: EventEnvelope[] = [];
    const stop = new AbortController();
    for await (const event of client.followEvents(session, { signal: stop.signal })) {
      seen.push(event);
      if (until(event)) break;
    }
    stop.abort();
    return seen;
  }

  return {
    dir,
    stateDir,
    workspace,
    uid,
    client,
    follow,
    start: (env = {}) => startSupervisor({ dir, stateDir, env, children, uid, around }),
    configure(change) {
      const file = join(dir, 'config.toml');
      writeFileSync(file, change(readFileSync(file, 'utf8')));
    },
    async events(session) {
      const { last_seq: last } = await client.getSession(session);
      return follow(session, (event) => event.seq >= last);
    },
    leftovers: () => findProcesses(dir),
    async close() {
      for (const child of children) if (child.exitCode === null) child.kill('SIGKILL');
      // One that was being started may appear behind the look that killed its starter.
      for (let left = findProcesses(dir); left.length > 0; left = findProcesses(dir)) {
        for (const pid of left) killQuietly(pid);
        await new Promise(setImmediate);
      }
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

interface Start {
  readonly dir: string;
  readonly stateDir: string;
  readonly env: Readonly<Record<string, string>>;
  readonly children: ChildProcess[];
  readonly uid: number | undefined;
  readonly around: readonly string[];
}

function startSupervisor(start: Start): Promise<Running> {
  const { dir, stateDir, env, children, uid, around } = start;
  const options = JSON.stringify({ config: join(dir, 'config.toml'), stateDir });
  const supervisor = [process.execPath, join(dir, 'dist/supervisor.js'), options];
  const [command = '', ...args] = [...around, ...supervisor];
  const child = spawn(command, args, {
    env: { PATH: process.env['PATH'], HOME: dir, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    cwd: '/',
    ...(uid === undefined ? {} : { uid, gid: uid }),
  });
  children.push(child);
  // Not at its exit: its last words may still be in the pipe.
  const exited = new Promise<number>((resolve) => {
    child.once('close', (code) => resolve(code ?? -1));
  });
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  return new Promise((resolve, reject) => {
    child.stdout.once('data', (chunk: Buffer) => {
      const kill = (signal: NodeJS.Signals): void => void child.kill(signal);
      resolve({ pid: child.pid ?? 0, ready: chunk.toString(), exited, stderr: () => stderr, kill });
    });
    void exited.then((code) => reject(new Error(`the supervisor exited (${code}): ${stderr}`)));
  });
}

/** Everything below `dir` but what the link to our packages leads to. */
export function giveTo(dir: string, uid: number): void {
  chownSync(dir, uid, uid);
  chmodSync(dir, 0o700);
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) giveTo(path, uid);
    else if (entry.isFile()) chownSync(path, uid, uid);
  }
}

function findProcesses(dir: string): readonly number[] {
  const found: number[] = [];
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) continue;
    try {
      const text = readFileSync(`/proc/${name}/cmdline`, 'utf8');
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
      if (text.includes(dir) && !stat.includes(') Z ')) found.push(Number(name));
    } catch {
      // It ended while we looked.
    }
  }
  return found;
}

/** Also one that has ended meanwhile. */
export function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // Gone already.
  }
}

/** The text of a turn's answer as a client that shows deltas saw it; attempts that were
 *  superseded do not count. */
export function shownText(events: readonly EventEnvelope[], step: number): string {
  const deltas = events.filter((event) => event.type === 'model.delta');
  const data = deltas.map((event) => event.data as Delta).filter((each) => each.step === step);
  const last = Math.max(...data.map((each) => each.attempt));
  return data
    .filter((each) => each.attempt === last && each.kind === 'text')
    .map((each) => each.text)
    .join('');
}

interface Delta {
  readonly step: number;
  readonly attempt: number;
  readonly kind: string;
  readonly text: string;
}

/** What two runs of the same turn must agree on: everything but time, pid, generation, latency. */
export function toTranscript(events: readonly EventEnvelope[]): readonly unknown[] {
  const kept = [
    'input.accepted',
    'turn.started',
    'model.completed',
    'tool.requested',
    'tool.completed',
    'turn.completed',
  ];
  return events
    .filter((event) => kept.includes(event.type))
    .map((event) => {
      const data = { ...(event.data as Record<string, unknown>) };
      for (const volatile of [
        'input_id',
        'latency_ms',
        'first_token_ms',
        'duration_ms',
        'usage',
        'seq',
      ]) {
        delete data[volatile];
      }
      return { type: event.type, data };
    });
}

export function isGapless(events: readonly EventEnvelope[]): boolean {
  return events.every((event, index) => event.seq === index + 1);
}

export function countType(events: readonly EventEnvelope[], type: string): number {
  return events.filter((event) => event.type === type).length;
}
