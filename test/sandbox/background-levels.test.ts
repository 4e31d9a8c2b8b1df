/** Background processes at the levels below bubblewrap, each in a real host: what works, what is
 *  bounded, who is left, and whose loopback it is. */
import { readdirSync, readlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { listDescendants } from '../../base/process.ts';
import type { ToolOutcome } from '../../protocol/content.ts';
import { type NetworkPolicy, noNetwork } from '../../protocol/network.ts';
import { findProgram } from '../../sandbox/launch/survey.ts';
import { listProcessRecords } from '../../sandbox/processes/record.ts';
import { eventually } from '../integration/processes.ts';
import { openToolFolder, type ToolFolder, toTool } from './custom-harness.ts';
import {
  type HostOptions,
  hasBubblewrap,
  isRoot,
  startTestHost,
  type TestHost,
} from './harness.ts';
import { findProcesses, waitUntilGone, waitUntilThere } from './processes.ts';

const OTHER_UID = 61_007;
const hasPerl = findProgram('perl') !== undefined;
const kept = ['unshare', 'landlock', 'limits-only'] as const;
const levels = [...kept, 'none'] as const;
type Level = (typeof levels)[number] | 'bubblewrap';

const hosts: TestHost[] = [];
let folder: ToolFolder | undefined;
afterEach(async () => {
  for (const host of hosts.splice(0)) await host.close();
  folder?.close();
  folder = undefined;
});

async function start(level: Level, policy: HostOptions['policy'] = {}): Promise<TestHost> {
  const user = isRoot ? { uid: OTHER_UID } : {};
  const host = await startTestHost({ ...user, policy: { ...policy, backend: level } });
  hosts.push(host);
  await host.initialize();
  return host;
}

const begin = (host: TestHost, command: string): Promise<ToolOutcome> =>
  host.run('process_start', { command }, '1.1.1');
const poll = (host: TestHost, rest: object = {}): Promise<ToolOutcome> =>
  host.run('process_poll', { process: '1.1.1', ...rest });

/** All it printed, once that has this in it or it is over. */
async function pollFor(host: TestHost, text: string): Promise<string> {
  for (let polls = 0; polls < 100; polls += 1) {
    const { output } = await poll(host, { offset: 0 });
    if (output.includes(text) || !output.includes('runs since')) return output;
    await poll(host, { wait_secs: 10 });
  }
  throw new Error(`it never said ${text}`);
}

const readReasons = (host: TestHost) =>
  listProcessRecords(dirname(host.spoolPath('x'))).map(({ end }) => end?.reason);

/** Leaves its parent, its session and its environment. */
const leave =
  `perl -e 'exit if fork; setpgrp; %ENV = (); close $_ for *STDIN, *STDOUT, *STDERR; ` +
  `exec "sleep", $ARGV[0]'`;

(hasPerl ? describe : describe.skip).each(levels)('a background process at level %s', (level) => {
  test('runs beside later calls, gets input and its end, and is told of', async () => {
    const host = await start(level);
    const begun = await begin(host, 'echo ready; while read line; do echo "got $line"; done');
    expect(begun).toMatchObject({ status: 'ok', level });
    await pollFor(host, 'ready');
    expect(await host.shell('echo beside')).toMatchObject({ output: 'beside\n' });
    await host.run('process_input', { process: '1.1.1', text: 'one\n' });
    await host.run('process_input', { process: '1.1.1', text: 'two\n', end: true });
    expect(await pollFor(host, 'exit code')).toMatch(/^ready\ngot one\ngot two\n\[.*exit code 0/);
    expect(host.processes).toEqual([
      { kind: 'started', call: '1.1.1' },
      { kind: 'exited', call: '1.1.1', end: expect.objectContaining({ reason: 'exited' }) },
    ]);
  });

  test('does not run before the journal has its start', async () => {
    const host = await startTestHost({
      ...(isRoot ? { uid: OTHER_UID } : {}),
      policy: { backend: level },
      onRegister: () => {
        throw new Error('no room');
      },
    });
    hosts.push(host);
    await host.initialize();
    expect(await begin(host, 'touch ran')).toMatchObject({ status: 'error' });
    expect(readdirSync(host.workspace)).toEqual([]);
    expect(readReasons(host)).toEqual(['not_started']);
  });

  test('is stopped: asked first, then with all it started', async () => {
    const host = await start(level);
    await begin(host, 'trap "echo asked" TERM; sleep 4731 & echo ready; while :; do wait; done');
    await pollFor(host, 'ready');
    const stopped = await host.run('process_stop', { process: '1.1.1' });
    expect(stopped.output).toMatch(/asked\n[\s\S]*it was stopped/);
    await waitUntilGone(() => findProcesses(/^sleep 4731$/));
  });

  test('ends with its supervisor, and that is written down', async () => {
    const host = await start(level);
    await begin(host, 'sleep 4732 & echo ready; sleep 4733');
    await pollFor(host, 'ready');
    await waitUntilThere(() => findProcesses(/^sleep 473[23]$/), 2);
    host.connection.close();
    await host.exited;
    await waitUntilGone(() => findProcesses(/^sleep 473[23]$/));
    expect(readReasons(host)).toEqual(['orphaned']);
  });

  test('runs within the limits of a call: memory, and where temporary files are on disk, disk', async () => {
    const host = await start(level, { memoryLimitBytes: 200 * 2 ** 20, diskBytes: 4 * 2 ** 20 });
    await begin(host, `perl -e 'my $x = "x" x (400 * 1024 * 1024); sleep 600'; sleep 600`);
    await pollFor(host, 'security.sandbox');
    if (level === 'landlock' || level === 'limits-only') {
      const fill = 'for i in 1 2 3 4 5 6; do head -c 1000000 /dev/zero > $TMPDIR/$i; done';
      await host.run('process_start', { command: `${fill}; sleep 600` }, '1.1.2');
      await host.run('process_poll', { process: '1.1.2', offset: 0, wait_secs: 10 });
      await eventually(() => host.processes.filter(({ kind }) => kind === 'exited').length > 1);
    }
    expect(
      host.processes.flatMap((each) => (each.kind === 'exited' ? [each.end.exceeded?.limit] : [])),
    ).toEqual(
      level === 'landlock' || level === 'limits-only'
        ? ['memory_limit_mb', 'max_disk_mb']
        : ['memory_limit_mb'],
    );
  });
});

(hasPerl ? describe : describe.skip).each(kept)('a background process at level %s', (level) => {
  test('dies with its host, by SIGKILL, whatever it did', async () => {
    const host = await start(level);
    await begin(host, `${leave} 4734; echo ready; sleep 4735`);
    await waitUntilThere(() => findProcesses(/^sleep 473[45]$/), 2);
    host.process.kill('SIGKILL');
    await host.exited;
    await waitUntilGone(() => findProcesses(/^sleep 473[45]$/));
    expect(readReasons(host)).toEqual([undefined]);
  });
});

const SERVER = `cat > server.cjs <<'END'
require('node:http')
  .createServer((request, response) => response.end('hello'))
  .on('error', ({ code }) => console.log('refused ' + code))
  .listen(0, '127.0.0.1', function () {
    require('node:fs').writeFileSync('port', String(this.address().port));
    console.log('listening');
  });
END
exec node server.cjs`;
const ASK = `
const port = require('node:fs').readFileSync('port', 'utf8');
fetch('http://127.0.0.1:' + port).then((answer) => answer.text()).then(console.log);
`;

describe('a server in the background', () => {
  (hasPerl ? test : test.skip).each(['unshare', 'limits-only', 'none'] as const)(
    'is reached by later calls of its session at level %s',
    async (level) => {
      const host = await start(level);
      await begin(host, SERVER);
      expect(await pollFor(host, 'listening')).toContain('listening');
      const asked = await host.run('run_code', { language: 'javascript', code: ASK });
      expect(asked).toMatchObject({ status: 'ok', output: 'hello\n' });
    },
  );

  (hasPerl ? test : test.skip)('has no socket at level landlock', async () => {
    const host = await start('landlock');
    await begin(host, SERVER);
    expect(await pollFor(host, 'refused')).toMatch(/^refused E/);
  });
});

/** The network namespaces of all that stands below the host in a pid namespace of its own. */
function listNetworks(host: TestHost): readonly string[] {
  const own = readlinkSync('/proc/self/ns/pid');
  const inner = listDescendants(host.process.pid).filter((pid) => read(pid, 'pid') !== own);
  return [...new Set(inner.flatMap((pid) => read(pid, 'net') ?? []))];
}

function read(pid: number, kind: 'pid' | 'net'): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/${kind}`);
  } catch {
    // It ended since.
    return undefined;
  }
}

const full = { ...noNetwork, mode: 'full' as const };
const machine = readlinkSync('/proc/self/ns/net');
const hasLevel = (level: Level): boolean => (level === 'bubblewrap' ? hasBubblewrap : hasPerl);

describe.each(['bubblewrap', 'unshare'] as const)(
  'the network of a session at level %s',
  (level) => {
    const on = hasLevel(level) ? test : test.skip;

    on.each<[NetworkPolicy['mode'], NetworkPolicy]>([
      ['none', noNetwork],
      ['full', full],
    ])(
      '%s: commands, file tools, custom tools and background processes are in one',
      async (mode, network) => {
        folder = await openToolFolder(
          {
            'ask.ts': toTool(
              'ask',
              'const port = readFileSync(workspace + "/port", "utf8");' +
                'return (await fetch("http://127.0.0.1:" + port)).text();',
            ),
          },
          isRoot ? { uid: OTHER_UID } : {},
        );
        const host = await start(level, { network, custom: folder.custom });
        await begin(host, SERVER);
        await pollFor(host, 'listening');
        expect(await host.run('custom__ask', {})).toMatchObject({ status: 'ok', output: 'hello' });
        const write = { path: 'a', content: 'b' };
        expect(await host.run('write_file', write)).toMatchObject({ status: 'ok' });
        const networks = listNetworks(host);
        expect(networks).toHaveLength(1);
        expect(networks[0] === machine).toBe(mode === 'full');
      },
    );

    on('another session does not reach it', async () => {
      const [host, other] = [await start(level), await start(level)];
      await begin(host, SERVER);
      await pollFor(host, 'listening');
      const { output: port } = await host.shell('cat port');
      await other.shell(`printf %s ${port.trim()} > port`);
      const asked = await other.run('run_code', { language: 'javascript', code: ASK });
      expect(asked).toMatchObject({
        status: 'error',
        output: expect.stringContaining('ECONNREFUSED'),
      });
      expect(listNetworks(other)).not.toEqual(listNetworks(host));
    });
  },
);
