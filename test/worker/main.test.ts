/** The worker as a process, started from its source. */
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, describe, expect, test } from '@jest/globals';
import { realClock } from '../../base/clock.ts';
import { type RunningProcess, startProcess } from '../../base/process.ts';
import { createConnection } from '../../protocol/connection.ts';
import { sessionIdSchema } from '../../protocol/ids.ts';
import { createStreamTransport } from '../../protocol/transport.ts';
import {
  askNotifications,
  askRequests,
  workerNotifications,
  workerRequests,
} from '../../protocol/worker-methods.ts';
import { programs } from '../programs.ts';
import { call, input, manifest, noHistory, result, say } from './harness.ts';

const root = dirname(dirname(import.meta.dirname));
const fixture = (name: string): string => join(import.meta.dirname, 'fixtures', name);
const CONFINED = ['--permission', `--allow-fs-read=${root}`];
const DEADLINE = { timeoutMs: 10_000 };

const started: RunningProcess[] = [];
afterEach(() => {
  for (const child of started.splice(0)) child.kill('SIGKILL');
});

async function startWorker(nodeFlags: readonly string[] = []): Promise<RunningProcess> {
  const child = await startProcess({
    command: process.execPath,
    args: [...nodeFlags, programs.worker, '--confinement=net-namespace'],
    env: {},
    ownSession: false,
  });
  started.push(child);
  return child;
}

function connect(child: RunningProcess, hangOnModel = false) {
  let modelCalls = 0;
  let setReady: (value: unknown) => void = () => undefined;
  const ready = new Promise<unknown>((resolve) => {
    setReady = resolve;
  });
  let setAsked: () => void = () => undefined;
  const asked = new Promise<void>((resolve) => {
    setAsked = resolve;
  });
  const worker = createConnection({
    transport: createStreamTransport(child.stdout, child.stdin),
    clock: realClock,
    peer: 'the worker',
    local: { requests: askRequests, notifications: askNotifications },
    remote: { requests: workerRequests, notifications: workerNotifications },
    requests: {
      'turn/step': async () => ({ steer: [], interrupted: false }),
      'model/generate': async () => {
        setAsked();
        if (hangOnModel) return new Promise<never>(() => undefined);
        modelCalls += 1;
        return modelCalls === 1 ? say('', [call('a')]) : say('done');
      },
      'tool/call': async () => result('x'.repeat(1_000_000)),
      'context/compact': async () => ({}),
    },
    notifications: { 'worker/ready': setReady },
  });
  const initialize = () =>
    worker.request(
      'worker/initialize',
      {
        sessionId: sessionIdSchema.parse('s_0123456789abcdef'),
        generation: 1,
        manifest: { ...manifest, compactionThresholdTokens: 1_000_000 },
        history: noHistory,
      },
      DEADLINE,
    );
  const run = () => worker.request('turn/run', { turn: 1, input: input('hello') }, DEADLINE);
  return { worker, ready, asked, initialize, run };
}

describe('a worker process', () => {
  test('serves a session under the permission model, and exits with its pipe', async () => {
    const child = await startWorker(CONFINED);
    const { worker, ready, initialize, run } = connect(child);
    expect(await ready).toEqual({
      pid: child.pid,
      confinement: ['net-namespace', 'permission-model'],
    });
    await initialize();
    expect(await run()).toEqual({ outcome: 'completed', steps: 2 });
    const ping = await worker.request('worker/ping', {}, DEADLINE);
    expect(ping.rssBytes).toBeGreaterThan(10_000_000);
    worker.close();
    expect(await child.exited).toEqual({ code: 0, signal: undefined });
  });

  test('keeps what is printed away from the pipe (FAULTS 36)', async () => {
    const child = await startWorker(['--import', fixture('noise.mjs')]);
    const errors = text(child.stderr);
    const { worker, ready, initialize, run } = connect(child);
    expect(await ready).toMatchObject({ confinement: ['net-namespace'] });
    await initialize();
    expect(await run()).toEqual({ outcome: 'completed', steps: 2 });
    worker.close();
    await child.exited;
    expect(await errors).toContain('noise from console.log\nnoise from process.stdout\n');
  });

  test('that writes past its streams is found out (FAULTS 36)', async () => {
    const child = await startWorker(['--import', fixture('stray.mjs')]);
    const { worker } = connect(child);
    expect(await worker.closed).toMatchObject({
      kind: 'protocol',
      error: { code: 'FRAME_INVALID', message: expect.stringContaining('stray bytes') },
    });
  });

  test('exits at the end of its stdin, in the middle of a turn too', async () => {
    const child = await startWorker();
    const { asked, initialize, run } = connect(child, true);
    await initialize();
    const running = run().catch(() => undefined);
    await asked;
    child.stdin.end();
    expect(await child.exited).toEqual({ code: 0, signal: undefined });
    await running;
  });

  test('exits when its stdin ends before it has heard a word', async () => {
    const child = await startWorker();
    child.stdin.end();
    child.stdout.resume();
    expect(await child.exited).toEqual({ code: 0, signal: undefined });
  });

  test('ends at garbage on its stdin, and says why', async () => {
    const child = await startWorker();
    const errors = text(child.stderr);
    child.stdout.resume();
    child.stdin.write('hello\n');
    expect(await child.exited).toEqual({ code: 76, signal: undefined });
    expect(JSON.parse(await errors)).toMatchObject({
      level: 'error',
      event: 'worker.protocol_violated',
      code: 'FRAME_INVALID',
    });
  });
});
