/** The wait for one answer: it ends with the answer, its deadline, its cancellation or the end of
 *  the connection, whichever comes first. */
import type { Clock } from '../base/clock.ts';
import { PrxError } from '../base/errors.ts';
import { peerClosed } from './rpc-errors.ts';

export interface AnswerWait {
  readonly send: () => Promise<unknown>;
  readonly method: string;
  readonly peer: string;
  readonly clock: Pick<Clock, 'setTimer'>;
  readonly options: { readonly timeoutMs: number; readonly signal?: AbortSignal };
  /** Aborted when the connection ends. */
  readonly ending: AbortSignal;
}

/** Rejects with DEADLINE_EXCEEDED, CANCELLED, PEER_CLOSED or whatever `send` rejects with.
 *  Nothing is sent when the signal is aborted already. */
export function awaitAnswer(wait: AnswerWait): Promise<unknown> {
  const { send, method, peer, clock, options, ending } = wait;
  const cancelled = (): PrxError => new PrxError('CANCELLED', `${method} to ${peer} was cancelled`);
  if (options.signal?.aborted) return Promise.reject(cancelled());
  return new Promise((resolve, reject) => {
    const timer = clock.setTimer(options.timeoutMs, () => {
      const message = `${peer} did not answer ${method} within ${options.timeoutMs} ms`;
      settle(() => reject(new PrxError('DEADLINE_EXCEEDED', message)));
    });
    const onEnd = (): void => settle(() => reject(peerClosed(peer, method)));
    const onCancel = (): void => settle(() => reject(cancelled()));
    function settle(act: () => void): void {
      timer.cancel();
      ending.removeEventListener('abort', onEnd);
      options.signal?.removeEventListener('abort', onCancel);
      act();
    }
    ending.addEventListener('abort', onEnd, { once: true });
    options.signal?.addEventListener('abort', onCancel, { once: true });
    send().then(
      (value) => settle(() => resolve(value)),
      (error: unknown) => settle(() => reject(error)),
    );
  });
}
