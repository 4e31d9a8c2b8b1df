/** What runs: the composition of store, bus, children and sessions, with start, recovery, status,
 *  reload and stop. Its face for doors is supervisor.ts. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { background } from '../base/background.ts';
import { type Clock, toTimestamp } from '../base/clock.ts';
import { PrxError, toPrxError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { ProcessPort } from '../base/process.ts';
import type { Random } from '../base/random.ts';
import type { EventEnvelope } from '../protocol/events.ts';
import type { SessionId } from '../protocol/ids.ts';
import type { ProcessView, StatusView } from '../protocol/resources.ts';
import type { SweepView } from '../protocol/sweep.ts';
import type { SessionProblem, SessionRecord, Store } from '../store/contract.ts';
import { announce } from './announce.ts';
import type { Cgroups } from './children/cgroup.ts';
import type { ChildSpec } from './children/child.ts';
import { type AdoptionPorts, createCustody } from './children/custody.ts';
import { createGateway, type Gateway } from './children/gateway.ts';
import { createHost } from './children/hosts.ts';
import { type ReadRss, startMemoryWatch, toMemoryEnforcement } from './children/memory.ts';
import type { ScanTrees } from './children/tree.ts';
import { createWorkerPool, type WorkerPool } from './children/workers.ts';
import type { Config, ConfigValue, Environment } from './config.ts';
import type { SpoolFiles } from './effects/spool.ts';
import { followAll } from './follow-all.ts';
import { type Programs, toGatewaySpec, toHostSpec, toMcpHostSpec, toWorkerSpec } from './launch.ts';
import { createMcpPool, type McpPool } from './mcp/pool.ts';
import { createMeasures } from './measures.ts';
import { toMetrics, toWorkerMemory } from './metrics.ts';
import { createModelChoice } from './model-choice.ts';
import { createPolicyParts, type PolicyParts } from './policy-parts.ts';
import { createSandboxProbe } from './probe.ts';
import { type ConfigChanges, compareValues } from './reload.ts';
import { createSecrets } from './secrets/secrets.ts';
import { type Admission, createAdmission } from './sessions/admission.ts';
import { type Bus, createBus } from './sessions/bus.ts';
import { createDirectory, type Directory } from './sessions/directory.ts';
import type { SessionDeps } from './sessions/session-deps.ts';
import {
  agentOf,
  createToolSpecs,
  isSandboxed,
  type Probe,
  toBudget,
  toEffectLimitMs,
  toManifest,
  toRestartPolicy,
  toSandboxPolicy,
  toStanding,
  toToolLimits,
} from './settings.ts';

export interface RuntimeOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly processes: ProcessPort;
  readonly readRss: ReadRss;
  readonly scanTrees?: ScanTrees;
  readonly cgroups?: Cgroups | undefined;
  readonly spools: SpoolFiles;
  readonly adoption?: AdoptionPorts;
  readonly store: Store;
  readonly config: Config;
  readonly values: readonly ConfigValue[];
  readonly loadConfig: () => { config: Config; values: readonly ConfigValue[] };
  readonly env: Environment;
  readonly programs: Programs;
  readonly version: string;
  readonly probe: () => Promise<Probe>;
  readonly onReloaded: (config: Config) => void;
  readonly onStopped: () => void;
}

export interface Runtime {
  readonly store: Store;
  readonly bus: Bus;
  readonly directory: Directory;
  readonly random: Random;
  config(): Config;
  /** @throws SHUTTING_DOWN. */
  assertOpen(): void;
  shownModel(record: SessionRecord): string;
  /** Something was appended outside a session's own journal. */
  hearChange(): void;
  readonly policy: PolicyParts;
  readonly mcp: Pick<McpPool, 'find' | 'names'>;
  followAll(
    cursor: string | undefined,
    signal: AbortSignal,
  ): AsyncIterable<{ event: EventEnvelope; cursor: string }>;
  listProcesses(session: SessionId | undefined): readonly ProcessView[];
  findArtifact(session: SessionId, artifactId: string): string;
  status(deep: boolean): Promise<StatusView>;
  reload(): Promise<{ changed: readonly string[]; needs_restart: readonly string[] }>;
  requestStop(drainMs: number, by: string): Promise<void>;
  metrics(): Promise<string>;
  sweep(): Promise<SweepView>;
  /** Starts children, resumes what an earlier supervisor left, opens the doors; resolves when
   *  ready. */
  start(listen: () => Promise<string | undefined>): Promise<void>;
}

