/** The supervisor's process: reads its one argument (JSON, from the CLI), composes the rooms, says
 *  when it is ready, and ends at SIGTERM or SIGINT. Whatever happens here, what is in the journal
 *  stands: the next start goes on from there. */

import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { getHeapStatistics } from 'node:v8';
import { z } from 'zod';
import { type Api, createApi } from '../api/server.ts';
import { background } from '../base/background.ts';
import { realClock } from '../base/clock.ts';
import { collectGarbage } from '../base/collect.ts';
import { closeInherited } from '../base/descriptors.ts';
import { errorTable, PrxError, toPrxError } from '../base/errors.ts';
import { createLogger, type Logger } from '../base/logger.ts';
import { realMarks } from '../base/marked-processes.ts';
import { type ProcessPort, realProcesses } from '../base/process.ts';
import { realRandom } from '../base/random.ts';
import { type OfferedLevel, toAskedLevels } from '../protocol/sandbox-levels.ts';
import type { Store } from '../store/contract.ts';
import { openStore } from '../store/index.ts';
import { announce } from './announce.ts';
import { ensureToken } from './api-token.ts';
import { type Cgroups, openCgroups } from './children/cgroup.ts';
import { createMonitor } from './children/monitor.ts';
import { connectRealOrphan } from './children/orphans.ts';
import { toMarkingPort, toOwner } from './children/registry.ts';
import { scanRealTrees } from './children/tree.ts';
import {
  type Config,
  type ConfigValue,
  type Environment,
  type LoadedConfig,
  loadConfig,
} from './config.ts';
import { realSpools } from './effects/spool.ts';
import { type Heap, startIdleCollection } from './idle-collection.ts';
import type { Supervisor, TokenBook } from './index.ts';
import { isJournalMode, runJournalMode } from './journal-mode.ts';
import { findPrograms, type Programs, toMonitorSpec } from './launch.ts';
import { notifyReady, startWatchdog } from './notify.ts';
import { runProbe } from './probe.ts';
import { toReadyFacts } from './ready-line.ts';
import { startRetention } from './retention.ts';
import { createRuntime, type Runtime } from './runtime.ts';
import { createLogRedactor } from './secrets/log-redactor.ts';
import { isSecretMode, runSecretMode } from './secrets/secret-mode.ts';
import { createSessionLogs } from './session-log.ts';
import type { Probe } from './settings.ts';
import { createSupervisor } from './supervisor.ts';
import { openTokenBook } from './token-book.ts';

const optionsSchema = z.strictObject({
  mode: z.enum(['start', 'config']).default('start'),
  show: z.boolean().optional(),
  config: z.string().optional(),
  stateDir: z.string().optional(),
  listen: z.string().optional(),
});
type Options = z.infer<typeof optionsSchema>;

const FORCED_EXIT = 1;
const PRICE_MEND = 'without provider.prices every model costs 0; set them, or budget.max_tokens';
/** A machine's first process inherits what others leave and has to reap it: no runtime does. */
const INIT_MEND =
  'as the first process of a container, ended processes stay in its process table; start it below an init (docker run --init, or tini)';

function readVersion(root: string): string {
  const text = readFileSync(join(root, 'package.json'), 'utf8');
  return z.object({ version: z.string() }).parse(JSON.parse(text)).version;
}

function printConfig(options: Options): number {
  try {
    const { config, values } = loadConfig(options, process.env);
    const shown = options.show ? values.map(toShown) : [];
    const answer = { ok: true, file: config.file, values: shown };
    process.stdout.write(`${JSON.stringify(answer)}\n`);
    return 0;
  } catch (error) {
    const { code, message } = toPrxError(error);
    process.stdout.write(`${JSON.stringify({ ok: false, error: { code, message } })}\n`);
    return errorTable[code].exit;
  }
}

