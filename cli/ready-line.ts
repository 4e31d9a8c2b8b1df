/** The one line that says a supervisor is ready and how it is reached. */
import type { StatusView } from '../protocol/resources.ts';

export function renderReady(status: StatusView): string {
  const facts = [
    `socket ${status.socket}`,
    ...(status.listen === undefined ? [] : [`url ${status.listen}`]),
    `sandbox ${toSandbox(status.sandbox)}`,
    `model ${status.model}, provider ${status.provider}`,
  ];
  const state = status.status === 'ok' ? 'ready' : status.status;
  const why = status.reasons.length === 0 ? '' : ` (${status.reasons.join('; ')})`;
  return `${state}${why}: ${facts.join(' · ')} · pid ${status.pid}`;
}

/** Tool calls are refused where there is no policy: that is not the level none. */
function toSandbox({ level, policy }: StatusView['sandbox']): string {
  return level === 'none' && policy === undefined
    ? `${level} (prx-supervisor doctor says why)`
    : level;
}
