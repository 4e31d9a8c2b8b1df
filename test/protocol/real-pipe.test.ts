import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { z } from 'zod';
import { realClock } from '../../base/clock.ts';
import { type RunningProcess, startProcess } from '../../base/process.ts';
import { createConnection } from '../../protocol/connection.ts';
import { createStreamTransport } from '../../protocol/transport.ts';

const LARGE = 100;
const SMALL = 1_000;

function startChatter(): Promise<RunningProcess> {
  return startProcess({
    command: process.execPath,
    args: [join(import.meta.dirname, 'fixtures', 'chatter.mjs'), `${LARGE}`, `${SMALL}`],
    env: {},
    ownSession: false,
  });
}

describe('a child that says a lot and exits', () => {
  test('is heard to its last word, though its stdin breaks first', async () => {
    const child = await startChatter();
    const heard: number[] = [];
    let heldBytes = 0;
    const connection = createConnection({
      transport: createStreamTransport(child.stdout, child.stdin),
      clock: realClock,
      peer: 'the chatter',
      local: {
        requests: {},
        notifications: { tell: z.object({ index: z.number(), value: z.string() }) },
      },
      remote: { requests: {}, notifications: {} },
      requests: {},
      notifications: {
        tell: ({ index }) => {
          heard.push(index);
          heldBytes = Math.max(heldBytes, child.stdout.readableLength);
        },
      },
    });
    expect(await connection.closed).toEqual({ kind: 'eof' });
    expect(await child.exited).toEqual({ code: 0, signal: undefined });
    expect(heard).toEqual(Array.from({ length: LARGE + SMALL }, (_, index) => index));
    // The flood waited in the pipe, not here.
    expect(heldBytes).toBeLessThan(1024 * 1024);
  });
});
