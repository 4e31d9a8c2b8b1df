/** A worker from nothing to ready, over the time in which the same Node does nothing at all. The
 *  command is the supervisor's own: in the namespaces that its probe finds here, and without. */
import { spawn } from 'node:child_process';
import { realClock } from '../base/clock.ts';
import { realProcesses } from '../base/process.ts';
import type { ChildSpec } from '../supervisor/children/child.ts';
import { findPrograms, toWorkerSpec } from '../supervisor/launch.ts';
import { runProbe } from '../supervisor/probe.ts';
import type { Figure } from './figure.ts';
import type { Lab } from './lab.ts';
import { timeCommand } from './processes.ts';
import type { Row } from './report.ts';
import { pairwise, ratio } from './stats.ts';

/** The default of agent.limits.max_memory_mb. */
const MEMORY_LIMIT_BYTES = 512 * 2 ** 20;

export const workerStart: Figure = {
  name: 'worker',
  async run(lab) {
    const programs = findPrograms(lab.program('supervisor'), lab.node);
    const ports = { programs, processes: realProcesses, clock: realClock, env: process.env };
    const { worker: launcher } = await runProbe({ ...ports, levels: ['bubblewrap'] });
    const plainSpec = toWorkerSpec(programs, MEMORY_LIMIT_BYTES, undefined);
    const ownSpec = toWorkerSpec(programs, MEMORY_LIMIT_BYTES, launcher);
    const bare: number[] = [];
    const plain: number[] = [];
    const own: number[] = [];
    const rounds = lab.quick ? 5 : 40;
    for (let round = 0; round < rounds; round += 1) {
      bare.push(await timeBareNode(lab));
      plain.push(await timeWorker(plainSpec));
      if (launcher !== undefined) own.push(await timeWorker(ownSpec));
    }
    const rows: Row[] = [
      {
        name: 'worker ready / bare node',
        unit: '×',
        samples: pairwise(plain, bare, ratio),
        aim: 2,
      },
      { name: 'worker, spawn to ready', unit: 'ms', samples: plain },
      { name: 'bare `node -e 0`, to its exit', unit: 'ms', samples: bare },
    ];
    if (launcher === undefined) return { title: 'Cold worker (no namespaces here)', rows };
    const within = `in namespaces (${launcher.confinement.join(', ')})`;
    const ratios = pairwise(own, bare, ratio);
    rows.push({ name: `worker ${within} / bare node`, unit: '×', samples: ratios });
    rows.push({ name: `worker ${within}, spawn to ready`, unit: 'ms', samples: own });
    return { title: 'Cold worker', rows };
  },
};

export function timeBareNode(lab: Lab): Promise<number> {
  return timeCommand({ command: lab.node, args: ['-e', '0'] });
}

async function timeWorker(spec: ChildSpec): Promise<number> {
  const { command, args, env } = spec.process;
  const startMs = performance.now();
  const child = spawn(command, [...args], {
    cwd: '/',
    env: { ...env },
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const readyMs = await new Promise<number>((resolve, reject) => {
    let stderr = '';
    let stdout = '';
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    child.stdout.on('data', (chunk: Buffer) => {
      stdout += chunk.toString();
      if (stdout.includes('worker/ready')) resolve(performance.now() - startMs);
    });
    void exited.then(() => reject(new Error(`the worker ended before it was ready: ${stderr}`)));
  });
  child.stdin.end();
  child.kill('SIGKILL');
  await exited;
  return readyMs;
}
