/** What the one line says that tells how a supervisor is reached. Pure. */
import type { StatusView } from '../protocol/resources.ts';

/** @param tokenFile  where a token lies that was made for this start. */
export function toReadyFacts(status: StatusView, tokenFile?: string): string {
  const { level, policy } = status.sandbox;
  // Tool calls are refused where there is no policy: that is not the level none.
  const why = policy === undefined ? ' (prx-supervisor doctor says why)' : '';
  return [
    `socket ${status.socket}`,
    ...(status.listen === undefined ? [] : [`url ${status.listen}`]),
    ...(tokenFile === undefined ? [] : [`token ${tokenFile}`]),
    `sandbox ${level}${why}`,
    `model ${status.model}, provider ${status.provider}`,
    `pid ${status.pid}`,
  ].join(' · ');
}
