/** What an attached terminal asks of the supervisor; each failure becomes a message, because the
 *  terminal goes on. */
import type { ApiClient } from '../../api/client.ts';
import { toPrxError } from '../../base/errors.ts';
import type { ResolveApproval } from '../../protocol/resources.ts';

export interface SessionLink {
  /** Each resolves to whether it was taken; never rejects. */
  send(text: string): Promise<boolean>;
  interrupt(): Promise<boolean>;
  resolve(callId: string, params: ResolveApproval): Promise<boolean>;
}

export function createLink(
  client: ApiClient,
  sessionId: string,
  onFailure: (message: string) => void,
): SessionLink {
  const guard = async (act: () => Promise<unknown>): Promise<boolean> => {
    try {
      await act();
      return true;
    } catch (error) {
      onFailure(toPrxError(error).message);
      return false;
    }
  };
  return {
    send: (text) => guard(() => client.sendInput(sessionId, { text })),
    interrupt: () => guard(() => client.interrupt(sessionId)),
    resolve: (callId, params) => guard(() => client.resolveApproval(sessionId, callId, params)),
  };
}
