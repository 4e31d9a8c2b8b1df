/** Keeps what vscode-jsonrpc forgets about a failed write: the typed error of a request that could
 *  not be sent, and an answer for the asker of a result that is too large to send. */
import { Message, type MessageWriter, type ResponseMessage } from 'vscode-jsonrpc/node';
import { isPrxError, toPrxError } from '../base/errors.ts';
import { toResponseError } from './rpc-errors.ts';

/** By the params object of the request. */
export type WriteFailures = WeakMap<object, ReturnType<typeof toPrxError>>;

export function createReportingWriter(
  writer: MessageWriter,
  failures: WriteFailures,
): MessageWriter {
  // No close event: the connection looks after the ends of its transport itself.
  return {
    onError: writer.onError,
    onClose: () => ({ dispose: () => undefined }),
    async write(message) {
      try {
        await writer.write(message);
      } catch (error) {
        if (isPrxError(error, 'FRAME_TOO_LARGE') && Message.isResponse(message)) {
          await writer.write(refusal(message, error));
          return;
        }
        if (Message.isRequest(message) && typeof message.params === 'object') {
          failures.set(message.params, toPrxError(error));
        }
        throw error;
      }
    },
    end: () => writer.end(),
    dispose: () => writer.dispose(),
  };
}

function refusal({ jsonrpc, id }: ResponseMessage, error: unknown): ResponseMessage {
  return { jsonrpc, id, error: toResponseError(error).toJson() };
}
