/** Answers that never come: the stream that was to bring one ended without it, or what came under
 *  its id is no message. The SDK would wait for them until the limit of the call, so they are told
 *  to the asker as errors that no server can send. */
import {
  type JSONRPCErrorResponse,
  ProtocolError,
  ProtocolErrorCode,
  type RequestId,
  type Transport,
} from '@modelcontextprotocol/client';

export const NO_MESSAGE = 'its answer is no JSON-RPC message';

/** Told apart by identity, which nothing that was parsed has. */
const NO_ANSWER: object = Object.freeze({});

export function toNoAnswer(id: RequestId, message: string): JSONRPCErrorResponse {
  const error = { code: ProtocolErrorCode.InternalError, message, data: NO_ANSWER };
  return { jsonrpc: '2.0', id, error };
}

export function isNoAnswer(error: unknown): boolean {
  return error instanceof ProtocolError && error.data === NO_ANSWER;
}

/** Requests whose answers are looked for; of more the oldest waits for its limit. */
const WAITING_MAX = 1000;

/** Before anybody else listens to the transport. */
export function tellOfCutStreams<T extends Transport>(transport: T): T {
  const waiting = new Set<RequestId>();
  const send = transport.send.bind(transport);
  transport.onmessage = (message) => {
    if (!('method' in message) && message.id !== undefined) waiting.delete(message.id);
  };
  transport.send = async (message, options) => {
    if (!('method' in message && 'id' in message)) return send(message, options);
    const { id } = message;
    waiting.add(id);
    const [oldest] = waiting;
    if (waiting.size > WAITING_MAX && oldest !== undefined) waiting.delete(oldest);
    const onRequestStreamEnd = (): void => {
      options?.onRequestStreamEnd?.();
      if (!waiting.delete(id)) return;
      transport.onmessage?.(toNoAnswer(id, 'the stream of its answer ended without one'));
    };
    return send(message, { ...options, onRequestStreamEnd });
  };
  return transport;
}
