/** From the compiled configuration to what each room is told. Pure. */
import { homeOf } from '../base/home.ts';
import { toPolicyDigest } from '../protocol/policy-digest.ts';
import type { StatusView } from '../protocol/resources.ts';
import {
  hasOwnRoot,
  isOfferedLevel,
  type SandboxLevel,
  toAcceptedLevels,
} from '../protocol/sandbox-levels.ts';
import type { SandboxPolicy } from '../protocol/sandbox-methods.ts';
import { type ToolSpec, toolTable, toToolSpec } from '../protocol/tools.ts';
import type { AgentManifest } from '../protocol/worker-methods.ts';
import type { ProcessRecord, SessionRecord } from '../store/contract.ts';
import type { RestartPolicy } from './children/restart.ts';
import { type AgentConfig, type Config, DEFAULT_AGENT, type Environment } from './config.ts';
import type { BudgetLimits } from './effects/budget.ts';
import type { SandboxStanding } from './effects/ports.ts';
import { workspaceOf } from './sessions/workspace.ts';

export interface Probe {
  readonly level: string;
  readonly reason?: string | undefined;
  readonly mend?: string | undefined;
  /** The launcher for workers this machine has; absent: they have the permission model only. */
  readonly worker?: WorkerLauncher | undefined;
}

export interface WorkerLauncher {
  /** What stands before the runtime's own command line. */
  readonly prefix: readonly string[];
  readonly confinement: readonly string[];
}

/** The agent of a session; when the config no longer names it, the default one. */
export function agentOf(config: Config, name: string): AgentConfig {
  const agent = config.agents.get(name) ?? config.agents.get(DEFAULT_AGENT);
  if (agent === undefined) throw new RangeError('the default agent always exists');
  return agent;
}

export function toManifest(
  config: Config,
  specs: ToolSpecs,
  record: SessionRecord,
  model: string,
): AgentManifest {
  const agent = agentOf(config, record.agent);
  const own = record.limits;
  return {
    agent: agent.name,
    model,
    instructions: agent.instructions,
    workspace: workspaceOf(config.stateDir, record),
    maxTurns: own['max_turns'] ?? agent.maxTurns,
    maxToolCallsPerTurn: own['max_tool_calls_per_turn'] ?? agent.maxToolCallsPerTurn,
    parallelToolCalls: agent.parallelToolCalls,
    compactionThresholdTokens: agent.compactionThresholdTokens,
    compactionStrategy: agent.compactionStrategy,
    tools: toOffered(config, agent).map((name) => toSpec(specs, name)),
  };
}

/** Without a network, fetch would only be a word that costs tokens; so would processes that may not
 *  be started. */
function toOffered(config: Config, { tools }: AgentConfig): readonly string[] {
  const { network, max_background_processes: processesMax } = config.raw.security.sandbox;
  return tools.filter(
    (name) =>
      (network !== 'none' || name !== 'fetch') &&
      (processesMax > 0 || !name.startsWith('process_')),
  );
}

export type ToolSpecs = ReadonlyMap<string, ToolSpec>;

/** Converted once: the JSON Schema of a tool never changes while we run. */
export function createToolSpecs(): ToolSpecs {
  return new Map(Object.values(toolTable).map((tool) => [tool.name, toToolSpec(tool)]));
}

function toSpec(specs: ToolSpecs, name: string): ToolSpec {
  const spec = specs.get(name);
  if (spec === undefined) throw new RangeError(`tool ${name} was checked when the config was read`);
  return spec;
}

export function toRestartPolicy(agent: AgentConfig): RestartPolicy {
  const { restart, maxRestartAttempts, restartWindowMs } = agent;
  return { type: restart, intensity: maxRestartAttempts, periodMs: restartWindowMs };
}

export function toBudget(config: Config, own: Readonly<Record<string, number>>): BudgetLimits {
  const { budget } = config.raw;
  return {
    maxCostUsd: own['max_cost_usd'] ?? budget.max_cost_usd,
    maxTokens: own['max_tokens'] ?? budget.max_tokens,
  };
}

/** Whether it matters what sandbox this machine offers. */
export function isSandboxed({ raw }: Config): boolean {
  return raw.security.sandbox.backend !== 'none';
}

/** The level in force, and whether tools are refused. Nothing falls back silently: without a
 *  sandbox, tools run only where the config says backend = "none". */
export function toStanding(config: Config, probe: Probe): SandboxStanding {
  const { backend, minimum_level: minimum, network } = config.raw.security.sandbox;
  const accepted = toAcceptedLevels(backend, minimum);
  const refuse = (why: string): SandboxStanding => {
    return { level: 'none', network, refusal: `tool calls are refused: ${why}` };
  };
  if (accepted.length === 0) {
    return refuse(`security.sandbox.minimum_level is "${minimum}", but backend is "${backend}"`);
  }
  const offered = backend === 'none' ? 'none' : probe.level;
  const level = accepted.find((each) => each === offered);
  if (level === undefined) return refuse(toShortfall(probe, accepted));
  if (network === 'allowlist' && !hasOwnRoot(level)) {
    return refuse(`level ${level} cannot keep to security.sandbox.network = "allowlist"`);
  }
  return { level, network, refusal: undefined };
}

