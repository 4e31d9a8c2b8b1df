/** Where measurements run: a copy of dist/ in a scratch folder, real supervisors with a state dir
 *  each, and an end that leaves no process and no file behind. */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  cpSync,
  existsSync,
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
import { type ApiClient, createClient } from '../api/client.ts';
import { type Provider, startProvider } from './provider.ts';

export interface Lab {
  /** Few rounds, to see that it works; the figures mean little. */
  readonly quick: boolean;
  readonly node: string;
  /** The copy's bin/prx-supervisor. */
  readonly bin: string;
  /** A program of the copy's dist/. */
  program(name: string): string;
  /** A fresh state dir with a model server; no supervisor runs in it yet.
   *  @param settings  more lines of its config.toml. */
  createHome(settings?: readonly string[]): Promise<Home>;
  close(): Promise<void>;
}

export interface Home {
  readonly dir: string;
  readonly stateDir: string;
  readonly workspace: string;
  /** The supervisor's one argument. */
  readonly options: string;
  /** The whole environment of what runs here. */
  readonly env: Readonly<Record<string, string>>;
  readonly client: ApiClient;
  readonly provider: Provider;
  /** Starts a supervisor, as `prx-supervisor start` does once it has found its Node. */
  start(): Promise<Running>;
  /** Any command line whose process becomes a supervisor. */
  startAs(command: string, args: readonly string[]): Promise<Running>;
}

export interface Running {
  readonly pid: number;
  /** From before the spawn to the ready line, ms. */
  readonly readyMs: number;
  /** SIGTERM; resolves at the exit. */
  stop(): Promise<void>;
}

/** The flags of bin/prx-supervisor. */
const FLAGS = ['--max-semi-space-size=2', '--no-parallel-scavenge', '--disable-sigusr1'];

export function createLab(quick: boolean): Lab {
  const root = join(import.meta.dirname, '..');
  const dir = mkdtempSync(join(tmpdir(), 'prx-bench-'));
  // A copy: a rebuild in the middle of a run would change what is measured, and every process of
  // ours has this path in its command line, by which the left-over are found.
  if (!existsSync(join(root, 'dist/supervisor.js'))) throw new Error('no dist/: npm run build');
  for (const name of ['dist', 'bin', 'package.json']) {
    cpSync(join(root, name), join(dir, name), { recursive: true });
  }
  symlinkSync(join(root, 'node_modules'), join(dir, 'node_modules'));
  const program = (name: string): string => join(dir, 'dist', `${name}.js`);
  const providers: Provider[] = [];
  let homes = 0;
  return {
    quick,
    node: process.execPath,
    bin: join(dir, 'bin/prx-supervisor'),
    program,
    async createHome(settings = []) {
      const provider = await startProvider();
      providers.push(provider);
      homes += 1;
      return createHome({
        dir: join(dir, `home-${homes}`),
        provider,
        program: program('supervisor'),
        settings,
      });
    },
    async close() {
      for (const pid of findProcesses(dir)) killQuietly(pid);
      for (const provider of providers) await provider.close();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

interface HomeParts {
  readonly dir: string;
  readonly provider: Provider;
  readonly program: string;
  readonly settings: readonly string[];
}

function createHome({ dir, provider, program, settings: more }: HomeParts): Home {
  const stateDir = join(dir, 'state');
  const workspace = join(dir, 'workspace');
  const config = join(dir, 'config.toml');
  mkdirSync(workspace, { recursive: true });
  const base = ['[agent]', 'model = "bench"', '[provider]', `base_url = "${provider.url}"`];
  writeFileSync(config, `${[...base, ...more].join('\n')}\n`);
  const options = JSON.stringify({ config, stateDir });
  const env = { PATH: process.env['PATH'] ?? '/usr/bin:/bin', HOME: dir, OPENAI_API_KEY: 'none' };
  const startAs = (command: string, args: readonly string[]): Promise<Running> =>
    startSupervisor({ command, args, env });
  return {
    dir,
    stateDir,
    workspace,
    options,
    env,
    provider,
    client: createClient({ socketPath: join(stateDir, 'api.sock') }),
    startAs,
    start: () => startAs(process.execPath, [...FLAGS, program, options]),
  };
}

interface Start {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

function startSupervisor({ command, args, env }: Start): Promise<Running> {
  const startMs = performance.now();
  const child = spawn(command, [...args], { env: { ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => {
    stderr = (stderr + chunk.toString()).slice(-4000);
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.stdout.once('data', () => {
      const readyMs = performance.now() - startMs;
      resolve({ pid: child.pid ?? 0, readyMs, stop: () => stopSupervisor(child, exited) });
    });
    void exited.then(() => reject(new Error(`the supervisor ended at its start: ${stderr}`)));
  });
}

async function stopSupervisor(child: ChildProcess, exited: Promise<void>): Promise<void> {
  child.kill('SIGTERM');
  const backstop = setTimeout(() => child.kill('SIGKILL'), 10_000);
  await exited;
  clearTimeout(backstop);
}

function findProcesses(dir: string): readonly number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((name) => readQuietly(`/proc/${name}/cmdline`).includes(dir))
    .map(Number);
}

function readQuietly(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // It ended while we looked.
  }
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // Gone already.
  }
}
