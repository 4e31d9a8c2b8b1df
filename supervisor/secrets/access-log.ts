/** Who used which secret for what, one JSON line each, without any value. Two files of a bounded
 *  size: the present one and the one before. */
import { join } from 'node:path';
import { appendBounded } from '../../base/bounded-file.ts';
import { type Clock, toTimestamp } from '../../base/clock.ts';

export interface Access {
  readonly action: 'set' | 'rm' | 'rotate' | 'read' | 'refused';
  readonly name: string;
  readonly agent?: string | undefined;
  readonly session?: string | undefined;
  readonly call_id?: string | undefined;
  readonly purpose?: string | undefined;
  readonly reason?: string | undefined;
}

const BYTES_MAX = 8 * 1024 * 1024;

/** Throws the system error as it is: what cannot be written down is not done. */
export function logAccess(stateDir: string, clock: Clock, access: Access): void {
  const line = JSON.stringify({ time: toTimestamp(clock.wallMs()), ...access });
  appendBounded(join(stateDir, 'secret-access.log'), `${line}\n`, BYTES_MAX);
}
