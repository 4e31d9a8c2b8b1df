/** What runs: the composition of store, bus, children and sessions, with start, recovery, status,
 *  reload and stop. Its face for doors is supervisor.ts. */
import { join } from 'node:path';
import { background } from '../base/background.ts';
import type { Clock } from '../base/clock.ts';
import { PrxError, toPrxError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { ProcessPort } from '../base/process.ts';
import type { Random } from '../base/random.ts';
import type { EventEnvelope } from '../protocol/events.ts';
import type { SessionId } from '../protocol/ids.ts';
import type { DeepStatus, ProcessView, StatusView } from '../protocol/resources.ts';
import type { OfferedLevel } from '../protocol/sandbox-levels.ts';
import type { SweepView } from '../protocol/sweep.ts';
import type { SessionRecord, Store } from '../store/contract.ts';
import { announce } from './announce.ts';
import { findArtifact } from './artifacts.ts';
import type { Cgroups } from './children/cgroup.ts';
import type { ChildSpec } from './children/child.ts';
import { type AdoptionPorts, createCustody } from './children/custody.ts';
import { createGateway } from './children/gateway.ts';
import { createHost } from './children/hosts.ts';
import { type ReadRss, startMemoryWatch, toMemoryEnforcement } from './children/memory.ts';
import { readResidentBytes, type ScanTrees } from './children/tree.ts';
import { createWorkerPool, type WorkerPool } from './children/workers.ts';
import type { Config, ConfigValue, Environment } from './config.ts';
import { type CustomToolBook, createCustomTools } from './custom/tools.ts';
import type { SpoolFiles } from './effects/spool.ts';
import { followAll } from './follow-all.ts';
import { type Programs, toGatewaySpec, toHostSpec, toMcpHostSpec, toWorkerSpec } from './launch.ts';
import { createMcpPool, type McpPool } from './mcp/pool.ts';
import { createModelChoice } from './model-choice.ts';
import { createObservation } from './observation.ts';
import { createPolicyParts, type PolicyParts } from './policy-parts.ts';
import { toProcessViews } from './process-views.ts';
import { type ConfigChanges, compareValues, inOrder } from './reload.ts';
import { openSandboxParts } from './sandbox-parts.ts';
import { createSecrets } from './secrets/secrets.ts';
import type { OpenSessionLog } from './session-log.ts';
import { type Admission, createAdmission } from './sessions/admission.ts';
import { type Bus, createBus } from './sessions/bus.ts';
import { createDirectory, type Directory } from './sessions/directory.ts';
import type { SessionDeps } from './sessions/session-deps.ts';
import type { SessionFolders } from './sessions/session-folders.ts';
import {
  agentOf,
  createToolSpecs,
  type Probe,
  toBudget,
  toEffectLimitMs,
  toManifest,
  toRestartPolicy,
  toToolLimits,
} from './settings.ts';
import { toHealthReasons } from './views.ts';

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
  readonly probe: (levels: readonly OfferedLevel[]) => Promise<Probe>;
  readonly onReloaded: (config: Config) => void;
  readonly onStopped: () => void;
  readonly openSessionLog: OpenSessionLog;
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
  readonly folders: SessionFolders;
  readonly policy: PolicyParts;
  readonly mcp: Pick<McpPool, 'find' | 'names'>;
  readonly custom: Pick<CustomToolBook, 'find' | 'names'>;
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
  /** A text without any value of the vault. */
  redact(text: string): string;
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

export function createRuntime(options: RuntimeOptions): Runtime {
  const { clock, logger, store, programs, env, cgroups } = options;
  let { config, values } = options;
  let [stopping, listenUrl]: [Promise<void>?, string?] = [];
  const observation = createObservation({ ...options, config: () => config });
  const bus = createBus(config.raw.agent.stream_buffer_size, observation.observe);
  const sandbox = openSandboxParts({ ...options, config: () => config, onChanged: changeSandbox });
  const custody = createCustody(options, config.stateDir, (kind) => toEffectLimitMs(config, kind));
  const heartbeatMs = (): number => config.raw.agent.worker.heartbeat_interval_secs * 1000;
  const child = { ...custody.ports, clock, logger, random: options.random, heartbeatMs, cgroups };
  const secrets = createSecrets({ ...options, config: () => config });
  const spec = custody.toAdoptable(toGatewaySpec(programs, ...secrets.ofProvider()));
  const gateway = createGateway({ ...child, spec }, config.provider);
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
  const { mcp, custom } = openForeignTools();
  const directory: Directory = createDirectory({ store, bus, clock }, () => sessionDeps);
  const sessionDeps = createSessionDeps();

  function openForeignTools(): { readonly mcp: McpPool; readonly custom: CustomToolBook } {
    const mcp = createMcpPool({
      ...child,
      ...{ env, config: () => config, ...secrets.toMcpPorts((id) => directory.find(id)) },
      spec: custody.toAdoptable(toMcpHostSpec(programs, env)),
      artifactsDir: join(config.stateDir, 'artifacts'),
      level: () => sandbox.standing().level,
      startLevel: sandbox.startLevel,
      turnOf: (session) => directory.find(session)?.record().turn ?? 0,
      onChanged: (data) => tell(options, bus, { type: 'mcp.changed', data }),
    });
    const custom = createCustomTools({
      ...{ clock, logger, processes: custody.ports.processes, config: () => config },
      spec: toHostSpec(programs, env),
      standing: sandbox.standing,
      startLevel: sandbox.startLevel,
    });
    return { mcp, custom };
  }

  function createSessionDeps(): SessionDeps {
    const specs = createToolSpecs();
    return {
      store,
      bus,
      clock,
      openLog: options.openSessionLog,
      random: options.random,
      gateDeps: {
        stateDir: config.stateDir,
        clock,
        store,
        spools: options.spools,
        gateway,
        ...policy.settings,
        findSandbox: sandbox.find,
        toolLimits: () => toToolLimits(config),
      },
      residentDeps: {
        clock,
        random: options.random,
        workers,
        admission,
        heartbeatMs,
        settings: () => config,
        memory,
      },
      createHost: ({ session, record, ...own }) =>
        createHost({
          ...{ ...child, session, ...own },
          onLoss: () => background(custody.sweep(), 'registry.sweep', logger),
          ...secrets.toHostPorts(session, record),
          spec: custody.toAdoptable(toHostSpec(programs, env)),
          policy: () => custom.show(sandbox.policyOf(record()), record().agent),
          artifactDir: join(config.stateDir, 'artifacts', session),
        }),
      mcp: mcp.session,
      custom,
      hasOrphanWriter: custody.mayWrite,
      cancelOrphan: custody.cancel,
      agent: (name) => agentOf(config, name),
      model: (record) => models.choose(record),
      manifest: (record) =>
        custom.extend(mcp.extend(toManifest(config, specs, record, models.shown(record)))),
      restartPolicy: toRestartPolicy,
      budget: (limits) => toBudget(config, limits),
      redact: secrets.redact,
      maxQueuedInputs: () => config.raw.agent.limits.max_queued_inputs,
      notifyApproval: policy.notify,
      isContended: admission.isShort,
    };
  }

  /** Spares were started for the machine as it seemed. */
  function changeSandbox(from: Probe, { level: to }: Probe): void {
    workers.renew();
    tell(options, bus, {
      type: 'sandbox.changed',
      data: { from: from.level, to, reason: from.reason ?? '' },
    });
    background(readCustomTools(), 'custom_tools.read', logger);
  }

  async function readCustomTools(): Promise<void> {
    const asked = config;
    if (asked.raw.custom_tools.paths.length === 0) return;
    const reading = await custom.read(asked);
    if (config !== asked) return; // A reload was quicker.
    custom.use(reading);
    // Another object: workers and hosts that know the tools of before are replaced.
    config = { ...config };
  }

  function listProcesses(session: SessionId | undefined): readonly ProcessView[] {
    const { startedAt } = observation;
    const own = { startedAt, gateway, mcp, directory, memory, readResidentBytes };
    return toProcessViews({ ...own, ...custody.ports }, session);
  }

  async function status(deep: boolean): Promise<StatusView> {
    const sessions = await store.countSessions();
    const { degraded } = store.health();
    const reasons = toHealthReasons(store.health());
    const { held, waiting } = admission.counts();
    const isStopping = stopping !== undefined;
    return {
      status: isStopping ? 'stopping' : reasons.length === 0 ? 'ok' : 'degraded',
      reasons,
      takes_work: !isStopping && degraded === undefined,
      version: options.version,
      pid: process.pid,
      started_at: observation.startedAt,
      state_dir: config.stateDir,
      ...(config.file === undefined ? {} : { config_file: config.file }),
      socket: config.socketPath,
      ...(listenUrl === undefined ? {} : { listen: listenUrl }),
      epoch: store.epoch,
      model: models.shown(undefined),
      provider: `${config.provider.kind}: ${config.providerSource}`,
      sandbox: sandbox.view(),
      ...mcp.status(),
      ...custom.status(),
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

  async function describeDeep(): Promise<DeepStatus> {
    const { sessions, events, problems } = await store.verify();
    return {
      node: process.version,
      sqlite: process.versions['sqlite'] ?? 'unknown',
      processes: [...listProcesses(undefined)],
      journal: { sessions, events, problems: [...problems] },
    };
  }

  async function reload(): Promise<ConfigChanges> {
    const next = options.loadConfig();
    const found = compareValues({ started: options.values, before: values, next: next.values });
    const files = custom.use(await custom.read(next.config));
    const changes = { ...found, changed: [...found.changed, ...files] };
    const { stateDir, socketPath } = config;
    const memoryBefore = memoryLimit();
    config = { ...next.config, stateDir, socketPath };
    values = next.values;
    admission.setCapacity(config.raw.agent.limits.max_concurrent_sessions);
    // Spares have the memory limit on their command line.
    if (memoryLimit() !== memoryBefore) workers.renew();
    workers.resize(config.raw.agent.worker.warm_pool);
    mcp.reload();
    // Before anything that may fail: a token that was taken back must not wait for a gateway.
    options.onReloaded(config);
    logger.info('config.reloaded', { changed: changes.changed });
    await gateway.configure(config.provider);
    await models.discover();
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
    await observation.stop();
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
    redact: secrets.redact,
    ...{ policy, mcp, custom, folders: custody.folders },
    hearChange: () => bus.touch(),
    followAll: (cursor, signal) => followAll({ store, bus }, cursor, signal),
    listProcesses,
    findArtifact: (session, id) => findArtifact(config.stateDir, session, id),
    status,
    reload: inOrder(reload),
    requestStop(drainMs, by) {
      stopping ??= stop(drainMs, by);
      background(stopping, 'supervisor.stop', logger);
      return Promise.resolve();
    },
    sweep: custody.sweep,
    async metrics() {
      const live = { sessions: directory.all(), processes: listProcesses(undefined), memory };
      return observation.metrics({ status: await status(false), ...live });
    },
    async start(listen) {
      await custody.start();
      await policy.kept.load();
      const gatewayStarted = gateway.start().catch((error: unknown) => {
        logger.error('gateway.start_failed', { error: toPrxError(error) });
      });
      await Promise.all([sandbox.start(), gatewayStarted]);
      await Promise.all([models.discover(), readCustomTools()]);
      const { level } = sandbox.standing();
      const data = { pid: process.pid, version: options.version, epoch: store.epoch, level };
      await announce(options, { type: 'supervisor.started', data });
      const damaged = new Set<string>(store.health().damaged.map(({ session }) => session));
      for (const record of await store.listUnfinished()) {
        if (!damaged.has(record.id)) directory.openRecord(record);
      }
      listenUrl = await listen();
      workers.fillSoon();
    },
  };
}
