/** The sandbox host's process: one per session that uses tools. Standard input and output are the
 *  protocol; logs go to standard error. `--probe` prints what this machine can give and ends. */
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { realClock } from '../base/clock.ts';
import { closeInherited } from '../base/descriptors.ts';
import { createLogger, silentLogger } from '../base/logger.ts';
import { OWNER_MARK } from '../base/process.ts';
import { realRandom } from '../base/random.ts';
import { type OfferedLevel, offeredLevels } from '../protocol/sandbox-levels.ts';
import { toOwnProbePrefix } from './launch/arms.ts';
import { createBackend } from './launch/create-backend.ts';
import { PARKED_COUNT } from './launch/one-shot.ts';
import { type ProbePorts, probe } from './launch/probe.ts';
import { findHtmlProgram } from './launch/runtime-files.ts';
import { findProgram, surveySystem } from './launch/survey.ts';
import { toWorkerLaunch, type WorkerLaunch } from './launch/worker-launch.ts';
import { createCallers } from './network/callers.ts';

/** Where nothing runs that could ask. */
const noCallers = createCallers((socket) => socket.destroy());

/** Of the supervisor that started us. */
function ownerMark(): string | undefined {
  return process.env[OWNER_MARK];
}

async function runProbe(): Promise<void> {
  const result = await findFirst(readLevels());
  const worker = result.level === 'bubblewrap' ? findWorkerLaunch() : undefined;
  const answer = worker === undefined ? result : { ...result, worker };
  process.stdout.write(`${JSON.stringify(answer)}\n`, () => process.exit(0));
}

/** `--levels A,B`: these, strongest first; absent: all. */
function readLevels(): readonly OfferedLevel[] {
  const at = process.argv.indexOf('--levels');
  if (at < 0) return offeredLevels;
  const named = (process.argv[at + 1] ?? '').split(',');
  return offeredLevels.filter((level) => named.includes(level));
}

const findFirst = (levels: readonly OfferedLevel[]) => probe(levels, createProbePorts());

function createProbePorts(): ProbePorts {
  const mark = realRandom.hex(8);
  // Made by who needs it, and gone with what is below.
  const scratchDir = `${toOwnProbePrefix()}${mark}`;
  const own = { scratchDir, parkedCount: 0, isSingle: false, callers: noCallers };
  const options = { ...own, logger: silentLogger, owner: ownerMark() };
  return {
    create: async (policy) => await createBackend({ ...options, policy }),
    uid: process.getuid?.() ?? 0,
    mark,
    clean: () => rmSync(scratchDir, { recursive: true, force: true }),
  };
}

/** `--worker PATH…`: also says how to start a worker that reads just these. */
function findWorkerLaunch(): WorkerLaunch | undefined {
  const at = process.argv.indexOf('--worker');
  const bwrap = findProgram('bwrap');
  if (at < 0 || bwrap === undefined) return undefined;
  return toWorkerLaunch({
    bwrap,
    perl: findProgram('perl'),
    arch: process.arch,
    ownUid: process.getuid?.() ?? 0,
    system: surveySystem(),
    readable: process.argv.slice(at + 1),
  });
}

/** `--explain JSON`: what a command would have. */
async function runExplanation(): Promise<void> {
  const { explainOrdered } = await import('./explain.ts');
  const { text, exit } = await explainOrdered({
    text: process.argv[3] ?? '',
    env: process.env,
    probe: findFirst,
    createBackend: (policy) =>
      createBackend({
        ...{ policy, scratchDir: tmpdir(), parkedCount: 0, isSingle: false },
        ...{ callers: noCallers, logger: silentLogger, owner: ownerMark() },
      }),
  });
  process.stdout.write(`${text}\n`, () => process.exit(exit));
}

/** `--run JSON`: one command, for a person. */
async function runOrder(): Promise<void> {
  const { runOrdered } = await import('./order.ts');
  const exit = await runOrdered({
    text: process.argv[3] ?? '',
    env: process.env,
    clock: realClock,
    random: realRandom,
    probe: findFirst,
    createBackend: (policy, scratchDir, callers = noCallers) =>
      createBackend({
        ...{ policy, scratchDir, parkedCount: 0, isSingle: true },
        ...{ callers, logger: silentLogger, owner: ownerMark() },
      }),
    onSignal: (listener) => {
      for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, listener);
    },
    streams: { stdout: process.stdout, stderr: process.stderr },
  });
  process.exit(exit);
}

/** `--describe JSON`: what files of the user's own tools say of them. It ends with its input, so
 *  that nothing runs on for a supervisor that is gone. */
async function runDescription(): Promise<void> {
  process.stdin.on('end', () => process.exit(0)).resume();
  const { describeOrdered } = await import('./describe.ts');
  const text = await describeOrdered({
    text: process.argv[3] ?? '',
    clock: realClock,
    logger: silentLogger,
    createBackend: (policy) =>
      createBackend({
        ...{ policy, scratchDir: tmpdir(), parkedCount: 0, isSingle: true },
        ...{ callers: noCallers, logger: silentLogger, owner: ownerMark() },
      }),
  });
  process.stdout.write(`${text}\n`, () => process.exit(0));
}

async function runHost(): Promise<void> {
  // Loaded here, because the probe, which a start waits for, needs none of it.
  const { serveHost } = await import('./host.ts');
  const { createStreamTransport } = await import('../protocol/transport.ts');
  const { createToMarkdown } = await import('./tools/html.ts');
  const { liveAsHost } = await import('./host-life.ts');
  const logger = createLogger('sandbox', 'info');
  const host = serveHost({
    transport: createStreamTransport(process.stdin, process.stdout),
    clock: realClock,
    logger,
    random: realRandom,
    pid: process.pid,
    toMarkdown: createToMarkdown(findHtmlProgram(process.argv[1] ?? ''), realClock),
    createBackend: (policy, scratchDir, callers) => {
      const own = { policy, scratchDir, callers, parkedCount: PARKED_COUNT, isSingle: false };
      return createBackend({ ...own, logger, owner: ownerMark() });
    },
  });
  await liveAsHost(host, { kind: 'sandbox', logger });
}

// What a tool creates has the modes its user expects, whatever the supervisor keeps for itself;
// and what is bound into a sandbox must be readable there. Our own files name their modes.
process.umask(0o022);
closeInherited();
if (process.argv.includes('--probe')) void runProbe();
else if (process.argv[2] === '--run') void runOrder();
else if (process.argv[2] === '--explain') void runExplanation();
else if (process.argv[2] === '--describe') void runDescription();
else void runHost();
