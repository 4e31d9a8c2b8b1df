/** What a session is given by the composition: ports, settings as functions (a reload changes what
 *  they return), nothing it could use to reach another session. */
import type { Clock } from '../../base/clock.ts';
import type { Random } from '../../base/random.ts';
import type { EffectId, SessionId } from '../../protocol/ids.ts';
import type { AgentManifest } from '../../protocol/worker-methods.ts';
import type { SessionRecord, Store } from '../../store/contract.ts';
import type { Host, HostDeps } from '../children/hosts.ts';
import type { RestartPolicy } from '../children/restart.ts';
import type { AgentConfig } from '../config.ts';
import type { Notify } from '../effects/approval-webhook.ts';
import type { BudgetLimits } from '../effects/budget.ts';
import type { CustomGate, GateDeps } from '../effects/ports.ts';
import type { McpSession } from '../mcp/pool.ts';
import type { OpenSessionLog } from '../session-log.ts';
import type { Bus } from './bus.ts';
import type { ResidentDeps } from './resident.ts';

type GateSettings = Omit<
  GateDeps,
  | 'session'
  | 'logger'
  | 'journal'
  | 'host'
  | 'hasOrphanWriter'
  | 'cancelOrphan'
  | 'permission'
  | 'permissionChanged'
  | 'model'
  | 'tools'
  | 'parallelToolCalls'
  | 'mcp'
  | 'custom'
  | 'budget'
>;
type ResidentSettings = Omit<
  ResidentDeps,
  'session' | 'logger' | 'journal' | 'asks' | 'manifest' | 'readHistory' | 'restart' | 'spentMs'
>;

export interface SessionDeps {
  readonly store: Store;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly openLog: OpenSessionLog;
  readonly random: Random;
  readonly gateDeps: GateSettings;
  readonly residentDeps: ResidentSettings;
  readonly createHost: (
    parts: Pick<HostDeps, 'session' | 'onNetwork' | 'book' | 'logger'> & {
      readonly record: () => SessionRecord;
    },
  ) => Host;
  readonly mcp: (session: SessionId) => McpSession;
  readonly custom: Omit<CustomGate, 'check'>;
  readonly hasOrphanWriter: (session: SessionId, effect: EffectId) => boolean;
  readonly cancelOrphan: (session: SessionId, effect: EffectId) => void;
  /** The agent's settings; the default agent's when it is no longer configured. */
  readonly agent: (name: string) => AgentConfig;
  readonly model: (record: SessionRecord) => Promise<string>;
  readonly manifest: (record: SessionRecord) => AgentManifest;
  readonly restartPolicy: (agent: AgentConfig) => RestartPolicy;
  readonly budget: (limits: Readonly<Record<string, number>>) => BudgetLimits;
  /** Without the values of the vault. */
  readonly redact: (text: string) => string;
  readonly maxQueuedInputs: () => number;
  /** Tells people outside that a call waits for them. */
  readonly notifyApproval: Notify;
  readonly isContended: () => boolean;
}
