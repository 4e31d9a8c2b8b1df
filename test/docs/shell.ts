/** Runs the commands of a document as a reader would: one shell after a clone, the real programs, a
 *  home, a state directory and a workspace of its own. */
import { execFile, spawn } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { root } from './markdown.ts';

export interface CommandResult {
  readonly command: string;
  /** Undefined: the shell ended before the command did. */
  readonly exitCode: number | undefined;
  /** Standard output and standard error, in the order in which they came. */
  readonly output: string;
}

export interface Clone {
  readonly dir: string;
  /** Runs all commands in one shell, one after the other. */
  run(commands: readonly string[]): Promise<readonly CommandResult[]>;
  /** Live processes of this clone. */
  leftovers(): readonly number[];
  /** Kills what is left and removes the folder. */
  remove(): void;
}

const OUTPUT_BYTES_MAX = 4_000_000;

/** A copy of the built package: a build by somebody else does not pull it from under the test. */
export async function createClone(): Promise<Clone> {
  if (!existsSync(join(root, 'dist', 'cli.js'))) await build();
  const scratch = mkdtempSync(join(tmpdir(), 'prx-docs-'));
  const dir = join(scratch, 'prx-supervisor');
  for (const name of ['bin', 'dist', 'examples', 'package.json', 'config.toml']) {
    cpSync(join(root, name), join(dir, name), { recursive: true });
  }
  symlinkSync(join(root, 'node_modules'), join(dir, 'node_modules'));
  for (const name of ['home', 'tmp']) mkdirSync(join(scratch, name));
  const env = {
    PATH: process.env['PATH'],
    HOME: join(scratch, 'home'),
    TMPDIR: join(scratch, 'tmp'),
    LANG: 'C.UTF-8',
    NO_COLOR: '1',
  };
  const leftovers = (): readonly number[] => findProcesses(scratch);
  return {
    dir,
    run: (commands) => runShell(commands, { dir, env }),
    leftovers,
    remove() {
      for (const pid of leftovers()) killQuietly(pid);
      rmSync(scratch, { recursive: true, force: true });
    },
  };
}

async function build(): Promise<void> {
  await promisify(execFile)(process.execPath, [join(root, 'supervisor', 'build.mjs')]);
}

interface Place {
  readonly dir: string;
  readonly env: Readonly<Record<string, string | undefined>>;
}

const MARK = '@@prx-docs';

async function runShell(
  commands: readonly string[],
  { dir, env }: Place,
): Promise<readonly CommandResult[]> {
  const script = commands.map(
    (command, index) => `${command}\nprintf '\\n${MARK} ${index} %s\\n' "$?"\n`,
  );
  const shell = spawn('/bin/sh', ['-s'], { cwd: dir, env, stdio: ['pipe', 'pipe', 'pipe'] });
  let text = '';
  const collect = (chunk: Buffer): void => {
    if (text.length < OUTPUT_BYTES_MAX) text += chunk.toString();
  };
  shell.stdout.on('data', collect);
  const ended = new Promise<void>((resolve) => {
    shell.once('exit', () => resolve());
  });
  // Commands must not read the script: their standard input is empty.
  shell.stdin.end(`exec 2>&1\n{\n${script.join('')}} </dev/null\n`);
  await ended;
  return commands.map((command, index) => toResult(text, { command, index }));
}

function toResult(text: string, { command, index }: { command: string; index: number }) {
  const before = index === 0 ? 0 : text.indexOf('\n', text.indexOf(`${MARK} ${index - 1} `)) + 1;
  const end = text.indexOf(`\n${MARK} ${index} `);
  if (end < 0) return { command, exitCode: undefined, output: text.slice(before) };
  const [, status] = new RegExp(`${MARK} ${index} (\\d+)`).exec(text.slice(end)) ?? [];
  return { command, exitCode: Number(status), output: text.slice(before, end).trimEnd() };
}

function findProcesses(dir: string): readonly number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map(Number)
    .filter((pid) => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
        return !stat.includes(') Z ') && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(dir);
      } catch {
        return false; // It ended while we looked.
      }
    });
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // Gone already.
  }
}
