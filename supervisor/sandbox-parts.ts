/** What the rooms ask about the sandbox of this machine: the level in force by the configuration as
 *  it stands, what a host is told, what `status` says. */
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { StatusView } from '../protocol/resources.ts';
import { type OfferedLevel, type SandboxLevel, toAskedLevels } from '../protocol/sandbox-levels.ts';
import type { SandboxPolicy } from '../protocol/sandbox-methods.ts';
import type { SessionRecord } from '../store/contract.ts';
import type { Config, Environment } from './config.ts';
import type { SandboxStanding } from './effects/ports.ts';
import type { Programs } from './launch.ts';
import { createSandboxProbe, type SandboxProbe } from './probe.ts';
import {
  isSandboxed,
  type Probe,
  toSandboxPolicy,
  toSandboxView,
  toStanding,
  toStartLevel,
} from './settings.ts';

export interface SandboxParts extends Pick<SandboxProbe, 'known' | 'start'> {
  standing(): SandboxStanding;
  startLevel(): SandboxLevel;
  policyOf(record: SessionRecord): SandboxPolicy;
  view(): StatusView['sandbox'];
  /** A tool is needed. Asks the machine again where its last answer is not enough. */
  find(signal: AbortSignal): Promise<void>;
}

export interface SandboxPartsDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly programs: Programs;
  readonly env: Environment;
  readonly probe: (levels: readonly OfferedLevel[]) => Promise<Probe>;
  readonly config: () => Config;
  readonly onChanged: (from: Probe, to: Probe) => void;
}

export function openSandboxParts(deps: SandboxPartsDeps): SandboxParts {
  const { config, programs, env } = deps;
  const probe = createSandboxProbe({
    ...deps,
    ask: () => deps.probe(toAskedLevels(config().raw.security.sandbox.backend)),
    isEnough: (found) => toStanding(config(), found).refusal === undefined,
  });
  const places = { installation: programs.root, env };
  const startLevel = () => toStartLevel(config(), probe.known());
  return {
    known: probe.known,
    start: probe.start,
    standing: () => toStanding(config(), probe.known()),
    startLevel,
    policyOf: (record) => toSandboxPolicy(config(), record, { ...places, level: startLevel() }),
    view: () => toSandboxView(config(), probe.known(), places),
    find: async (signal) => (isSandboxed(config()) ? probe.again(signal) : undefined),
  };
}
