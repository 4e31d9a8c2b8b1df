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
  test('is heard to its last word, though its stdin breaks first (FAULTS 41)', async () => {
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

describe('a child that floods', () => {
  test('waits in its pipe, while a quiet one is answered each time (FAULTS 37)', async () => {
    const ROUNDS = 200;
    const program = (name: string, ...args: string[]): Promise<RunningProcess> =>
      startProcess({
        command: process.execPath,
        args: [join(import.meta.dirname, 'fixtures', name), ...args],
        env: {},
        ownSession: false,
      });
    // Far more than can be read while the quiet one is asked: it is killed in the middle.
    const flooder = await program('chatter.mjs', '100000', '0');
    const quiet = await program('echo.mjs');
    const told = z.object({ index: z.number(), value: z.string() });
    let [floods, heldBytes] = [0, 0];
    const begun = Promise.withResolvers<void>();
    const flood = createConnection({
      transport: createStreamTransport(flooder.stdout, flooder.stdin),
      clock: realClock,
      peer: 'the flooder',
      local: { requests: {}, notifications: { tell: told } },
      remote: { requests: {}, notifications: {} },
      requests: {},
      notifications: {
        tell() {
          floods += 1;
          begun.resolve();
          heldBytes = Math.max(heldBytes, flooder.stdout.readableLength);
        },
      },
    });
    const remote = { requests: { echo: { params: told, result: told } }, notifications: {} };
    const asked = createConnection({
      transport: createStreamTransport(quiet.stdout, quiet.stdin),
      clock: realClock,
      peer: 'the quiet one',
      local: { requests: {}, notifications: {} },
      remote,
      requests: {},
      notifications: {},
    });
    await begun.promise;
    const most: number[] = [];
    for (let index = 0; index < ROUNDS; index += 1) {
      const before = floods;
      const sent = { index, value: 'x' };
      expect(await asked.request('echo', sent, { timeoutMs: 10_000 })).toEqual(sent);
      most.push(floods - before);
    }
    expect(floods).toBeGreaterThan(0);
    expect(flood.isOpen()).toBe(true);
    expect(heldBytes).toBeLessThan(1024 * 1024);
    // A question waits for a few messages of the flood, not for its end.
    most.sort((a, b) => a - b);
    expect(most[ROUNDS / 2]).toBeLessThan(20);
    flooder.kill('SIGKILL');
    asked.close();
    expect([(await flooder.exited).signal, (await quiet.exited).code]).toEqual(['SIGKILL', 0]);
  });
});
