/** A terminal of 80 columns and 24 rows, by tmux on a socket of its own: programs run in it as they
 *  would for a person, and what stands on it is read back with its colours. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

const COLUMNS = 80;
const ROWS = 24;
const LOOK_MS = 100;
const LOOKS_MAX = 300;

export interface Terminal {
  /** Starts a shell command in a fresh screen; what was there is ended. */
  open(command: string): Promise<void>;
  /** Key names of tmux ("Enter", "C-d"); with `literal`, a text. */
  press(...keys: readonly string[]): Promise<void>;
  type(text: string): Promise<void>;
  /** Resolves when the screen shows the text. @throws after half a minute, with the screen. */
  until(text: string): Promise<void>;
  /** The screen, with its colour sequences. */
  read(): Promise<string>;
  close(): Promise<void>;
}

export function createTerminal(
  socket: string,
  env: Readonly<Record<string, string | undefined>>,
): Terminal {
  const tmux = async (...args: readonly string[]): Promise<string> => {
    const { stdout } = await run('tmux', ['-S', socket, '-f', '/dev/null', ...args], { env });
    return stdout;
  };
  const read = (...flags: readonly string[]): Promise<string> =>
    tmux('capture-pane', '-p', '-t', 'screen', ...flags);
  let isOpen = false;
  return {
    async open(command) {
      if (isOpen) await tmux('kill-session', '-t', 'screen').catch(() => '');
      isOpen = true;
      const size = ['-x', String(COLUMNS), '-y', String(ROWS)];
      await tmux(...['new-session', '-d', '-s', 'screen', ...size, `${command}; exec cat`]);
      await tmux('set', '-g', 'status', 'off');
    },
    press: async (...keys) => void (await tmux('send-keys', '-t', 'screen', ...keys)),
    type: async (text) => void (await tmux('send-keys', '-t', 'screen', '-l', text)),
    async until(text) {
      for (let left = LOOKS_MAX; left > 0; left -= 1) {
        if ((await read()).includes(text)) return;
        await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      }
      throw new Error(`the terminal never showed ${JSON.stringify(text)}:\n${await read()}`);
    },
    read: () => read('-e'),
    close: async () => void (await tmux('kill-server').catch(() => '')),
  };
}