/** What is missing, and both ways out: to mend the machine, or to ask for less. */
function toShortfall(probe: Probe, accepted: readonly SandboxLevel[]): string {
  const why = probe.reason ?? `${accepted[0]} does not work here`;
  const mend = `Mend: ${probe.mend ?? 'run prx-supervisor doctor'}.`;
  if (!isOfferedLevel(probe.level)) {
    return `no sandbox (${why}). ${mend} Or write security.sandbox.backend = "none" to run tools without isolation.`;
  }
  return `this machine offers no more than level ${probe.level} (${why}), and less than ${accepted.at(-1)} is not accepted. ${mend} Or write security.sandbox.minimum_level = "${probe.level}" to accept it (docs/sandbox.md says what it holds).`;
}

/** At which level what runs is started; where tools are refused, the strongest, so that whatever
 *  is started all the same fails instead of running unconfined. */
export function toStartLevel(config: Config, probe: Probe): SandboxLevel {
  const { level, refusal } = toStanding(config, probe);
  return refusal === undefined ? level : 'bubblewrap';
}

/** What `status` says of it. */
export function toSandboxView(
  config: Config,
  probe: Probe,
  places: Omit<PolicyPlaces, 'level'>,
): StatusView['sandbox'] {
  const { level, refusal } = toStanding(config, probe);
  const { reason, mend } = probe;
  const isAsked = config.raw.security.sandbox.backend !== 'none';
  const policy = toPolicyAt(config, '', { ...places, level: toStartLevel(config, probe) });
  return {
    level,
    ...(isAsked && probe.level !== level ? { offered: probe.level } : {}),
    ...(refusal === undefined ? { policy: toPolicyDigest(policy) } : {}),
    ...(reason === undefined ? {} : { reason }),
    ...(mend === undefined ? {} : { mend }),
  };
}

export interface PolicyPlaces {
  readonly level: SandboxLevel;
  readonly installation: string;
  readonly env: Environment;
}

export function toSandboxPolicy(
  config: Config,
  record: SessionRecord,
  places: PolicyPlaces,
): SandboxPolicy {
  return toPolicyAt(config, workspaceOf(config.stateDir, record), places);
}

/** The policy of whatever works in this folder. */
export function toPolicyAt(config: Config, workspace: string, places: PolicyPlaces): SandboxPolicy {
  const { sandbox } = config.raw.security;
  const env: Record<string, string> = {};
  for (const name of sandbox.env_allowlist) {
    const value = places.env[name];
    if (value !== undefined) env[name] = value;
  }
  const configFile = config.file === undefined ? [] : [config.file];
  const { key_file: keyFile } = config.raw.secrets;
  return {
    backend: places.level,
    workspace,
    readOnlyPaths: sandbox.read_only_paths,
    writablePaths: sandbox.writable_paths,
    hiddenPaths: [config.stateDir, homeOf(places.env), ...(keyFile === undefined ? [] : [keyFile])],
    protectedPaths: [places.installation, ...configFile],
    envAllowlist: sandbox.env_allowlist,
    env,
    timeoutMs: sandbox.timeout_secs * 1000,
    memoryLimitBytes: sandbox.memory_limit_mb * 2 ** 20,
    cpuMs: sandbox.max_cpu_secs * 1000,
    diskBytes: sandbox.max_disk_mb * 2 ** 20,
    filesMax: sandbox.max_files,
    maxPids: sandbox.max_pids,
    backgroundMax: sandbox.max_background_processes,
    backgroundTimeoutMs: sandbox.background_timeout_secs * 1000,
    maxOutputBytes: sandbox.max_output_bytes,
    tmpBytes: sandbox.max_disk_mb * 2 ** 20,
    network: {
      mode: sandbox.network,
      allowedDomains: sandbox.allowed_domains,
      allowedMethods: sandbox.allowed_methods,
      injections: Object.entries(config.raw.secrets.inject).map(([secret, one]) => ({
        secret,
        ...one,
      })),
    },
  };
}

/** How long an effect may run in a process of this kind, for one that does not say it itself. */
export function toEffectLimitMs(config: Config, kind: ProcessRecord['kind']): number {
  const toolMs = config.raw.security.sandbox.timeout_secs * 1000;
  return kind === 'gateway' ? config.provider.totalTimeoutMs : toolMs;
}

/** The limits of one tool call as tool.started shows them. */
export function toToolLimits(config: Config): Readonly<Record<string, number>> {
  const { sandbox } = config.raw.security;
  return {
    timeout_secs: sandbox.timeout_secs,
    memory_limit_mb: sandbox.memory_limit_mb,
    max_pids: sandbox.max_pids,
    max_output_bytes: sandbox.max_output_bytes,
    max_cpu_secs: sandbox.max_cpu_secs,
    max_disk_mb: sandbox.max_disk_mb,
    max_files: sandbox.max_files,
  };
}
