/** What a child leaves behind when it exits by itself, and a pid that another process has now: real
 *  processes, one in a pid namespace of its own. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from '@jest/globals';
import { realClock } from '../../../base/clock.ts';
import { silentLogger } from '../../../base/logger.ts';
import {
  findIdentity,
  isAlive,
  type RunningProcess,
  realProcesses,
} from '../../../base/process.ts';
import { gatewayNotifications, gatewayReports } from '../../../protocol/gateway-methods.ts';
import { findProgram } from '../../../sandbox/launch/survey.ts';
import { type ChildExit, startChild } from '../../../supervisor/children/child.ts';
import { scanRealTrees } from '../../../supervisor/children/tree.ts';
import { findPrograms } from '../../../supervisor/launch.ts';
import { runProbe } from '../../../supervisor/probe.ts';
import { programs as built } from '../../programs.ts';

const reuse = fileURLToPath(new URL('./fixtures/reuse-a-pid.ts', import.meta.url));

/** Says that it is ready, and then does as told. Its own pid, and what it starts, go to stderr. */
async function runChild(script: string): Promise<{ exit: ChildExit; startedMs: number }> {
  let markReady: () => void = () => undefined;
  const ready = new Promise<void>((resolve) => {
    markReady = resolve;
  });
  const body = JSON.stringify({ jsonrpc: '2.0', method: 'gateway/ready', params: { pid: 1 } });
  const frame = `printf 'Content-Length: ${body.length}\\r\\n\\r\\n%s' '${body}'`;
  const child = await startChild({
    ...{ clock: realClock, logger: silentLogger, processes: realProcesses },
    spec: {
      kind: 'gateway',
      process: {
        ...{ command: '/bin/sh', args: ['-c', `${frame}; ${script}`] },
        ...{ env: { PATH: '/usr/bin:/bin' }, ownSession: true },
      },
      readyTimeoutMs: 60_000,
      stopGraceMs: 100,
    },
    local: { requests: {}, notifications: gatewayReports },
    remote: { requests: {}, notifications: gatewayNotifications },
    requests: {},
    notifications: { 'gateway/ready': () => markReady(), 'model/delta': () => undefined },
    ready,
  });
  const startedMs = realClock.nowMs();
  return { exit: await child.exited, startedMs };
}

test('a grandchild that holds its stdout keeps no exit waiting, and is ended (FAULTS 25)', async () => {
  const { exit } = await runChild('sleep 300 & echo $! >&2; exit 0');
  expect(exit).toMatchObject({ cause: 'completed', code: 0 });
  // Far less than the 300 s for which the pipe would stay open.
  expect(exit.uptimeMs).toBeLessThan(60_000);
  const grandchild = findIdentity(Number(exit.stderrTail));
  while (grandchild !== undefined && isAlive(grandchild)) await realClock.sleep(5);
});

const programs = findPrograms(built.supervisor, process.execPath);

/** A worker's own launcher around a program that starts another by way of a third, and waits. */
async function startFamily(): Promise<{ launcher: RunningProcess; pids: readonly number[] }> {
  const ports = { programs, processes: realProcesses, clock: realClock, env: process.env };
  const prefix = (await runProbe({ ...ports, levels: ['bubblewrap'] })).worker?.prefix ?? [];
  const spawned = (source: string, options: string): string =>
    `require('child_process').spawn(process.execPath,['-e',${JSON.stringify(source)}],${options})`;
  const grandchild = 'const kept=Buffer.alloc(128*2**20,1);setInterval(()=>kept[0],1000)';
  const child = `${spawned(grandchild, "{detached:true,stdio:'ignore'}")}.unref();process.exit(0)`;
  const parent = `${spawned(child, "{stdio:'ignore'}")}.on('exit',()=>console.log('left'));
    setInterval(()=>undefined,1000)`;
  const [command = '', ...args] = [...prefix, process.execPath, '-e', parent];
  const launcher = await realProcesses.start({
    command,
    args,
    cwd: '/',
    env: {},
    ownSession: true,
  });
  await new Promise((resolve) => launcher.stdout.once('data', resolve));
  return { launcher, pids: [launcher.pid, ...realProcesses.listDescendants(launcher.pid)] };
}

const hasBubblewrap = findProgram('bwrap') !== undefined;
const whyNot = hasBubblewrap ? '' : ' (skipped: bubblewrap is not installed)';

(hasBubblewrap ? test : test.skip)(
  `a grandchild whose parent is gone is counted, and ends with the worker (FAULTS 26)${whyNot}`,
  async () => {
    const { launcher, pids } = await startFamily();
    const identities = pids.flatMap((pid) => findIdentity(pid) ?? []);
    const measure = () => scanRealTrees([launcher.pid], Number.POSITIVE_INFINITY).get(launcher.pid);
    while ((measure() ?? 0) < 128 * 2 ** 20) await realClock.sleep(20);
    launcher.kill('SIGKILL');
    for (const each of identities) while (isAlive(each)) await realClock.sleep(5);
    expect(identities.length).toBeGreaterThanOrEqual(3);
  },
);

const canUnshare = tryUnshare();

function tryUnshare(): boolean {
  try {
    execFileSync('unshare', ['--pid', '--fork', '--mount-proc', 'true'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

const why = canUnshare ? '' : ' (skipped: no pid namespace can be made here)';

(canUnshare ? test : test.skip)(
  `a pid that another process has now: told apart, not signalled, measured anew (FAULTS 28)${why}`,
  () => {
    const args = ['--pid', '--fork', '--kill-child', '--mount-proc', process.execPath, reuse];
    const said = execFileSync('unshare', args, { encoding: 'utf8', timeout: 120_000 });
    expect(JSON.parse(said)).toEqual({
      isSamePid: true,
      isFirstAlive: false,
      killed: { byIdentity: false, byMark: false, bySweep: [] },
      forgotten: 1,
      isSecondAlive: true,
      isMeasured: true,
    });
  },
);
