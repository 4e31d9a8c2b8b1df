/** Refused uses: who was refused what, in the log and in the audit log. A token is named by the
 *  beginning of its hash, as `token ls` and the journal name it, never by its value. Strangers
 *  cannot fill the log: beyond some lines a minute they are counted, and the next line says how
 *  many. */
import type { IncomingHttpHeaders } from 'node:http';
import type { Clock } from '../base/clock.ts';
import { toPrxError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { type Audit, toFingerprint } from './audit.ts';
import { digestToken } from './auth.ts';
import { toRefusal } from './problem.ts';

export interface Refusals {
  note(
    error: unknown,
    request: { headers: IncomingHttpHeaders; address: string; route: string },
  ): void;
}

const LINES_MAX = 20;
const WINDOW_MS = 60_000;

export function createRefusals(
  { logger, audit }: { readonly logger: Logger; readonly audit: Audit },
  clock: Pick<Clock, 'nowMs'>,
): Refusals {
  let windowMs = Number.NEGATIVE_INFINITY;
  let lines = 0;
  let unsaid = 0;
  return {
    note(error, { headers, address, route }) {
      const nowMs = clock.nowMs();
      if (nowMs - windowMs >= WINDOW_MS) [windowMs, lines] = [nowMs, 0];
      if (lines >= LINES_MAX) {
        unsaid += 1;
        return;
      }
      lines += 1;
      const { code, message } = toPrxError(error);
      const sha256 = digestToken(headers)?.toString('hex');
      const fingerprint = sha256 === undefined ? undefined : toFingerprint(sha256);
      const given = fingerprint === undefined ? {} : { fingerprint };
      const before = unsaid === 0 ? {} : { unsaid };
      unsaid = 0;
      logger.warn('token.refused', { code, message, route, address, ...given, ...before });
      const { status } = toRefusal(error, '').problem;
      const token = fingerprint === undefined ? {} : { token: fingerprint };
      audit.note({ by: 'refused', ...token, address, route, status, code });
    },
  };
}
