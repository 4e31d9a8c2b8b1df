/** Which model a session talks to: its own, its agent's, PRX_MODEL or agent.model, else the first
 *  the provider lists. Asking the provider is bounded and never holds up the start for long. */
import { PrxError, toPrxError } from '../base/errors.ts';
import type { SessionRecord } from '../store/contract.ts';
import type { Gateway } from './children/gateway.ts';
import type { Config } from './config.ts';
import { agentOf } from './settings.ts';

export interface ModelChoice {
  /** Asks the provider for its first model when nothing names one. Never rejects. */
  discover(): Promise<void>;
  /** The model to ask. @throws PROVIDER_UNREACHABLE … when none is named and none can be found. */
  choose(record: SessionRecord): Promise<string>;
  /** For display: '(unknown)' while no model was found. */
  shown(record: SessionRecord | undefined): string;
}

const DISCOVER_TIMEOUT_MS = 1500;

export function createModelChoice(gateway: Gateway, config: () => Config): ModelChoice {
  let found: string | undefined;
  let problem: PrxError | undefined;

  function named(record: SessionRecord | undefined): string | undefined {
    const settings = config();
    const own = record?.model ?? (record && agentOf(settings, record.agent).model);
    return own ?? settings.model ?? (settings.provider.kind === 'offline' ? 'offline' : undefined);
  }

  async function discover(): Promise<void> {
    if (named(undefined) !== undefined) return;
    try {
      const [first] = await gateway.listModels(DISCOVER_TIMEOUT_MS);
      found = first;
      problem = undefined;
    } catch (error) {
      problem = toPrxError(error);
    }
  }

  return {
    discover,
    shown: (record) => named(record) ?? found ?? '(unknown)',
    async choose(record) {
      const known = named(record) ?? found;
      if (known !== undefined) return known;
      await discover();
      if (found !== undefined) return found;
      const why = problem?.message ?? 'the provider lists none';
      const message = `no model is configured and none was found: ${why}; set PRX_MODEL or agent.model`;
      throw new PrxError(problem?.code ?? 'PROVIDER_BAD_RESPONSE', message);
    },
  };
}
