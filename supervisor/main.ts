/** The supervisor's process: reads its one argument (JSON, from the CLI), composes the rooms, says
 *  when it is ready, and ends at SIGTERM or SIGINT. Whatever happens here, what is in the journal
 *  stands: the next start goes on from there. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { type Api, createApi } from '../api/server.ts';
import { realClock } from '../base/clock.ts';
import { errorTable, PrxError, toPrxError } from '../base/errors.ts';
import { createLogger, type Logger } from '../base/logger.ts';
import { realMarks } from '../base/marked-processes.ts';
import { realProcesses } from '../base/process.ts';
import { realRandom } from '../base/random.ts';
import { openStore } from '../store/index.ts';
import { ensureToken } from './api-token.ts';
import { type Cgroups, openCgroups } from './children/cgroup.ts';
import { createMonitor } from './children/monitor.ts';
import { connectRealOrphan } from './children/orphans.ts';
import { scanRealTrees } from './children/tree.ts';
import { type Config, type LoadedConfig, loadConfig } from './config.ts';
import { realSpools } from './effects/spool.ts';
import { isJournalMode, runJournalMode } from './journal-mode.ts';
import { findPrograms, type Programs, toMonitorSpec } from './launch.ts';
import { notifyReady, startWatchdog } from './notify.ts';
import { runProbe } from './probe.ts';
import { startRetention } from './retention.ts';
import { createRuntime, type Runtime } from './runtime.ts';
import { createSupervisor } from './supervisor.ts';

const optionsSchema = z.strictObject({
  mode: z.enum(['start', 'config']).default('start'),
  show: z.boolean().optional(),
  config: z.string().optional(),
  stateDir: z.string().optional(),
  listen: z.string().optional(),
});
type Options = z.infer<typeof optionsSchema>;

const FORCED_EXIT = 1;

function readVersion(root: string): string {
  const text = readFileSync(join(root, 'package.json'), 'utf8');
  return z.object({ version: z.string() }).parse(JSON.parse(text)).version;
}

function printConfig(options: Options): number {
  try {
    const { config, values } = loadConfig(options, process.env);
    const answer = { ok: true, file: config.file, values: options.show ? values : [] };
    process.stdout.write(`${JSON.stringify(answer)}\n`);
    return 0;
  } catch (error) {
    const { code, message } = toPrxError(error);
    process.stdout.write(`${JSON.stringify({ ok: false, error: { code, message } })}\n`);
    return errorTable[code].exit;
  }
}

async function listen(api: Api, config: Config): Promise<string | undefined> {
  await api.listenSocket(config.socketPath);
  const address = config.raw.api.listen;
  if (address === undefined) return undefined;
  const at = address.lastIndexOf(':');
  const host = address.slice(0, at);
  const port = Number(address.slice(at + 1));
  const { url } = await api.listenTcp({ host, port, allowInsecure: config.raw.api.allow_insecure });
  return url;
}

function openRealCgroups(): Cgroups | undefined {
  const file = '/proc/self/cgroup';
  if (!existsSync(file)) return undefined;
  const ours = new Set([process.pid, ...realProcesses.listDescendants(process.pid)]);
  const own = readFileSync(file, 'utf8');
  return openCgroups({ root: '/sys/fs/cgroup', own, isOurs: (pid) => ours.has(pid) });
}

interface Running {
  readonly runtime: Runtime;
  readonly config: Config;
  readonly logger: Logger;
}

async function start(options: Options, loaded: LoadedConfig, programs: Programs): Promise<Running> {
  const { config, values } = loaded;
  const logger = createLogger('supervisor', config.raw.log.level);
  // It takes as long as all the rest together, so it starts first; it changes nothing.
  const probing = runProbe(programs, realProcesses, realClock, process.env);
  const version = readVersion(programs.root);
  // The store may speak before there is somebody who listens.
  let hearChange = (): void => undefined;
  const store = await openStore({
    stateDir: config.stateDir,
    clock: realClock,
    logger,
    onAnnounced: () => hearChange(),
    ...(programs.isSource ? {} : { threadFiles: programs.threads }),
  });
  const runtime: Runtime = createRuntime({
    clock: realClock,
    random: realRandom,
    logger,
    processes: realProcesses,
    readRss: createMonitor({
      ...{ clock: realClock, random: realRandom, logger, processes: realProcesses },
      spec: toMonitorSpec(programs),
    }),
    scanTrees: scanRealTrees,
    cgroups: openRealCgroups(),
    spools: realSpools,
    adoption: { marks: realMarks, connect: connectRealOrphan },
    store,
    config,
    values,
    loadConfig: () => loadConfig(options, process.env),
    env: process.env,
    programs,
    version,
    probe: () => probing,
    onReloaded: (next) => api.replaceTokens(ensureToken(next, realRandom).tokens),
    onStopped: () => void api.close().then(() => process.exit(0)),
  });
  const tokens = ensureToken(config, realRandom);
  const supervisor = createSupervisor(runtime);
  const api: Api = createApi({
    supervisor,
    logger,
    clock: realClock,
    random: realRandom,
    version,
    tokens: tokens.tokens,
  });
  hearChange = () => runtime.hearChange();
  startRetention({
    clock: realClock,
    logger,
    store,
    supervisor,
    settings: () => runtime.config().raw.store,
  });
  await runtime.start(async () => listen(api, config));
  const status = await runtime.status(false);
  const running: Running = { runtime, config, logger };
  // Before the ready line: whoever reads it may stop us at once.
  handleSignals(running);
  process.stdout.write(`${toReadyLine(status, tokens.file)}\n`);
  logger.debug('supervisor.ready', { uptime_ms: Math.round(realClock.nowMs()) });
  return running;
}

function toReadyLine(
  status: Awaited<ReturnType<Runtime['status']>>,
  tokenFile: string | undefined,
): string {
  const facts = [`socket ${status.socket}`];
  if (status.listen !== undefined) facts.push(`url ${status.listen}`);
  if (tokenFile !== undefined) facts.push(`token ${tokenFile}`);
  facts.push(
    `sandbox ${status.sandbox.level}`,
    `model ${status.model}, provider ${status.provider}`,
  );
  return `ready: ${facts.join(' · ')} · pid ${status.pid}`;
}

function handleSignals({ runtime, logger }: Running): void {
  let asked = false;
  const onSignal = (signal: NodeJS.Signals): void => {
    if (asked) {
      logger.warn('supervisor.forced', { signal });
      process.exit(FORCED_EXIT);
    }
    asked = true;
    void runtime.requestStop(0, signal);
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
  process.on('SIGHUP', () => {
    runtime.reload().catch((error: unknown) => {
      logger.error('config.kept', { error: toPrxError(error).message });
    });
  });
}

async function main(): Promise<void> {
  const argument: unknown = JSON.parse(process.argv[2] ?? '{}');
  if (isJournalMode(argument)) {
    process.exitCode = runJournalMode(argument, process.env, realClock);
    return;
  }
  const parsed = optionsSchema.safeParse(argument);
  if (!parsed.success) {
    throw new PrxError(
      'INVALID_REQUEST',
      `the supervisor takes one JSON argument: ${parsed.error.message}`,
    );
  }
  const options = parsed.data;
  if (options.mode === 'config') {
    process.exitCode = printConfig(options);
    return;
  }
  const programs = findPrograms(import.meta.filename, process.execPath);
  const running = await start(options, loadConfig(options, process.env), programs);
  await notifyManager(running);
}

/** A row that is not there is removed: the shortest way through the journal's writer that changes
 *  nothing. It is refused when the journal failed for good, which only a new start mends; a disk
 *  that is merely full passes. */
const NOBODY = { pid: 0, startTicks: 0 };

async function notifyManager({ runtime, logger }: Running): Promise<void> {
  const deps = { processes: realProcesses, clock: realClock, env: process.env, logger };
  await notifyReady(deps);
  startWatchdog({
    ...deps,
    pids: [process.pid, process.ppid],
    check: () => runtime.store.removeProcess(NOBODY),
  });
}

process.umask(0o077);
main().catch((error: unknown) => {
  const known = toPrxError(error);
  const { exit } = errorTable[known.code];
  const detail = known.code === 'INTERNAL' ? `\n${known.stack ?? ''}` : '';
  process.stderr.write(`prx-supervisor: ${known.message}${detail}\n`);
  process.exit(exit);
});
