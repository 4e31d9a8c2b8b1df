/** Two connected peers over either transport, for the tests of the connection. */
import { PassThrough } from 'node:stream';
import { z } from 'zod';
import { type Clock, realClock } from '../../base/clock.ts';
import {
  type Connection,
  createConnection,
  type RequestHandlers,
  type Side,
  type Transport,
} from '../../protocol/connection.ts';
import { createMemoryPair, createStreamTransport } from '../../protocol/transport.ts';

const value = z.object({ value: z.string() });

const serverSide = {
  requests: {
    echo: { params: value, result: value },
    hang: { params: z.object({}), result: z.object({}) },
    fail: { params: z.object({ with: z.string() }), result: z.object({}) },
    lie: { params: z.object({}), result: z.object({ count: z.number() }) },
  },
  notifications: { tell: value, boom: z.object({}) },
} as const satisfies Side;

/** A side that says more than the server knows. */
export const looseSide = {
  requests: {
    ...serverSide.requests,
    unknown: { params: z.unknown(), result: z.unknown() },
  },
  notifications: { ...serverSide.notifications, unknown: z.unknown() },
} as const satisfies Side;

const nothing = { requests: {}, notifications: {} } as const satisfies Side;

export interface Peers {
  readonly client: Connection<typeof looseSide>;
  readonly server: Connection<typeof nothing>;
  readonly told: string[];
  /** Settles with how it ended when a `hang` handler has seen its signal abort. */
  readonly hangEnded: Promise<string>;
  readonly hangs: () => number;
}

type Handlers = Partial<RequestHandlers<typeof serverSide.requests>>;

export interface PeersSpec {
  readonly pair: readonly [Transport, Transport];
  readonly clock?: Clock;
  readonly handlers?: Handlers;
}

export function connectPeers({ pair, clock = realClock, handlers = {} }: PeersSpec): Peers {
  const [left, right] = pair;
  const told: string[] = [];
  let hangs = 0;
  let settleHang: (how: string) => void = () => undefined;
  const hangEnded = new Promise<string>((resolve) => {
    settleHang = resolve;
  });
  const server = createConnection({
    transport: right,
    clock,
    peer: 'the client',
    local: serverSide,
    remote: nothing,
    requests: {
      echo: async (params) => params,
      hang: (_, { signal }) => {
        hangs += 1;
        return new Promise((resolve) => {
          signal.addEventListener('abort', () => {
            settleHang('aborted');
            resolve({});
          });
        });
      },
      fail: async () => ({}),
      // The result does not fit the schema: what a peer of another version may do.
      lie: async () => ({ count: 'many' }) as never,
      ...handlers,
    },
    notifications: {
      tell: (params) => void told.push(params.value),
      boom: () => {
        throw new Error('a bug in a handler');
      },
    },
  });
  const client = createConnection({
    transport: left,
    clock,
    peer: 'the server',
    local: nothing,
    remote: looseSide,
    requests: {},
    notifications: {},
  });
  return { client, server, told, hangEnded, hangs: () => hangs };
}

/** Two pipes, as stdin and stdout of a child are. */
function createStreamPair(): readonly [Transport, Transport] {
  const up = new PassThrough();
  const down = new PassThrough();
  return [createStreamTransport(down, up), createStreamTransport(up, down)];
}

export const transports = [
  ['in-memory pair', createMemoryPair],
  ['streams', createStreamPair],
] as const;

/** Turns the event loop until `done`; the test's own timeout is the deadline. */
export async function turnUntil(done: () => boolean): Promise<void> {
  while (!done()) await new Promise((resolve) => setImmediate(resolve));
}
