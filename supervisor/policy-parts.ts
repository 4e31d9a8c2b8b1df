/** What policy and approvals share over all sessions: kept rules, the webhook, the key of links. */
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { Random } from '../base/random.ts';
import type { Store } from '../store/contract.ts';
import type { Config } from './config.ts';
import { createWebhook, type Notify } from './effects/approval-webhook.ts';
import { createKeptRules, type KeptRules } from './effects/policy/kept-rules.ts';
import type { GateDeps } from './effects/ports.ts';
import { createLinkKey } from './link-key.ts';
import { type Probe, toStanding } from './settings.ts';

export interface PolicyParts {
  readonly clock: Clock;
  readonly kept: KeptRules;
  readonly notify: Notify;
  readonly linkKey: () => string;
  /** What the gate of each session is given. */
  readonly settings: Pick<
    GateDeps,
    'policy' | 'sandbox' | 'kept' | 'maxDenials' | 'approvalTimeoutMs'
  >;
}

export function createPolicyParts(
  deps: {
    readonly store: Store;
    readonly clock: Clock;
    readonly logger: Logger;
    readonly random: Random;
  },
  now: () => { readonly config: Config; readonly probe: Probe },
): PolicyParts {
  const { clock, logger, random } = deps;
  const linkKey = createLinkKey(now().config.stateDir, random);
  const webhook = (): Config['webhook'] => now().config.webhook;
  const notify = createWebhook({ clock, logger, linkKey, settings: webhook, fetch });
  const kept = createKeptRules(deps);
  const settings = {
    policy: () => now().config.policy,
    sandbox: () => toStanding(now().config, now().probe),
    kept,
    maxDenials: () => now().config.raw.security.approval.max_denials,
    approvalTimeoutMs: () => now().config.raw.security.approval.timeout_secs * 1000,
  };
  return { clock, kept, notify, linkKey, settings };
}
