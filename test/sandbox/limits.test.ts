/** The limits of a call as a whole, each broken for real. Calls of a session are watched; one
 *  command alone has a control group where we may make one (test/cli/sandbox.test.ts). */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import type { SandboxPolicy } from '../../protocol/sandbox-methods.ts';
import { openCallGroups } from '../../sandbox/launch/call-group.ts';
import { findProgram } from '../../sandbox/launch/survey.ts';
import { hasBubblewrap, isRoot, startTestHost, type TestHost } from './harness.ts';

const OTHER_UID = 61_001;
const MIB = 2 ** 20;
const hasPython = findProgram('python3') !== undefined;

let host: TestHost | undefined;
afterEach(async () => {
  await host?.close();
  host = undefined;
});

async function startReady(policy: Partial<SandboxPolicy>, uid?: number): Promise<TestHost> {
  host = await startTestHost({ policy, ...(uid === undefined ? {} : { uid }) });
  await host.initialize();
  return host;
}

const users = isRoot ? [undefined, OTHER_UID] : [undefined];
const on = hasBubblewrap && hasPython ? describe : describe.skip;

const touch = (mib: number): string => `b"x" * (${mib} << 20)`;
const bombs: readonly (readonly [name: string, script: string])[] = [
  ['one process', `a = ${touch(300)}`],
  [
    'many small ones',
    `import os\nfor i in range(12):\n if os.fork() == 0: break\na = ${touch(40)}`,
  ],
  ['shared memory', `import mmap\nm = mmap.mmap(-1, 300 << 20)\nm.write(${touch(300)})`],
  [
    'one that leaves its parent',
    `import os\nif os.fork() or os.fork(): os._exit(0)\nos.setsid()\na = ${touch(300)}`,
  ],
  [
    'shared memory that no table shows',
    `import mmap\nm = mmap.mmap(-1, 600 << 20)\nfor at in range(0, 600 << 20, 1 << 20):\n m[at:at + (1 << 20)] = ${touch(1)}\n m.madvise(mmap.MADV_DONTNEED)`,
  ],
  [
    'what waits in sockets',
    `import socket\npairs = []\nfor i in range(1900):\n pair = socket.socketpair()\n pairs.append(pair)\n for end in pair:\n  end.setblocking(False)\n  try:\n   while True: end.send(b"x" * 32768)\n  except BlockingIOError: pass`,
  ],
  [
    'what waits in sockets whose queues were to be larger (regression)',
    `import socket\npairs = []\nfor i in range(200):\n pair = socket.socketpair()\n pairs.append(pair)\n for end in pair:\n  end.setblocking(False)\n  end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 24)\n  try:\n   while True: end.send(b"x" * 32768)\n  except BlockingIOError: pass\nif sum(end.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) > 1 << 20 for pair in pairs for end in pair): time.sleep(600)\na = ${touch(300)}`,
  ],
  [
    'what waits in connections, whose queues grow by themselves (regression)',
    `import socket\nserver = socket.socket()\nserver.bind(("127.0.0.1", 0))\nserver.listen()\nends = []\nfor i in range(150):\n end = socket.create_connection(server.getsockname())\n ends += [end, server.accept()[0]]\n end.setblocking(False)\n try:\n  while True: end.send(b"x" * 65536)\n except BlockingIOError: pass`,
  ],
  [
    'what is told to watches of files, and not read (regression)',
    `import ctypes, os\nlibc = ctypes.CDLL(None)\nos.mkdir("/tmp/d")\nfor i in range(100): libc.inotify_add_watch(libc.inotify_init(), b"/tmp/d", 0x300)\nfor i in range(8000):\n path = "/tmp/d/" + "x" * 240 + str(i)\n os.close(os.open(path, os.O_CREAT))\n os.unlink(path)`,
  ],
  [
    'the tables of pages that are not there',
    `import mmap\nm = mmap.mmap(-1, 1 << 40, flags=mmap.MAP_PRIVATE | 0x4000, prot=mmap.PROT_READ)\nfor at in range(0, 1 << 40, 2 << 20): m[at]`,
  ],
  ['files in memory', `a = ${touch(90)}\nopen("/tmp/a", "wb").write(a)`],
];

/** Fills files that have neither a name nor a descriptor: something else keeps them. */
const nameless = (keep: string): string =>
  [
    'import ctypes, os, socket, time',
    'libc = ctypes.CDLL(None); libc.mmap.argtypes = [ctypes.c_void_p] + [ctypes.c_long] * 5',
    'a, b = socket.socketpair()',
    'for i in range(40):',
    ' fd = os.open("f", os.O_RDWR | os.O_CREAT); os.unlink("f")',
    ' os.write(fd, bytes(5000000)); os.fsync(fd)',
    ` ${keep}`,
    ' os.close(fd)',
    'time.sleep(600)',
  ].join('\n');

