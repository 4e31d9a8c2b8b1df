/** The CLI's process: the one place that touches its globals. Ends quietly when nobody reads its
 *  output any more. */
import { realClock } from '../base/clock.ts';
import { PrxError, systemCode } from '../base/errors.ts';
import type { Machine } from './machine.ts';
import { EXIT } from './outcome.ts';
import { runProgram } from './program.ts';
import { stayAlive } from './stay-alive.ts';

function createMachine(): Machine {
  const folder = findFolder();
  return {
    env: process.env,
    get cwd() {
      if (folder !== undefined) return folder;
      const message = 'the current folder was removed or moved; go to another one with cd';
      throw new PrxError('WORKSPACE_REFUSED', message);
    },
    get stdin() {
      return process.stdin; // Opened on first use: most commands read nothing.
    },
    stdout: process.stdout,
    stderr: process.stderr,
    clock: realClock,
    node: { path: process.execPath, args: process.execArgv },
    onInterrupt: (handler) => {
      const onInt = (): void => handler('SIGINT');
      const onTerm = (): void => handler('SIGTERM');
      process.on('SIGINT', onInt).on('SIGTERM', onTerm);
      return () => process.off('SIGINT', onInt).off('SIGTERM', onTerm);
    },
    replaceWith: (command, args) => {
      process.execve?.(command, [command, ...args], process.env);
    },
  };
}

/** The folder we were started in may have been removed: then libraries that ask for one get the
 *  root, and a command that needs ours hears of it. Most need none. */
function findFolder(): string | undefined {
  try {
    return process.cwd();
  } catch {
    process.chdir('/');
    return undefined;
  }
}

async function main(): Promise<void> {
  process.stdout.on('error', endUnwritten);
  // What was asked for is on stdout, and goes on when nobody hears the rest.
  process.stderr.on('error', () => undefined);
  const release = stayAlive();
  process.exitCode = await runProgram(process.argv.slice(2), createMachine());
  release();
  // Whatever a command left open (a kept stream, a raw terminal) does not hold the shell.
  process.stdout.write('', (error) => {
    // Its event comes after this, when what failed was the last thing said.
    if (error) endUnwritten(error);
    process.exit();
  });
}

/** Nobody reads any more, or a full disk behind a redirection, and the like. */
function endUnwritten(error: unknown): never {
  const code = systemCode(error);
  if (code === 'EPIPE') process.exit(EXIT.done);
  process.stderr.write(`error: cannot write output: ${code}\n`);
  process.exit(EXIT.failed);
}

void main();
