/** Tells a webhook that an approval waits. What goes wrong is reported and harms nobody: the
 *  approval waits on, and is answered from anywhere else. */
import type { Clock } from '../../base/clock.ts';
import { systemCode, toPrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { PendingApproval, SessionRecord } from '../../store/contract.ts';
import { sign, signLink } from './approval-link.ts';

export interface WebhookSettings {
  readonly url: string;
  readonly secret: string;
  /** Where our api is reached from outside, without a slash at its end. */
  readonly linkUrl: string;
}

export interface Delivery {
  readonly ok: boolean;
  readonly attempts: number;
  readonly problem?: string;
}

export interface WebhookDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly settings: () => WebhookSettings | undefined;
  readonly linkKey: () => string;
  /** As the global fetch. */
  readonly fetch: (url: string, init: RequestInit) => Promise<{ readonly status: number }>;
}

/** Undefined: no webhook is configured. Never rejects. */
export type Notify = (
  record: SessionRecord,
  approval: PendingApproval,
) => Promise<Delivery | undefined>;

const ATTEMPTS = 3;
const TIMEOUT_MS = 10_000;
const PAUSE_MS = 2000;
/** On their way at once; more are not told. */
const UNDER_WAY_MAX = 100;
const TEXT_CHARS_MAX = 20_000;

export function createWebhook(deps: WebhookDeps): Notify {
  const { clock } = deps;
  let underWay = 0;

  async function post(settings: WebhookSettings, body: string): Promise<string | undefined> {
    const abort = new AbortController();
    const timer = clock.setTimer(TIMEOUT_MS, () => abort.abort());
    const time = Math.floor(clock.wallMs() / 1000);
    const signature = sign(settings.secret, `${time}.${body}`);
    try {
      const { status } = await deps.fetch(settings.url, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          'x-prx-signature': `t=${time},v1=${signature}`,
        },
        body,
        // A redirect would carry the link to where nobody sent it.
        redirect: 'manual',
        signal: abort.signal,
      });
      return status >= 200 && status < 300 ? undefined : `it answered ${status}`;
    } catch (error) {
      return abort.signal.aborted ? `no answer in ${TIMEOUT_MS} ms` : toProblem(error);
    } finally {
      timer.cancel();
    }
  }

  async function deliver(settings: WebhookSettings, body: string): Promise<Delivery> {
    let problem = '';
    for (let attempts = 1; attempts <= ATTEMPTS; attempts += 1) {
      if (attempts > 1) await clock.sleep(PAUSE_MS * (attempts - 1));
      const found = await post(settings, body);
      if (found === undefined) return { ok: true, attempts };
      problem = found;
    }
    return { ok: false, attempts: ATTEMPTS, problem };
  }

  return async (record, approval) => {
    const settings = deps.settings();
    if (settings === undefined) return undefined;
    const logger = deps.logger.child({ session: record.id, turn: record.turn });
    if (underWay >= UNDER_WAY_MAX) {
      return { ok: false, attempts: 0, problem: `${UNDER_WAY_MAX} are under way already` };
    }
    underWay += 1;
    try {
      const body = toBody(record, approval, toLink(deps.linkKey(), settings, record, approval));
      const delivery = await deliver(settings, body);
      const { call_id } = approval;
      if (!delivery.ok) logger.warn('approval.webhook_failed', { ...delivery, call_id });
      return delivery;
    } catch (error) {
      // A key that cannot be read or written, for one.
      const problem = toPrxError(error).message;
      logger.warn('approval.webhook_failed', { problem });
      return { ok: false, attempts: 0, problem };
    } finally {
      underWay -= 1;
    }
  };
}

/** `fetch` itself says only that it failed. */
function toProblem(error: unknown): string {
  const hasCause = typeof error === 'object' && error !== null && 'cause' in error;
  const code = hasCause ? systemCode(error.cause) : undefined;
  const { message } = toPrxError(error);
  return code === undefined ? message : `${message} (${code})`;
}

function toLink(
  key: string,
  { linkUrl }: WebhookSettings,
  { id }: SessionRecord,
  { call_id, digest, expires_at }: PendingApproval,
): string {
  const expiresAtMs = Date.parse(expires_at);
  const token = signLink(key, { session: id, callId: call_id, digest, expiresAtMs });
  return `${linkUrl}/api/v1/links/${token}`;
}

function toBody(record: SessionRecord, approval: PendingApproval, link: string): string {
  const { call_id, tool, digest, requested_at, expires_at, rule } = approval;
  const args = JSON.stringify(approval.arguments) ?? 'null';
  return JSON.stringify({
    type: 'approval.requested',
    session: record.id,
    name: record.name,
    agent: record.agent,
    call_id,
    tool,
    arguments:
      args.length > TEXT_CHARS_MAX ? `${args.slice(0, TEXT_CHARS_MAX)}…` : approval.arguments,
    digest,
    rule,
    requested_at,
    expires_at,
    link,
  });
}