on.each(users)('a call that uses too much (uid %s)', (uid) => {
  test.each(bombs)('memory, %s: killed as a whole, by name', async (_, script) => {
    const ready = await startReady({ memoryLimitBytes: 128 * MIB, tmpBytes: 256 * MIB }, uid);
    writeFileSync(join(ready.workspace, 'bomb.py'), `${script}\nimport time; time.sleep(600)\n`);
    const outcome = await ready.shell('python3 bomb.py; sleep 600');
    expect(outcome).toMatchObject({
      status: 'memory',
      output: expect.stringMatching(/together they used .* MiB of memory; the limit is 128 MiB/),
      exceeded: { limit: 'memory_limit_mb', max: 128 },
    });
    expect(outcome.exceeded?.value).toBeGreaterThanOrEqual(127);
  });

  test('many processes that share their pages are not counted for each', async () => {
    const ready = await startReady({ memoryLimitBytes: 200 * MIB }, uid);
    const script = `import os, time\na = ${touch(60)}\nfor i in range(10):\n if os.fork() == 0: break\ntime.sleep(0.6)`;
    writeFileSync(join(ready.workspace, 'shared.py'), script);
    expect(await ready.shell('python3 shared.py; sleep 0.6; echo fine')).toMatchObject({
      status: 'ok',
      output: 'fine\n',
    });
  });

  test('processor time, of all processes together', async () => {
    const ready = await startReady({ cpuMs: 300 }, uid);
    const outcome = await ready.shell('for i in 1 2 3; do (while :; do :; done) & done; wait');
    expect(outcome).toMatchObject({ status: 'killed', exceeded: { limit: 'max_cpu_secs' } });
  });

  test('processor time of children that nobody waits for (regression)', async () => {
    const ready = await startReady({ cpuMs: 600 }, uid);
    const script = `import os, signal, time\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nwhile True:\n if os.fork() == 0:\n  while time.process_time() < 0.25: pass\n  os._exit(0)\n try: os.wait()\n except ChildProcessError: pass`;
    writeFileSync(join(ready.workspace, 'children.py'), script);
    const outcome = await ready.shell('python3 children.py');
    expect(outcome).toMatchObject({ status: 'killed', exceeded: { limit: 'max_cpu_secs' } });
  });

  test.each([
    ['many files', 'i=0; while :; do i=$((i+1)); head -c 2000000 /dev/zero > f$i; done'],
    [
      'files that have no name any more',
      'exec 5> a 6> b; rm a b; head -c 15000000 /dev/zero >&5; head -c 15000000 /dev/zero >&6; sleep 600',
    ],
    [
      'files that are only mapped',
      `python3 -c '${nameless('libc.mmap(None, 4096, 1, 1, fd, 0)')}'`,
    ],
    [
      'files on their way through a socket',
      `python3 -c '${nameless('a.sendmsg([b"x"], [(1, 1, fd.to_bytes(4, "little"))])')}'`,
    ],
    [
      'files in a folder that is closed to its user (regression)',
      'mkdir d; chmod 311 d; for i in 1 2; do head -c 15000000 /dev/zero > d/$i; done; sleep 600',
    ],
    [
      'files beside what has a name and nothing else to be seen (regression)',
      'mkdir d e; : > e/f; chmod 600 e; chmod 311 d; for i in 1 2; do head -c 15000000 /dev/zero > d/$i; done; sleep 600',
    ],
    [
      'files of a process in a sandbox that forbids to look at it',
      `python3 -c 'import ctypes, os, time\nctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\nfor i in range(4):\n fd = os.open("f", os.O_RDWR | os.O_CREAT); os.unlink("f"); os.write(fd, bytes(15 << 20))\ntime.sleep(600)'`,
    ],
    [
      'files behind a name that is no text (regression)',
      `d=$(printf 'd\\377'); mkdir "$d"; for i in 1 2; do head -c 15000000 /dev/zero > "$d/$i"; done; sleep 600`,
    ],
    [
      'files deeper than a path may be long',
      `python3 -c 'import os, time\nfor i in range(60): os.mkdir("d" * 99); os.chdir("d" * 99)\nfor i in range(3): open(f"f{i}", "wb").write(bytes(15 << 20))\ntime.sleep(600)'`,
    ],
  ])('disk, %s', async (_, script) => {
    const ready = await startReady({ diskBytes: 20 * MIB }, uid);
    const outcome = await ready.shell(script);
    expect(outcome.status).toBe('killed');
    expect(outcome.exceeded).toMatchObject({ limit: 'max_disk_mb', max: 20 });
  });

  test('files, however small', async () => {
    const ready = await startReady({ filesMax: 500 }, uid);
    const outcome = await ready.shell('i=0; while :; do i=$((i+1)); : > f$i; done');
    expect(outcome).toMatchObject({ status: 'killed', exceeded: { limit: 'max_files', max: 500 } });
  });

  test('files in a folder that is closed to its user (regression)', async () => {
    const ready = await startReady({ filesMax: 500 }, uid);
    const fill = 'mkdir d; chmod 311 d; i=0; while :; do i=$((i+1)); : > d/f$i; done';
    const outcome = await ready.shell(fill);
    expect(outcome).toMatchObject({ status: 'killed', exceeded: { limit: 'max_files', max: 500 } });
  });

  test('what a neighbour writes on the same disk is not its fault', async () => {
    const ready = await startReady({ diskBytes: 4 * MIB, filesMax: 100 }, uid);
    const call = ready.shell('sleep 0.8; echo fine');
    const other = join(ready.base, 'other');
    mkdirSync(other);
    for (let i = 0; i < 300; i += 1) writeFileSync(join(other, `f${i}`), Buffer.alloc(64 * 1024));
    expect(await call).toMatchObject({ status: 'ok', output: 'fine\n' });
  });
});

