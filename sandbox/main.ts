/** The sandbox host's process: one per session that uses tools. Standard input and output are the
 *  protocol; logs go to standard error. `--probe` prints what this machine can give and ends. */
import { realClock } from '../base/clock.ts';
import { createLogger, type Logger, silentLogger } from '../base/logger.ts';
import { listenOwnerSocket } from '../base/owner-socket.ts';
import { findIdentity, OWNER_MARK } from '../base/process.ts';
import { realRandom } from '../base/random.ts';
import { findRunDir } from '../protocol/orphan-methods.ts';
import type { SandboxPolicy } from '../protocol/sandbox-methods.ts';
import type { Backend } from './launch/backend.ts';
import { createBubblewrapBackend } from './launch/bubblewrap.ts';
import { createNoneBackend } from './launch/none.ts';
import { PARKED_COUNT } from './launch/one-shot.ts';
import { probe, probePolicy } from './launch/probe.ts';
import { findRuntimeFiles } from './launch/runtime-files.ts';
import { findProgram, surveySystem } from './launch/survey.ts';
import { toWorkerLaunch, type WorkerLaunch } from './launch/worker-launch.ts';

interface BackendOptions {
  readonly policy: SandboxPolicy;
  readonly scratchDir: string;
  readonly parkedCount: number;
  readonly logger: Logger;
}

async function createBackend(options: BackendOptions): Promise<Backend> {
  const { policy, scratchDir, parkedCount, logger } = options;
  const files = findRuntimeFiles({
    mainPath: process.argv[1] ?? '',
    nodePath: process.execPath,
  });
  if (policy.backend === 'none') {
    const marked = markCommands(policy);
    return await createNoneBackend({ policy: marked, files, scratchDir, random: realRandom });
  }
  const ports = { clock: realClock, random: realRandom, logger };
  return await createBubblewrapBackend({ ...ports, policy, files, parkedCount });
}

/** At level none nothing dies with us by itself: each command carries whose it is, and of which
 *  host, so that the next start finds those of a host that was killed. */
function markCommands(policy: SandboxPolicy): SandboxPolicy {
  const owner = process.env[OWNER_MARK];
  const own = findIdentity(process.pid);
  if (owner === undefined || own === undefined) return policy;
  const env = { ...policy.env, [OWNER_MARK]: `${owner}.${own.pid}.${own.startTicks}` };
  return { ...policy, envAllowlist: [...policy.envAllowlist, OWNER_MARK], env };
}

async function runProbe(): Promise<void> {
  const options = { policy: probePolicy, scratchDir: '', parkedCount: 0, logger: silentLogger };
  const result = await probe(() => createBackend(options), process.getuid?.() ?? 0);
  const worker = result.level === 'bubblewrap' ? findWorkerLaunch() : undefined;
  const answer = worker === undefined ? result : { ...result, worker };
  process.stdout.write(`${JSON.stringify(answer)}\n`, () => process.exit(0));
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

async function runHost(): Promise<void> {
  // Loaded here, because the probe, which a start waits for, needs none of it.
  const { serveHost } = await import('./host.ts');
  const { createStreamTransport } = await import('../protocol/transport.ts');
  const { openOrphanDoor } = await import('../protocol/orphan-door.ts');
  const logger = createLogger('sandbox', 'info');
  const host = serveHost({
    transport: createStreamTransport(process.stdin, process.stdout),
    clock: realClock,
    logger,
    pid: process.pid,
    createBackend: (policy, scratchDir) =>
      createBackend({ policy, scratchDir, parkedCount: PARKED_COUNT, logger }),
  });
  const runDir = findRunDir(process.argv);
  const door =
    runDir === undefined
      ? undefined
      : openOrphanDoor({
          ...{ runDir, kind: 'sandbox', pid: process.pid, face: host.face },
          ...{ clock: realClock, logger, listen: listenOwnerSocket },
        });
  process.on('SIGTERM', () => host.stop());
  // The terminal's interrupt is the supervisor's business; it tells us what it decided.
  process.on('SIGINT', () => undefined);
  await host.ended;
  door?.close();
  process.exit(0);
}

// What a tool creates has the modes its user expects, whatever the supervisor keeps for itself;
// and what is bound into a sandbox must be readable there. Our own files name their modes.
process.umask(0o022);
if (process.argv.includes('--probe')) void runProbe();
else void runHost();
