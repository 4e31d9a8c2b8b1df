/** What the gate needs from the rest of the supervisor, for one session. */

import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import type { ProviderMessage, ToolOutcome } from '../../protocol/content.ts';
import type { AttemptOutcome, ModelDelta } from '../../protocol/gateway-methods.ts';
import type { EffectId, SessionId } from '../../protocol/ids.ts';
import type { NetworkRequest } from '../../protocol/network.ts';
import type { SandboxLevel } from '../../protocol/sandbox-levels.ts';
import type { ToolOutput } from '../../protocol/sandbox-methods.ts';
import type { ToolSpec } from '../../protocol/tools.ts';
import type { Store } from '../../store/contract.ts';
import type { AgentConfig } from '../config.ts';
import type { SessionJournal } from '../sessions/journal.ts';
import type { BudgetLimits } from './budget.ts';
import type { CustomToolFacts } from './custom-policy.ts';
import type { McpToolFacts } from './mcp-policy.ts';
import type { KeptRules } from './policy/kept-rules.ts';
import type { Policy } from './policy.ts';
import type { SpoolFiles } from './spool.ts';

export interface ModelAttempt {
  readonly session: SessionId;
  readonly effect: EffectId;
  readonly attempt: number;
  readonly spoolPath: string;
  readonly model: string;
  readonly messages: readonly ProviderMessage[];
  readonly tools: readonly ToolSpec[];
  readonly parallelToolCalls: boolean;
}

export interface GatewayPort {
  /** One attempt. Rejects with GATEWAY_LOST when the gateway died under it. */
  generate(
    attempt: ModelAttempt,
    onDelta: (delta: ModelDelta) => Promise<void>,
  ): Promise<AttemptOutcome>;
  cancel(session: SessionId, effect: EffectId): void;
}

export interface ToolRun {
  readonly effect: EffectId;
  readonly tool: string;
  readonly arguments: unknown;
  readonly attempt?: number;
  readonly spoolPath: string;
}

/** What a call says while it runs; the promises hold the reading from its host. */
export interface LiveRun {
  readonly onOutput: (output: ToolOutput) => Promise<void>;
  readonly onRequest: (request: NetworkRequest) => Promise<void>;
}

export interface HostPort {
  /** Has the sandbox ready, so that a reserved call starts at once. Throws SANDBOX_UNAVAILABLE,
   *  SPAWN_FAILED, WORKER_START_TIMEOUT: nothing was started then. */
  prepare(tool: string): Promise<void>;
  /** Runs one call. Rejects with HOST_LOST when the host died under it, with
   *  SANDBOX_UNAVAILABLE when the sandbox could not be set up (nothing ran then). */
  run(run: ToolRun, live: LiveRun): Promise<ToolOutcome>;
  cancel(effect: EffectId): void;
  /** Of the policy it was given; undefined before it was prepared, and of a tool that runs
   *  elsewhere. */
  policyDigest(tool: string): string | undefined;
}

export interface McpGate {
  /** Undefined: no server of this name is configured. */
  find(tool: string): McpToolFacts | undefined;
  /** Names of the tools that this agent may ask for, as far as its servers have told. */
  names(agent: AgentConfig): readonly string[];
  /** What is wrong with a call's arguments, as a sentence; starts the server. Never rejects. */
  check(tool: string, value: unknown): Promise<string | undefined>;
}

export interface CustomGate {
  /** Undefined: no file has such a tool. */
  find(tool: string): CustomToolFacts | undefined;
  /** Names of the tools that this agent may ask for. */
  names(agent: AgentConfig): readonly string[];
  /** What is wrong with a call's arguments, as a sentence; asked where the file may run. Rejects
   *  when there is no sandbox, or its host died. */
  check(tool: string, value: unknown): Promise<string | undefined>;
}

export interface SandboxStanding {
  /** In force; none where tool calls are refused, too. */
  readonly level: SandboxLevel;
  /** none, allowlist or full; absent: none. */
  readonly network?: string;
  /** Set: every tool call is refused with this sentence. */
  readonly refusal: string | undefined;
}

/** May a new effect of the open turn start? `wait`: the session is suspended, or what may stop the
 *  turn is on its way to the journal; `stop`: the turn is interrupted or closing. */
export type Permission = 'go' | 'wait' | 'stop';

export interface GateDeps {
  readonly session: SessionId;
  readonly stateDir: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly store: Store;
  readonly journal: SessionJournal;
  readonly spools: SpoolFiles;
  readonly gateway: GatewayPort;
  readonly host: HostPort;
  /** Is a process alive that may still write this effect's spool (an orphan of an earlier
   *  supervisor)? */
  readonly hasOrphanWriter: (effect: EffectId) => boolean;
  /** Ends the effect in such a process; its outcome comes through its spool. */
  readonly cancelOrphan: (effect: EffectId) => void;
  /** As of this instant. See reserve.ts. */
  readonly permission: () => Permission;
  /** Resolves when it may be another one. */
  readonly permissionChanged: () => Promise<void>;
  readonly policy: () => Policy;
  /** Rules that people kept with an approval. */
  readonly kept: Pick<KeptRules, 'find' | 'keep'>;
  /** Refusals of one tool in one turn after which nobody is asked any more; 0: no limit. */
  readonly maxDenials: () => number;
  readonly budget: () => BudgetLimits;
  readonly sandbox: () => SandboxStanding;
  /** Looks once more for a sandbox where there was none; resolves at once where there is one. */
  readonly findSandbox: (signal: AbortSignal) => Promise<void>;
  /** The model to ask; throws a PrxError when none is configured and none can be found. */
  readonly model: () => Promise<string>;
  readonly parallelToolCalls: () => boolean;
  readonly approvalTimeoutMs: () => number;
  readonly toolLimits: () => Readonly<Record<string, number>>;
  /** Absent: no MCP servers (of a test). */
  readonly mcp?: McpGate;
  /** Absent: no custom tools (of a test). */
  readonly custom?: CustomGate;
  /** Names the agent may use. */
  readonly tools: () => readonly string[];
}