const STOP_CHILD_MS = 300;

function tell(options: RuntimeOptions, bus: Bus, event: Parameters<typeof announce>[1]): void {
  const told = announce(options, event).then(() => bus.touch());
  background(told, event.type, options.logger);
}

function toDamageReason({ session, seq, problem }: SessionProblem): string {
  return `session ${session} is damaged at event ${seq} and takes no input: ${problem}`;
}

export function createRuntime(options: RuntimeOptions): Runtime {
  const { clock, logger, store, programs, env, cgroups } = options;
  let { config, values } = options;
  let [stopping, listenUrl]: [Promise<void>?, string?] = [];
  const startedAt = toTimestamp(clock.wallMs());
  const measures = createMeasures(clock);
  const bus = createBus(config.raw.agent.stream_buffer_size, measures.observe);
  const sandbox = createSandboxProbe({ ...options, ask: options.probe, onChanged: changeSandbox });
  const specs = createToolSpecs();
  const custody = createCustody(options, config.stateDir, (kind) => toEffectLimitMs(config, kind));
  const heartbeatMs = (): number => config.raw.agent.worker.heartbeat_interval_secs * 1000;
  const child = { ...custody.ports, clock, logger, random: options.random, heartbeatMs, cgroups };
  const secrets = createSecrets({ ...options, config: () => config });
  const spec = custody.toAdoptable(toGatewaySpec(programs, ...secrets.ofProvider()));
  const gateway: Gateway = createGateway({ ...child, spec }, config.provider);
  const models = createModelChoice(gateway, () => config);
  const memoryLimit = (): number => config.raw.agent.limits.max_memory_mb * 2 ** 20;
  const workerSpec = (): ChildSpec => toWorkerSpec(programs, memoryLimit(), sandbox.known().worker);
  const spares = { ...child, memoryLimitBytes: memoryLimit, spec: workerSpec };
  const workers: WorkerPool = createWorkerPool(spares, config.raw.agent.worker.warm_pool);
  const memory = startMemoryWatch({
    ...{ ...options, workers: workers.live, limitBytes: memoryLimit },
    residents: () => directory.all().map((each) => each.resident),
  });
  const slots = config.raw.agent.limits.max_concurrent_sessions;
  const admission: Admission = createAdmission(slots, () => directory.reclaimIdle());
  const policy = createPolicyParts(options, () => ({ config, probe: sandbox.known() }));
  const mcp = openServers();
  const directory: Directory = createDirectory({ store, bus, clock }, () => sessionDeps);
  const sessionDeps = createSessionDeps();

  function openServers(): McpPool {
    return createMcpPool({
      ...child,
      ...{ env, config: () => config, fingerprints: secrets.fingerprints },
      spec: custody.toAdoptable(toMcpHostSpec(programs, env)),
      artifactsDir: join(config.stateDir, 'artifacts'),
      level: () => toStanding(config, sandbox.known()).level,
      onChanged: (data) => tell(options, bus, { type: 'mcp.changed', data }),
    });
  }

  function createSessionDeps(): SessionDeps {
    return {
      store,
      bus,
      clock,
      logger,
      random: options.random,
      gateDeps: {
        stateDir: config.stateDir,
        clock,
        logger,
        store,
        spools: options.spools,
        gateway,
        ...policy.settings,
        findSandbox: (signal) => (isSandboxed(config) ? sandbox.again(signal) : Promise.resolve()),
        parallelToolCalls: () => config.raw.agent.loop.parallel_tool_calls,
        toolLimits: () => toToolLimits(config),
      },
      residentDeps: {
        clock,
        logger,
        random: options.random,
        workers,
        admission,
        heartbeatMs,
        settings: () => config,
        memory,
      },
      createHost: (session, record, ports) =>
        createHost({
          ...{ ...child, session, ...ports },
          onUnconfinedLoss: () => background(custody.sweep(), 'registry.sweep', logger),
          ...secrets.toHostPorts(session, record),
          spec: custody.toAdoptable(toHostSpec(programs, env)),
          policy: () => toSandboxPolicy(config, record(), { installation: programs.root, env }),
          artifactDir: join(config.stateDir, 'artifacts', session),
        }),
      mcp: mcp.session,
      hasOrphanWriter: custody.mayWrite,
      cancelOrphan: custody.cancel,
      agent: (name) => agentOf(config, name),
      model: (record) => models.choose(record),
      manifest: (record) => mcp.extend(toManifest(config, specs, record, models.shown(record))),
      restartPolicy: (agent) => toRestartPolicy(config, agent),
      budget: (limits) => toBudget(config, limits),
      redact: secrets.redact,
      maxQueuedInputs: () => config.raw.agent.limits.max_queued_inputs,
      progressTimeoutMs: () => config.raw.agent.worker.progress_timeout_secs * 1000,
      idleHibernateMs: () => config.raw.agent.worker.idle_hibernate_secs * 1000,
      notifyApproval: policy.notify,
      isContended: () => admission.counts().waiting > 0,
    };
  }

  /** Spares were started for the machine as it seemed. */
  function changeSandbox(from: Probe, { level: to }: Probe): void {
    workers.resize(0);
    workers.resize(config.raw.agent.worker.warm_pool);
    tell(options, bus, {
      type: 'sandbox.changed',
      data: { from: from.level, to, reason: from.reason ?? '' },
    });
  }

  function listProcesses(session: SessionId | undefined): readonly ProcessView[] {
    const views: ProcessView[] = [];
    if (session === undefined) {
      views.push({ kind: 'supervisor', pid: process.pid, started_at: startedAt });
      const own = gateway.child();
      if (own !== undefined) views.push({ kind: 'gateway', pid: own.pid, started_at: startedAt });
    }
    for (const pid of mcp.processes(session))
      views.push({ kind: 'mcp', pid, started_at: startedAt });
    for (const each of directory.all()) {
      if (session !== undefined && each.id !== session) continue;
      const worker = each.resident.worker();
      const { generation } = each.record();
      if (worker !== undefined) {
        const started_at = toTimestamp(worker.startedAtMs);
        const rss = memory.recordOf(worker.pid)?.peakBytes;
        const rssField = rss === undefined ? {} : { rss_bytes: rss };
        views.push({ kind: 'worker', pid: worker.pid, started_at, generation, ...rssField });
      }
      const host = each.host.child();
      if (host !== undefined) views.push({ kind: 'sandbox', pid: host.pid, started_at: startedAt });
    }
    return views;
  }

  async function status(deep: boolean): Promise<StatusView> {
    const sessions = await store.countSessions();
    const { degraded, damaged } = store.health();
    const reasons = [...(degraded === undefined ? [] : [degraded]), ...damaged.map(toDamageReason)];
    const { reason, mend } = sandbox.known();
    const { level } = toStanding(config, sandbox.known());
    const { held, waiting } = admission.counts();
    const isStopping = stopping !== undefined;
    return {
      status: isStopping ? 'stopping' : reasons.length === 0 ? 'ok' : 'degraded',
      reasons,
      takes_work: !isStopping && degraded === undefined,
      version: options.version,
      pid: process.pid,
      started_at: startedAt,
      state_dir: config.stateDir,
      ...(config.file === undefined ? {} : { config_file: config.file }),
      socket: config.socketPath,
      ...(listenUrl === undefined ? {} : { listen: listenUrl }),
      epoch: store.epoch,
      model: models.shown(undefined),
      provider: `${config.provider.kind}: ${config.providerSource}`,
      sandbox: {
        level,
        ...(reason === undefined ? {} : { reason }),
        ...(mend === undefined ? {} : { mend }),
      },
      ...mcp.status(),
      worker_confinement: [...workers.confinement()],
      memory_enforcement: toMemoryEnforcement(options),
      capacity: {
        max_concurrent_sessions: config.raw.agent.limits.max_concurrent_sessions,
        resident: held,
        queued: waiting,
        warm: workers.warm(),
      },
      sessions,
      ...(deep ? { deep: await describeDeep() } : {}),
    };
  }

  async function describeDeep(): Promise<Record<string, unknown>> {
    const { sessions, events, problems } = await store.verify();
    return {
      node: process.version,
      sqlite: process.versions['sqlite'],
      processes: listProcesses(undefined),
      journal: { sessions, events, problems },
    };
  }

  async function reload(): Promise<ConfigChanges> {
    const next = options.loadConfig();
    const changes = compareValues({ started: options.values, before: values, next: next.values });
    const { stateDir, socketPath } = config;
    const memoryBefore = memoryLimit();
    config = { ...next.config, stateDir, socketPath };
    values = next.values;
    admission.setCapacity(config.raw.agent.limits.max_concurrent_sessions);
    // Spares have the memory limit on their command line.
    if (memoryLimit() !== memoryBefore) workers.resize(0);
    workers.resize(config.raw.agent.worker.warm_pool);
    mcp.reload();
    await gateway.configure(config.provider);
    await models.discover();
    options.onReloaded(config);
    logger.info('config.reloaded', { changed: changes.changed });
    return changes;
  }

  async function stop(drainMs: number, by: string): Promise<void> {
    logger.info('supervisor.stopping', { by, drain_ms: drainMs });
    const deadlineMs = clock.nowMs() + drainMs;
    const isBusy = (): boolean =>
      directory.all().some((session) => session.record().open_turn !== undefined);
    while (isBusy() && clock.nowMs() < deadlineMs) await clock.sleep(50);
    memory.stop();
    custody.stop();
    const halted = directory.halt();
    workers.stop();
    for (const session of directory.all()) session.host.release();
    mcp.release();
    await Promise.all([halted, gateway.release(STOP_CHILD_MS)]);
    try {
      const data = { pid: process.pid, reason: by };
      await announce(options, { type: 'supervisor.stopped', data });
      await store.close();
    } finally {
      // A journal that cannot be written does not keep us alive.
      options.onStopped();
    }
  }

  return {
    store,
    bus,
    directory,
    random: options.random,
    config: () => config,
    assertOpen() {
      if (stopping !== undefined) throw new PrxError('SHUTTING_DOWN', 'the supervisor is stopping');
      const { degraded } = store.health();
      if (degraded === undefined) return;
      throw new PrxError('STORE_DEGRADED', `nothing new is accepted: ${degraded}`);
    },
    shownModel: (record) => models.shown(record),
    ...{ policy, mcp },
    hearChange: () => bus.touch(),
    followAll: (cursor, signal) => followAll({ store, bus }, cursor, signal),
    listProcesses,
    findArtifact(session, artifactId) {
      const path = join(config.stateDir, 'artifacts', session, artifactId);
      const isName = /^[A-Za-z0-9._-]{1,128}$/.test(artifactId) && !artifactId.startsWith('.');
      if (!isName || !existsSync(path)) {
        throw new PrxError('NOT_FOUND', `session ${session} has no artifact '${artifactId}'`);
      }
      return path;
    },
    status,
    reload,
    requestStop(drainMs, by) {
      stopping ??= stop(drainMs, by);
      background(stopping, 'supervisor.stop', logger);
      return Promise.resolve();
    },
    sweep: custody.sweep,
    metrics: async () => {
      const rssBytes = process.memoryUsage.rss();
      const workers = toWorkerMemory(directory.all(), memory);
      const live = { rssBytes, workers, measured: measures.read() };
      return toMetrics(await status(false), await store.listSessions(), live);
    },
    async start(listen) {
      await custody.start();
      await policy.kept.load();
      const gatewayStarted = gateway.start().catch((error: unknown) => {
        logger.error('gateway.start_failed', { error: toPrxError(error) });
      });
      const [{ level }] = await Promise.all([sandbox.start(), gatewayStarted]);
      await models.discover();
      const data = { pid: process.pid, version: options.version, epoch: store.epoch, level };
      await announce(options, { type: 'supervisor.started', data });
      const damaged = new Set<string>(store.health().damaged.map(({ session }) => session));
      for (const record of await store.listUnfinished()) {
        if (!damaged.has(record.id)) directory.openRecord(record);
      }
      listenUrl = await listen();
      workers.fill();
    },
  };
}
