/** The one line that says a supervisor is ready and how it is reached. */
import { toReadyFacts } from '../protocol/ready-line.ts';
import type { StatusView } from '../protocol/resources.ts';

export function renderReady(status: StatusView): string {
  const state = status.status === 'ok' ? 'ready' : status.status;
  const why = status.reasons.length === 0 ? '' : ` (${status.reasons.join('; ')})`;
  return `${state}${why}: ${toReadyFacts(status)}`;
}
