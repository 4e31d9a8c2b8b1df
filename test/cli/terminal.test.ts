/** The real program on a real terminal (a pty from util-linux' script), against the fake
 *  supervisor: that raw mode, the keys and the restored terminal hold together. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { type RunningProcess, startProcess } from '../../base/process.ts';
import { FakeApi, SESSION } from './fake-api.ts';
import { input, modelCompleted, turnCompleted, turnStarted } from './session-events.ts';

const SCRIPT = '/usr/bin/script';
const main = join(import.meta.dirname, '..', '..', 'cli', 'main.ts');
const onTerminal = existsSync(SCRIPT) ? test : test.skip;

let api: FakeApi;

beforeEach(async () => {
  api = await new FakeApi().listen();
  api.addSession(SESSION);
  for (const fact of [input(), turnStarted(), modelCompleted('past'), turnCompleted()]) {
    api.emit(SESSION, ...fact);
  }
});

afterEach(() => api.close());

interface Terminal {
  readonly process: RunningProcess;
  text(): string;
  until(part: string): Promise<void>;
}

async function open(args: string): Promise<Terminal> {
  const command = `${process.execPath} ${main} ${args}; echo left with $?`;
  const env = {
    TERM: 'xterm',
    PATH: '/usr/bin:/bin',
    SHELL: '/bin/sh',
    HOME: api.stateDir,
    PRX_STATE_DIR: api.stateDir,
  };
  const script = ['-qc', command, '/dev/null'];
  const child = await startProcess({ command: SCRIPT, args: script, env, ownSession: true });
  let text = '';
  const waiting = new Set<() => void>();
  child.stdout.on('data', (chunk) => {
    text += String(chunk);
    for (const check of waiting) check();
  });
  return {
    process: child,
    text: () => text,
    until: (part) =>
      new Promise((done) => {
        const check = (): void => {
          if (!text.includes(part)) return;
          waiting.delete(check);
          done();
        };
        waiting.add(check);
        check();
      }),
  };
}

onTerminal(
  '[command:attach] on a pty: history, live, Ctrl-C is a key, Ctrl-P Ctrl-Q leaves',
  async () => {
    const terminal = await open(`attach ${SESSION}`);
    await terminal.until('Ctrl-P Ctrl-Q detaches');
    expect(terminal.text()).toContain('past');
    api.emit(SESSION, ...input('in_2', 'live'));
    await terminal.until('live');
    terminal.process.stdin.write('\u0003');
    await terminal.until('no turn runs');
    terminal.process.stdin.write('\u0010\u0011');
    await terminal.until('left with 0');
    expect(terminal.text()).toContain('the session goes on');
    expect(terminal.text()).toContain('\u001b[?2004l');
    await terminal.process.exited;
  },
);

onTerminal('[command:attach] --plain on a pty: lines only, Ctrl-D leaves', async () => {
  const terminal = await open(`attach ${SESSION} --plain`);
  await terminal.until('status: attached');
  await terminal.until('input>');
  expect(terminal.text()).toContain('agent: past');
  terminal.process.stdin.write('typed\r');
  await terminal.until('you: typed');
  terminal.process.stdin.write('\u0004');
  await terminal.until('left with 0');
  await terminal.process.exited;
});

onTerminal('[command:ps] ends quietly when nobody reads its output', async () => {
  const terminal = await open(`events ${SESSION} | head -n 1`);
  await terminal.until('left with 0');
  expect(terminal.text()).not.toContain('EPIPE');
  await terminal.process.exited;
});
