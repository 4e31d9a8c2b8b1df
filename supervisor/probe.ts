/** What sandbox this machine offers: asked of the sandbox program itself, which tries its real
 *  profile once. A probe that fails is level none with the reason: nothing fails open. */
import { z } from 'zod';
import type { Clock } from '../base/clock.ts';
import { toPrxError } from '../base/errors.ts';
import type { ProcessPort } from '../base/process.ts';
import type { Environment } from './config.ts';
import { type Programs, toHostSpec } from './launch.ts';
import type { Probe } from './settings.ts';

const probeSchema = z.object({
  level: z.string(),
  reason: z.string().optional(),
  mend: z.string().optional(),
  /** How to start a worker in namespaces of its own. */
  worker: z
    .object({ prefix: z.array(z.string()).min(1), confinement: z.array(z.string()) })
    .optional(),
});

const PROBE_TIMEOUT_MS = 10_000;

function toProbeArgs(programs: Programs): string[] {
  return ['--probe', '--worker', programs.node, ...programs.workerReadable];
}

/** A refusal that came sooner than this is asked about once more, ms. */
const PROBE_AGAIN_MS = 8000;

/** What a machine offers does not change, but the probe itself may have been hit (killed for want
 *  of memory, no process to be had), and its answer stands as long as this supervisor. */
export async function runProbe(
  programs: Programs,
  processes: Pick<ProcessPort, 'start'>,
  clock: Clock,
  env: Environment,
): Promise<Probe> {
  const startMs = clock.nowMs();
  const first = await probeOnce(programs, processes, clock, env);
  if (first.level !== 'none' || clock.nowMs() - startMs > PROBE_AGAIN_MS) return first;
  return probeOnce(programs, processes, clock, env);
}

async function probeOnce(
  programs: Programs,
  processes: Pick<ProcessPort, 'start'>,
  clock: Clock,
  env: Environment,
): Promise<Probe> {
  try {
    const spec = toHostSpec(programs, env).process;
    const running = await processes.start({
      ...spec,
      args: [...spec.args, ...toProbeArgs(programs)],
    });
    running.stdin.end();
    let output = '';
    running.stdout.setEncoding('utf8');
    running.stdout.on('data', (chunk: string) => {
      output += chunk;
    });
    const ended = new Promise((resolve) => running.stdout.once('end', resolve));
    const timeout = new AbortController();
    const late = clock.sleep(PROBE_TIMEOUT_MS, timeout.signal).then(() => 'late');
    const result = await Promise.race([ended, late]);
    timeout.abort();
    if (result === 'late') running.kill('SIGKILL');
    return probeSchema.parse(JSON.parse(output));
  } catch (error) {
    return { level: 'none', reason: `the probe failed: ${toPrxError(error).message}` };
  }
}
