/** What sandbox this machine offers: asked of the sandbox program itself, which tries its real
 *  profile once. A probe that fails is level none with the reason: nothing fails open. Such an
 *  answer may be about the probe (killed, no memory) and not the machine, and a machine can be
 *  mended: it is asked about again when a tool is needed. */
import type { Readable } from 'node:stream';
import { z } from 'zod';
import { background } from '../base/background.ts';
import type { Clock } from '../base/clock.ts';
import { PrxError, toPrxError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { ProcessPort } from '../base/process.ts';
import type { OfferedLevel } from '../protocol/sandbox-levels.ts';
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
/** Its answer is one line of a few hundred. */
const OUTPUT_CHARS_MAX = 65_536;

export interface ProbePorts {
  readonly programs: Programs;
  readonly processes: Pick<ProcessPort, 'start'>;
  readonly clock: Clock;
  readonly env: Environment;
  /** Which levels to try, strongest first. */
  readonly levels: readonly OfferedLevel[];
}

/** Asks once. Never rejects. */
export async function runProbe(ports: ProbePorts): Promise<Probe> {
  const { programs, processes, clock, env, levels } = ports;
  try {
    const spec = toHostSpec(programs, env).process;
    const running = await processes.start({
      ...spec,
      args: [
        ...[...spec.args, '--probe', '--levels', levels.join(',')],
        ...['--worker', programs.node, ...programs.workerReadable],
      ],
    });
    running.stdin.end();
    running.stderr.resume();
    // Its pipe is not waited for: who knows who has it.
    const timer = clock.setTimer(PROBE_TIMEOUT_MS, () => running.stdout.destroy(silent()));
    try {
      return probeSchema.parse(JSON.parse(await readAnswer(running.stdout)));
    } finally {
      timer.cancel();
      // What is left of one that was silent, or said too much.
      running.kill('SIGKILL');
    }
  } catch (error) {
    return { level: 'none', reason: `the probe failed: ${toPrxError(error).message}` };
  }
}

function silent(): PrxError {
  return new PrxError('DEADLINE_EXCEEDED', `it said nothing within ${PROBE_TIMEOUT_MS} ms`);
}

async function readAnswer(stdout: Readable): Promise<string> {
  let output = '';
  for await (const chunk of stdout.setEncoding('utf8')) {
    output += chunk;
    if (output.length <= OUTPUT_CHARS_MAX) continue;
    throw new PrxError('LIMIT_EXCEEDED', `it said more than ${OUTPUT_CHARS_MAX} characters`);
  }
  if (output === '')
    throw new PrxError('PEER_CLOSED', 'it ended, or was killed, without an answer');
  return output;
}

export interface SandboxProbe {
  /** The newest answer. */
  known(): Probe;
  /** The first answer; a refusal that came soon is asked about once more. */
  start(): Promise<Probe>;
  /** A tool is needed: where the last answer is not enough, asks again, but not sooner than the
   *  back-off lets it. Whoever comes meanwhile waits for the same answer, until its signal
   *  aborts. */
  again(signal: AbortSignal): Promise<void>;
}

export interface SandboxProbeDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Never rejects. */
  readonly ask: () => Promise<Probe>;
  /** Whether tools may run with what this answer says. */
  readonly isEnough: (probe: Probe) => boolean;
  /** Hears when there is another level than `from`. */
  readonly onChanged: (from: Probe, to: Probe) => void;
}

/** A start does not wait for a second probe when the first one took longer than this, ms. */
const PROBE_AGAIN_MS = 8000;
/** The first tool that needs one asks at once; from then on this lies between two, doubled, ms. */
const BACKOFF_MS_MIN = 1000;
const BACKOFF_MS_MAX = 60_000;

export function createSandboxProbe(deps: SandboxProbeDeps): SandboxProbe {
  const { clock, logger } = deps;
  let known: Probe = { level: 'none', reason: 'not probed yet' };
  let asking: Promise<void> | undefined;
  let notBeforeMs = 0;
  let backoffMs = 0;

  async function ask(): Promise<void> {
    const from = known;
    known = await deps.ask();
    backoffMs = Math.min(BACKOFF_MS_MAX, Math.max(BACKOFF_MS_MIN, backoffMs * 2));
    notBeforeMs = clock.nowMs() + backoffMs;
    if (known.level === from.level) return;
    logger.warn('sandbox.changed', { from: from.level, to: known.level, reason: from.reason });
    deps.onChanged(from, known);
  }

  return {
    known: () => known,
    async start() {
      const startMs = clock.nowMs();
      known = await deps.ask();
      if (!deps.isEnough(known) && clock.nowMs() - startMs <= PROBE_AGAIN_MS) {
        known = await deps.ask();
      }
      return known;
    },
    async again(signal) {
      if (deps.isEnough(known)) return;
      if (asking === undefined && clock.nowMs() < notBeforeMs) return;
      asking ??= ask().finally(() => {
        asking = undefined;
      });
      const stop = Promise.withResolvers<void>();
      const onAbort = (): void => stop.resolve();
      signal.addEventListener('abort', onAbort, { once: true });
      if (signal.aborted) onAbort();
      background(asking, 'sandbox.probe', logger);
      await Promise.race([asking, stop.promise]);
      signal.removeEventListener('abort', onAbort);
    },
  };
}
