/** The real supervisor, started as the unit starts it, tells a socket in systemd's place that it is
 *  ready and that it works. What stands in for systemd is a datagram reader; what systemd then
 *  does is systemd's. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import { type RunningProcess, startProcess } from '../../base/process.ts';

const root = dirname(dirname(import.meta.dirname));
const folder = mkdtempSync(join(tmpdir(), 'prx-notify-'));
const socket = join(folder, 'notify');

const tools = ['/usr/bin/systemd-notify', '/usr/bin/perl'];
const withTools = tools.every((tool) => existsSync(tool)) ? test : test.skip;

const running: RunningProcess[] = [];

afterAll(async () => {
  for (const child of running) child.kill('SIGKILL');
  await Promise.all(running.map(({ exited }) => exited));
  rmSync(folder, { recursive: true, force: true });
});

async function start(command: string, args: string[], env: Record<string, string> = {}) {
  const child = await startProcess({
    command,
    args,
    env: { PATH: '/usr/bin:/bin', HOME: folder, ...env },
    ownSession: true,
  });
  running.push(child);
  child.stderr.resume();
  return child;
}

/** Prints each datagram as a line. Descriptors that come with it are dropped: that is what tells
 *  systemd-notify that its message was read. */
const READER = `use Socket; $| = 1;
socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die $!;
bind($s, pack_sockaddr_un($ARGV[0])) or die $!;
print "bound\\n";
while (defined recv($s, my $data, 4096, 0)) { $data =~ s/\\n/ /g; print "$data\\n"; }`;

/** Resolves once the text passes. */
async function until(child: RunningProcess, passes: (text: string) => boolean): Promise<string> {
  let text = '';
  for await (const chunk of child.stdout.iterator({ destroyOnReturn: false })) {
    text += String(chunk);
    if (passes(text)) return text;
  }
  throw new Error(`ended with: ${text}`);
}

withTools(
  'says READY with the pid that was started, then WATCHDOG while it works; SIGTERM exits 0',
  async () => {
    const reader = await start('/usr/bin/perl', ['-e', READER, socket]);
    await until(reader, (text) => text.includes('bound'));
    const supervisor = await start(process.execPath, [join(root, 'cli', 'main.ts'), 'start'], {
      PRX_STATE_DIR: join(folder, 'state'),
      NOTIFY_SOCKET: socket,
      WATCHDOG_USEC: '1000000',
    });
    supervisor.stdout.resume();
    const said = await until(reader, (text) => text.split('WATCHDOG=1').length > 3);
    const messages = said.split('\n').filter((line) => line !== '' && line !== 'BARRIER=1');
    // The cli becomes the supervisor: the main pid of the unit stays what systemd started.
    expect(messages.slice(0, 3)).toEqual([
      `READY=1 MAINPID=${supervisor.pid}`,
      'WATCHDOG=1',
      'WATCHDOG=1',
    ]);
    supervisor.kill('SIGTERM');
    expect(await supervisor.exited).toEqual({ code: 0, signal: undefined });
  },
);
