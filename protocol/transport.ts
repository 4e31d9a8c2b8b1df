/** The two transports: a pair of streams (stdio of a child), and a linked in-memory pair for tests
 *  and simulation, which copies every message as a pipe would. */
import type { Readable, Writable } from 'node:stream';
import { Emitter, type Message } from 'vscode-jsonrpc/node';
import type { Transport } from './connection.ts';
import { createFrameReader, createFrameWriter, type ReaderOptions } from './frames.ts';

export function createStreamTransport(
  input: Readable,
  output: Writable,
  options: ReaderOptions = {},
): Transport {
  return { reader: createFrameReader(input, options), writer: createFrameWriter(output) };
}

interface Half {
  readonly transport: Transport;
  readonly deliver: (message: Message) => void;
  readonly hangUp: () => void;
}

function createHalf(send: (message: Message) => void, hangUpPeer: () => void): Half {
  const errors = new Emitter<Error>();
  const writeErrors = new Emitter<[Error, Message | undefined, number | undefined]>();
  const closes = new Emitter<void>();
  const partials = new Emitter<never>();
  const waiting: Message[] = [];
  let listener: ((message: Message) => void) | undefined;
  let open = true;
  return {
    transport: {
      reader: {
        onError: errors.event,
        onClose: closes.event,
        onPartialMessage: partials.event,
        listen(deliver) {
          listener = deliver;
          for (const message of waiting.splice(0)) deliver(message);
          return { dispose: () => undefined };
        },
        dispose: () => undefined,
      },
      writer: {
        onError: writeErrors.event,
        onClose: closes.event,
        write: async (message) => {
          if (open) send(message);
        },
        end: hangUpPeer,
        dispose: () => undefined,
      },
    },
    deliver(message) {
      if (listener === undefined) waiting.push(message);
      else listener(message);
    },
    hangUp() {
      if (!open) return;
      open = false;
      closes.fire();
    },
  };
}

/** Two linked ends; ending one closes the other, as a pipe does. Delivery is asynchronous. */
export function createMemoryPair(): readonly [Transport, Transport] {
  const copy = (message: Message): Message => JSON.parse(JSON.stringify(message)) as Message;
  const left: Half = createHalf(
    (message) => queueMicrotask(() => right.deliver(copy(message))),
    () => queueMicrotask(() => right.hangUp()),
  );
  const right: Half = createHalf(
    (message) => queueMicrotask(() => left.deliver(copy(message))),
    () => queueMicrotask(() => left.hangUp()),
  );
  return [left.transport, right.transport];
}
