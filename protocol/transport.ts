/** The two transports: a pair of streams (stdio of a child), and a linked in-memory pair for tests
 *  and simulation, which copies every message as a pipe would. */
import type { Readable, Writable } from 'node:stream';
import { Emitter, type Message } from 'vscode-jsonrpc/node';
import { PrxError } from '../base/errors.ts';
import type { Transport } from './connection.ts';
import { createFrameReader, createFrameWriter, type ReaderOptions } from './frames.ts';

export function createStreamTransport(
  input: Readable,
  output: Writable,
  options: ReaderOptions = {},
): Transport {
  return {
    reader: createFrameReader(input, options),
    writer: createFrameWriter(output, { frameBytesMax: options.frameBytesMax }),
  };
}

/** One end of a linked pair. */
interface Half {
  readonly transport: Transport;
  /** undefined: the other end has hung up. */
  accept(message: Message | undefined): void;
}

function createHalf(send: (message: Message | undefined) => void): Half {
  const errors = new Emitter<Error>();
  const writeErrors = new Emitter<[Error, Message | undefined, number | undefined]>();
  const closes = new Emitter<void>();
  const partials = new Emitter<never>();
  const inbox: (Message | undefined)[] = [];
  let deliver: ((message: Message) => void) | undefined;
  let open = true;
  let scheduled = false;

  // One message per turn of the event loop, as the frame reader does: what was said before a
  // hang-up is heard before it.
  function schedule(): void {
    if (scheduled || deliver === undefined || inbox.length === 0) return;
    scheduled = true;
    setImmediate(() => {
      scheduled = false;
      if (!open) return;
      const message = inbox.shift();
      if (message !== undefined) deliver?.(message);
      else hangUp();
      schedule();
    });
  }
  function hangUp(): void {
    open = false;
    closes.fire();
  }
  function end(): void {
    if (!open) return;
    open = false;
    send(undefined);
  }
  return {
    accept(message) {
      inbox.push(message);
      schedule();
    },
    transport: {
      reader: {
        onError: errors.event,
        onClose: closes.event,
        onPartialMessage: partials.event,
        listen(callback) {
          deliver = callback;
          schedule();
          return { dispose: () => undefined };
        },
        dispose: end,
      },
      writer: {
        onError: writeErrors.event,
        onClose: closes.event,
        async write(message) {
          if (!open) throw new PrxError('PEER_CLOSED', 'the other end of the pair is closed');
          send(JSON.parse(JSON.stringify(message)) as Message);
        },
        end,
        dispose: () => undefined,
      },
    },
  };
}

/** Two linked ends; ending one closes the other, as a pipe does. Delivery is asynchronous; a
 *  message is copied when it is written. */
export function createMemoryPair(): readonly [Transport, Transport] {
  const left: Half = createHalf((message) => right.accept(message));
  const right: Half = createHalf((message) => left.accept(message));
  return [left.transport, right.transport];
}