test('what lies on the disk is not memory, though a call sees it as /tmp (regression)', async () => {
  const ready = await startReady(
    { memoryLimitBytes: 64 * MIB, readOnlyPaths: ['/tmp'] },
    isRoot ? OTHER_UID : undefined,
  );
  const outcome = await ready.shell('sleep 0.6; stat -f -c %T /tmp; echo fine');
  expect(outcome).toMatchObject({ status: 'ok', output: expect.stringMatching(/\nfine\n$/) });
});

test('a tool is chosen before our own processes when memory runs out', async () => {
  const ready = await startReady({});
  expect(await ready.shell('cat /proc/self/oom_score_adj')).toMatchObject({ output: '500\n' });
});

test('a tool waits for our own processes when processors are wanted, and cannot change that', async () => {
  const ready = await startReady({});
  const command = 'chrt -p $$ | head -1; chrt -o -p 0 $$ 2>/dev/null || echo refused';
  const outcome = await ready.shell(command);
  expect(outcome).toMatchObject({ output: expect.stringMatching(/SCHED_IDLE\nrefused\n$/) });
});

describe('control groups of calls', () => {
  const limit = 64 * MIB;
  const host = { pid: 7, startTicks: 8 };
  const folders: string[] = [];
  afterEach(() => {
    for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
  });

  function makeRoot(files: Readonly<Record<string, string>>): string {
    const root = mkdtempSync(join(tmpdir(), 'prx-groups-'));
    folders.push(root);
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(join(root, path, '..'), { recursive: true });
      writeFileSync(join(root, path), text);
    }
    return root;
  }

  test('v1: a folder for the host, a group for a call, used again', async () => {
    const root = makeRoot({ 'memory/a/memory.limit_in_bytes': '1' });
    const machine = { root, own: '4:memory:/a\n0::/\n', host, isAlive: () => true };
    const groups = openCallGroups(machine, limit);
    const first = groups?.take();
    const path = join(root, 'memory/a/prx-tools-7-8/1');
    expect(groups?.version).toBe('v1');
    expect(readFileSync(join(path, 'memory.limit_in_bytes'), 'utf8')).toBe(String(limit));
    writeFileSync(join(path, 'memory.oom_control'), 'oom_kill 3\n');
    expect(await first?.join(42)).toBe(true);
    expect(readFileSync(join(path, 'cgroup.procs'), 'utf8')).toBe('42');
    expect(first?.wasOutOfMemory()).toBe(true);
    first?.release();
    expect(groups?.take()?.wasOutOfMemory()).toBe(false);
    expect(readdirSync(join(root, 'memory/a/prx-tools-7-8'))).toContain('1');
  });

  test('v2: only beside a supervisor that divided its group', () => {
    const root = makeRoot({ 'own/cgroup.subtree_control': 'memory pids' });
    const machine = { root, host, isAlive: () => true };
    expect(openCallGroups({ ...machine, own: '0::/own\n' }, limit)).toBeUndefined();
    const groups = openCallGroups({ ...machine, own: '0::/own/supervisor\n' }, limit);
    groups?.take();
    const path = join(root, 'own/prx-tools-7-8/1');
    expect(groups?.version).toBe('v2');
    expect(readFileSync(join(path, 'memory.max'), 'utf8')).toBe(String(limit));
  });

  test('no limit, or nothing to divide: none', () => {
    const root = makeRoot({ 'memory/a/memory.limit_in_bytes': '1' });
    const machine = { root, own: '4:memory:/a\n', host, isAlive: () => true };
    expect(openCallGroups(machine, 0)).toBeUndefined();
    expect(openCallGroups({ ...machine, own: '4:memory:/b\n' }, limit)).toBeUndefined();
  });

  test('those of a host that is gone are removed by the next', () => {
    const root = makeRoot({ 'memory/a/memory.limit_in_bytes': '1' });
    const gone = join(root, 'memory/a/prx-tools-1-2');
    mkdirSync(join(gone, '1'), { recursive: true });
    const isAlive = ({ pid }: { pid: number }): boolean => pid !== 1;
    openCallGroups({ root, own: '4:memory:/a\n', host, isAlive }, limit);
    expect(existsSync(gone)).toBe(false);
  });
});