/** What a server is given may be a key. */
function toShown(each: ConfigValue): ConfigValue {
  return /^mcp\.servers\..+\.env\./.test(each.key) ? { ...each, value: '(set)' } : each;
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

/** A proxy in front of us keeps the name under which it is asked, also without a webhook. */
function toLinkNames({ webhook, raw }: Config): { hosts?: string[]; origins?: string[] } {
  const url = webhook?.linkUrl ?? raw.security.approval.link_url;
  if (url === undefined) return {};
  const { hostname, origin } = new URL(url);
  return { hosts: [hostname], origins: [origin] };
}

function openRealCgroups(): Cgroups | undefined {
  const file = '/proc/self/cgroup';
  if (!existsSync(file)) return undefined;
  const own = readFileSync(file, 'utf8');
  return openCgroups({
    root: '/sys/fs/cgroup',
    own,
    isOurs: (pid) =>
      pid === process.pid ||
      realMarks.listAncestors(pid).includes(process.pid) ||
      realProcesses.findIdentity(pid) === undefined,
    kill(pid) {
      const identity = realProcesses.findIdentity(pid);
      if (identity !== undefined) realMarks.kill(identity);
    },
  });
}

interface DoorParts {
  readonly runtime: Runtime;
  readonly supervisor: Supervisor;
  readonly tokens: TokenBook;
  readonly logger: Logger;
  readonly version: string;
}

function createDoors({ runtime, ...parts }: DoorParts): Api {
  return createApi({
    ...parts,
    ...toLinkNames(runtime.config()),
    clock: realClock,
    random: realRandom,
    auditFile: join(runtime.config().stateDir, 'audit.log'),
    pageDir: join(dirname(process.argv[1] ?? ''), 'dashboard'),
    requestsPerSec: () => runtime.config().raw.api.requests_per_sec,
  });
}

function openLogger({ raw }: Config, redact: (line: string) => string): Logger {
  const { level, format } = raw.log;
  const logger = createLogger('supervisor', level, { format, redact });
  if (process.pid === 1) logger.warn('supervisor.first_process', { mend: INIT_MEND });
  const { max_cost_usd: max } = raw.budget;
  if (max > 0 && Object.keys(raw.provider.prices).length === 0) {
    logger.warn('budget.unpriced', { max_cost_usd: max, mend: PRICE_MEND });
  }
  return logger;
}

interface Running {
  readonly runtime: Runtime;
  readonly processes: ProcessPort;
  readonly config: Config;
  readonly logger: Logger;
}

async function start(options: Options, loaded: LoadedConfig, programs: Programs): Promise<Running> {
  const { config, values } = loaded;
  const { env, keys } = takeEnvironment(config);
  const redactor = createLogRedactor(keys);
  const logger = openLogger(config, redactor.redact);
  const version = readVersion(programs.root);
  // The store may speak before there is somebody who listens.
  let hearChange = (): void => undefined;
  const opening = openStore({
    stateDir: config.stateDir,
    clock: realClock,
    logger,
    onAnnounced: () => hearChange(),
    onFatal: (reason) => failStop(reason, logger),
    ...(programs.isSource ? {} : { threadFiles: programs.threads }),
  });
  const processes = toMarked(config.stateDir);
  const ask = (levels: readonly OfferedLevel[]) =>
    runProbe({ programs, processes, clock: realClock, env, levels });
  // It takes as long as all the rest together, so it starts now; it changes nothing.
  let first: Promise<Probe> | undefined = ask(toAskedLevels(config.raw.security.sandbox.backend));
  const store = await opening;
  const runtime: Runtime = createRuntime({
    clock: realClock,
    random: realRandom,
    logger,
    processes: realProcesses,
    readRss: createMonitor({
      ...{ clock: realClock, random: realRandom, logger, processes },
      spec: toMonitorSpec(programs),
    }),
    scanTrees: scanRealTrees,
    cgroups: openRealCgroups(),
    spools: realSpools,
    // Hosts are started without a TMPDIR.
    adoption: { marks: realMarks, connect: connectRealOrphan, temporaryDir: '/tmp' },
    ...{ store, config, values },
    loadConfig: () => loadConfig(options, env),
    env,
    programs,
    version,
    probe(levels) {
      const answer = first ?? ask(levels);
      first = undefined;
      return answer;
    },
    onReloaded: (next) => tokens.configure(ensureToken(next, realRandom).tokens),
    onStopped: () => void api.close().then(() => process.exit(0)),
    openSessionLog: createSessionLogs({
      ...{ stateDir: config.stateDir, clock: realClock, logger, redact: redactor.redact },
    }),
  });
  redactor.setVault(runtime.redact);
  const supervisor = createSupervisor(runtime);
  const own = ensureToken(config, realRandom);
  const tokens = await openTokenBook({
    ...{ clock: realClock, random: realRandom, logger },
    file: join(config.stateDir, 'api-tokens.json'),
    configured: own.tokens,
    announce: (event) => announce({ store, logger }, event).then(() => runtime.hearChange()),
  });
  const api = createDoors({ runtime, supervisor, tokens, logger, version });
  hearChange = () => runtime.hearChange();
  const settings = (): Config['raw']['store'] => runtime.config().raw.store;
  startRetention({ clock: realClock, logger, store, supervisor, settings });
  startIdleCollection(realClock, createRealHeap(store, logger));
  await runtime.start(async () => listen(api, config));
  const status = await runtime.status(false);
  const running: Running = { runtime, processes, config, logger };
  // Before the ready line: whoever reads it may stop us at once.
  handleSignals(running);
  process.stdout.write(`ready: ${toReadyFacts(status, own.file)}\n`);
  logger.debug('supervisor.ready', { uptime_ms: Math.round(realClock.nowMs()) });
  return running;
}

/** The environment as we were started with it, for who must hand the key to a gateway, and to each
 *  one after it, or open the vault. From here on `process.env` has no key: neither a library nor a
 *  diagnostic report shows it. The kernel goes on showing the block that a process was started with
 *  to its own user (/proc/PID/environ); no runtime can take that back. */
function takeEnvironment({ provider, raw }: Config): Record<'env' | 'keys', Environment> {
  const env = { ...process.env };
  const names = [provider.apiKeyEnv, raw.telemetry.headers_env, raw.secrets.key_env ?? ''];
  for (const name of names) Reflect.deleteProperty(process.env, name);
  const { webhook_secret_env: webhookSecret } = raw.security.approval;
  const keys = [...names, webhookSecret].map((name) => [name, env[name]] as const);
  return { env, keys: Object.fromEntries(keys) };
}

/** Whatever we start can be found by a sweep, also the few that the registry does not list. */
function toMarked(stateDir: string): ProcessPort {
  try {
    return toMarkingPort(realProcesses, toOwner(stateDir));
  } catch {
    // There is no such folder: the journal, which makes it, says why.
    return realProcesses;
  }
}

/** What reached the disk is unknown, so nothing is acknowledged, journaled or decided any more.
 *  Our end is that of any other death: workers go with their pipes, effects under way are finished
 *  by their own processes, and the next start (by systemd, or a person) reads what is there. */
function failStop(reason: string, logger: Logger): never {
  logger.error('supervisor.fail_stop', { reason });
  process.stderr.write(`prx-supervisor: ended at once: ${reason}\n`);
  process.exit(errorTable.STORE_DEGRADED.exit);
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
  if (isSecretMode(argument)) {
    const deps = { env: process.env, clock: realClock, random: realRandom };
    const { answer, exit } = runSecretMode(argument, deps);
    process.stdout.write(`${answer}\n`);
    process.exitCode = exit;
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
  const config = loadConfig(options, process.env);
  closeInherited();
  const running = await start(options, config, programs);
  await notifyManager(running);
}

/** A row that is not there is removed: the shortest way through the journal's writer that changes
 *  nothing. It is refused when the journal failed for good, which only a new start mends; a disk
 *  that is merely full passes. */
const NOBODY = { pid: 0, startTicks: 0 };

async function notifyManager({ runtime, processes, logger }: Running): Promise<void> {
  const deps = { processes, clock: realClock, env: process.env, logger };
  await notifyReady(deps);
  startWatchdog({
    ...deps,
    pids: [process.pid, process.ppid],
    check: () => runtime.store.removeProcess(NOBODY),
  });
}

function createRealHeap(store: Store, logger: Logger): Heap {
  let before = performance.eventLoopUtilization();
  return {
    usedBytes: () => getHeapStatistics().used_heap_size,
    busyShare() {
      const now = performance.eventLoopUtilization();
      const { utilization } = performance.eventLoopUtilization(now, before);
      before = now;
      return utilization;
    },
    collect() {
      background(store.shrink(), 'store.shrink', logger);
      collectGarbage();
    },
  };
}

process.umask(0o077);
main().catch((error: unknown) => {
  const known = toPrxError(error);
  const { exit } = errorTable[known.code];
  const detail = known.code === 'INTERNAL' ? `\n${known.stack ?? ''}` : '';
  process.stderr.write(`prx-supervisor: ${known.message} (${known.code})${detail}\n`);
  process.exit(exit);
});
