/** The shells that wait for a script: what they leave in it, and what their death does. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { listDescendants } from '../../base/process.ts';
import { killProcess, readCommandLine } from '../../sandbox/launch/process-tree.ts';
import { findProgram } from '../../sandbox/launch/survey.ts';
import { hasBubblewrap, isRoot, startTestHost, type TestHost } from './harness.ts';
import { waitUntilThere } from './processes.ts';

const OTHER_UID = 61_013;
const has = { bubblewrap: hasBubblewrap, unshare: findProgram('perl') !== undefined };
const levels = (['bubblewrap', 'unshare'] as const).filter((level) => has[level]);

let host: TestHost | undefined;
afterEach(async () => {
  await host?.close();
  host = undefined;
});

async function start(backend: (typeof levels)[number], open?: string): Promise<TestHost> {
  host = await startTestHost({
    ...{ policy: { backend }, ...(isRoot ? { uid: OTHER_UID } : {}) },
    ...(open === undefined ? {} : { open }),
  });
  await host.initialize();
  return host;
}

const findWaiting = ({ process }: TestHost): number[] =>
  listDescendants(process.pid).filter((pid) =>
    readCommandLine(pid).startsWith('/bin/sh\0-c\0read'),
  );

(levels.length === 0 ? describe.skip : describe).each(levels)('at level %s', (level) => {
  test('a command has three descriptors, an empty input, and no trace of the wait', async () => {
    const { shell } = await start(level);
    const { output } = await shell(
      'readlink $(seq -f /proc/self/fd/%g 0 9); set | grep prx_input; env | grep prx_input; :',
    );
    expect(output).toMatch(/^\/dev\/null\n\/sys\/pipes\/\d+\/out\n\/sys\/pipes\/\d+\/err\n$/);
  });

  test('what a tool makes has the modes that any program gives', async () => {
    const { shell, run, workspace } = await start(level);
    await shell('touch file program; chmod +x program; mkdir folder');
    await run('write_file', { path: 'deep/written', content: 'x' });
    const names = ['file', 'program', 'folder', 'deep', 'deep/written'];
    const modes = names.map((name) => statSync(join(workspace, name)).mode & 0o777);
    expect(modes).toEqual([0o644, 0o755, 0o755, 0o755, 0o644]);
  });

  test('what was open in whoever started the host is not open in a command', async () => {
    const { shell } = await start(level, '/etc/hostname');
    const { output } = await shell('ls /proc/$$/fd');
    expect(
      output
        .trim()
        .split(/\s+/)
        .map(Number)
        .filter((fd) => fd > 15),
    ).toEqual([]);
  });

  test('a process gets its input from the first byte, the word of the wait too', async () => {
    const { run } = await start(level);
    await run('process_start', { command: 'cat' }, '1.1.90');
    await run('process_input', { process: '1.1.90', text: 'in\n-\n', end: true });
    const ended = await run('process_poll', { process: '1.1.90', wait_secs: 10, offset: 0 });
    expect(ended.output).toMatch(/^in\n-\n/);
  });

  test('a call whose shell was killed as it waited is run by another one, once', async () => {
    const started = await start(level);
    const rounds = 20;
    for (let round = 1; round <= rounds; round += 1) {
      await waitUntilThere(() => findWaiting(started), 2);
      for (const pid of findWaiting(started)) killProcess(pid);
      // Their host has perhaps not heard of it, and hands it to one of them.
      const ran = await started.shell('echo ran >> count; wc -l <count');
      expect(ran).toMatchObject({ status: 'ok', output: `${round}\n` });
    }
  });
});
