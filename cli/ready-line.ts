/** The one line that says a supervisor is ready and how it is reached. */
import type { StatusView } from '../protocol/resources.ts';

export function renderReady(status: StatusView): string {
  const facts = [
    `socket ${status.socket}`,
    ...(status.listen === undefined ? [] : [`url ${status.listen}`]),
    `sandbox ${status.sandbox.level}`,
    `model ${status.model}, provider ${status.provider}`,
  ];
  const state = status.status === 'ok' ? 'ready' : status.status;
  const why = status.reasons.length === 0 ? '' : ` (${status.reasons.join('; ')})`;
  return `${state}${why}: ${facts.join(' · ')} · pid ${status.pid}`;
}
