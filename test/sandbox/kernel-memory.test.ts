/** Memory that the kernel keeps for a call and that no size of a process shows: each kind for real,
 *  up to the limit of the call. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { findProgram } from '../../sandbox/launch/survey.ts';
import { hasBubblewrap, isRoot, startTestHost, type TestHost } from './harness.ts';

const OTHER_UID = 61_014;
const MIB = 2 ** 20;
const users = isRoot ? [undefined, OTHER_UID] : [undefined];
const on = hasBubblewrap && findProgram('python3') !== undefined ? describe : describe.skip;

let host: TestHost | undefined;
afterEach(async () => {
  await host?.close();
  host = undefined;
});

const bombs: Readonly<Record<string, readonly string[]>> = {
  'locks on ranges of files': [
    'import fcntl, os',
    'for i in range(2000):',
    ' fd = os.open(f"/tmp/{i}", os.O_RDWR | os.O_CREAT)',
    ' for at in range(1000, 0, -1): fcntl.lockf(fd, fcntl.LOCK_EX, 1, 2 * at)',
  ],
  'open files, and nothing else': [
    'import ctypes, os',
    'libc = ctypes.CDLL(None)',
    'for i in range(170):',
    ' if os.fork() == 0:',
    '  while libc.timerfd_create(1, 0) >= 0: pass',
    '  break',
  ],
  'connections that nobody takes': [
    'import socket',
    'kept = []',
    'while True:',
    ' server = socket.socket()',
    ' server.bind(("127.0.0.1", 0))',
    ' server.listen(4096)',
    ' kept.append(server)',
    ' for i in range(4000):',
    '  client = socket.create_connection(server.getsockname())',
    '  client.send(b"x")',
    '  client.close()',
  ],
  'sockets on their way through a socket': [
    'import socket',
    'kept = [socket.socketpair() for i in range(20)]',
    'for pair in kept:',
    ' ends = [end for i in range(50) for end in socket.socketpair()]',
    ' for end in ends:',
    '  end.setblocking(False)',
    '  try:',
    '   while True: end.send(b"x" * 2048)',
    '  except BlockingIOError: pass',
    ' socket.send_fds(pair[0], [b"a"], [end.fileno() for end in ends])',
    ' for end in ends: end.close()',
  ],
  'mappings that are inherited again and again': [
    'import ctypes, mmap, os',
    'libc = ctypes.CDLL(None)',
    'libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_int]',
    'm = mmap.mmap(-1, 5000 * 8192, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)',
    'start = ctypes.addressof(ctypes.c_char.from_buffer(m))',
    'for i in range(5000):',
    ' m[i * 8192] = 1',
    ' libc.mprotect(start + i * 8192 + 4096, 4096, 0)',
    'm.madvise(mmap.MADV_DONTNEED)',
    'for i in range(60):',
    ' if os.fork() != 0: break',
  ],
  'system call filters': [
    'import ctypes, os, struct',
    'libc = ctypes.CDLL(None)',
    'steps = b"".join(struct.pack("HBBI", 0x15, 0, 0, i) for i in range(4000))',
    'steps = ctypes.create_string_buffer(steps + struct.pack("HBBI", 6, 0, 0, 0x7FFF0000))',
    'filter = struct.pack("HxxxxxxP", 4001, ctypes.addressof(steps))',
    'libc.prctl(38, 1, 0, 0, 0)',
    'for i in range(100):',
    ' if os.fork() == 0:',
    '  while libc.prctl(22, 2, filter, 0, 0) == 0: pass',
    '  break',
  ],
};

/** They take a third of a minute each, and no way of counting that the others do not. */
const slow = ['locks on ranges of files', 'system call filters'];

on.each(users)('a call that has the kernel keep too much for it (uid %s)', (uid) => {
  const own = Object.entries(bombs).filter(
    ([name]) => uid === users.at(-1) || !slow.includes(name),
  );

  test.each(own)('%s (regression)', async (_, lines) => {
    const policy = { memoryLimitBytes: 128 * MIB, timeoutMs: 60_000 };
    host = await startTestHost({ policy, ...(uid === undefined ? {} : { uid }) });
    await host.initialize();
    const script = [...lines, 'import time', 'time.sleep(600)'].join('\n');
    writeFileSync(join(host.workspace, 'bomb.py'), script);
    expect(await host.shell('python3 bomb.py; sleep 600')).toMatchObject({
      status: 'memory',
      exceeded: { limit: 'memory_limit_mb', max: 128 },
    });
  });
});

on('what the machine has a fixed number of', () => {
  test("is not a call's to use up: queues for asynchronous reads (regression)", async () => {
    host = await startTestHost({});
    await host.initialize();
    const ask =
      'print(libc.syscall(number, 1, ctypes.byref(ctypes.c_ulong(0))), ctypes.get_errno())';
    const number = `number = ${process.arch === 'x64' ? 206 : 0}`;
    const lines = ['import ctypes', 'libc = ctypes.CDLL(None, use_errno=True)', number, ask];
    writeFileSync(join(host.workspace, 'ask.py'), lines.join('\n'));
    const ENOSYS = 38;
    expect(await host.shell('python3 ask.py')).toMatchObject({ output: `-1 ${ENOSYS}\n` });
  });
});
