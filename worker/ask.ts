/** How a running turn asks the supervisor. */
import type { z } from 'zod';
import { isPrxError } from '../base/errors.ts';
import type { Connection, Side } from '../protocol/connection.ts';
import { askRequests } from '../protocol/worker-methods.ts';
import type { Interrupt } from './interrupt.ts';

export type AskMethod = keyof typeof askRequests;
export type AskParams<M extends AskMethod> = z.input<(typeof askRequests)[M]['params']>;
export type AskResult<M extends AskMethod> = z.infer<(typeof askRequests)[M]['result']>;

/** Resolves with undefined when the turn was interrupted and the answer did not come in time.
 *  Rejects with the supervisor's PrxError: then the turn has no outcome, and is run again. */
export type Ask = <M extends AskMethod>(
  method: M,
  params: AskParams<M>,
) => Promise<AskResult<M> | undefined>;

/** What the supervisor serves to a worker. */
export const askSide = { requests: askRequests, notifications: {} } satisfies Side;

export function createAsk(connection: Connection<typeof askSide>, interrupt: Interrupt): Ask {
  return async (method, params) => {
    try {
      return await connection.request(method, params, {
        // The gate's own deadlines (provider, tool, approval, session) cover every wait.
        timeoutMs: Number.POSITIVE_INFINITY,
        signal: interrupt.abandoned,
      });
    } catch (error) {
      if (interrupt.isRequested() && isPrxError(error, 'CANCELLED')) return undefined;
      throw error;
    }
  };
}
