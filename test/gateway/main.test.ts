/** The real process: what a supervisor sees of it, alive and after its own death. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { readAppendLog } from '../../base/append-log.ts';
import { realClock } from '../../base/clock.ts';
import { type RunningProcess, startProcess } from '../../base/process.ts';
import { createConnection } from '../../protocol/connection.ts';
import {
  gatewayNotifications,
  gatewayReports,
  gatewayRequests,
} from '../../protocol/gateway-methods.ts';
import { createStreamTransport } from '../../protocol/transport.ts';
import { programs } from '../programs.ts';
import { EFFECT, SESSION, say, toSettings } from './harness.ts';

const root = join(import.meta.dirname, '../..');

function connect(child: RunningProcess) {
  const messages: string[] = [];
  let onDelta: () => void = () => undefined;
  const firstDelta = new Promise<void>((resolve) => {
    onDelta = resolve;
  });
  let onReady: (pid: number) => void = () => undefined;
  const ready = new Promise<number>((resolve) => {
    onReady = resolve;
  });
  const connection = createConnection({
    transport: createStreamTransport(child.stdout, child.stdin),
    clock: realClock,
    peer: 'the gateway',
    local: { requests: {}, notifications: gatewayReports },
    remote: { requests: gatewayRequests, notifications: gatewayNotifications },
    requests: {},
    notifications: {
      'gateway/ready': ({ pid }) => {
        messages.push('ready');
        onReady(pid);
      },
      'model/delta': () => {
        messages.push('delta');
        onDelta();
      },
    },
  });
  return { connection, ready, firstDelta, messages };
}

describe('the process', () => {
  let folder: string;
  let child: RunningProcess;
  let linked: ReturnType<typeof connect>;
  let stderr: string;

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'prx-gateway-'));
    child = await startProcess({
      command: process.execPath,
      args: [programs.gateway],
      env: { PRX_LOG: 'info' },
      ownSession: true,
    });
    stderr = '';
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString('utf8');
    });
    linked = connect(child);
  });

  afterEach(() => {
    child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });

  function generate(prompt: string): Promise<unknown> {
    const request = {
      ...{ session: SESSION, effect: EFFECT, attempt: 1, spoolPath: join(folder, 'spool') },
      ...{ model: 'offline', messages: [say(prompt)], tools: [], parallelToolCalls: true },
    };
    return linked.connection.request('model/generate', request, { timeoutMs: 10_000 });
  }

  async function initialize(): Promise<void> {
    const provider = toSettings({ kind: 'offline' });
    await linked.connection.request('gateway/initialize', { provider }, { timeoutMs: 10_000 });
  }

  function readOutcome(): unknown {
    return readAppendLog(join(folder, 'spool')).records.at(-1)?.value;
  }

  test('says ready first, serves, and leaves when its input ends', async () => {
    expect(await linked.ready).toBe(child.pid);
    await initialize();
    expect(await generate('hello')).toMatchObject({ kind: 'completed', model: 'offline' });
    expect(linked.messages[0]).toBe('ready');
    linked.connection.close();
    expect(await child.exited).toEqual({ code: 0, signal: undefined });
  });

  test('without a supervisor it ends what runs, in the spool', async () => {
    await initialize();
    const asked = generate('~slow 8');
    asked.catch(() => undefined);
    await linked.firstDelta;
    for (const pipe of [child.stdin, child.stdout, child.stderr]) pipe.destroy();
    expect(await child.exited).toEqual({ code: 0, signal: undefined });
    expect(readOutcome()).toMatchObject({
      kind: 'end',
      outcome: {
        kind: 'completed',
        finish_reason: 'stop',
        message: { text: 'word1 word2 word3 word4 word5 word6 word7 word8' },
      },
    });
  });

  test('SIGTERM ends what runs as cancelled, and the answer still comes', async () => {
    await initialize();
    const asked = generate('~slow 1000');
    await linked.firstDelta;
    child.kill('SIGTERM');
    expect(await asked).toMatchObject({ kind: 'completed', finish_reason: 'cancelled' });
    expect(await child.exited).toEqual({ code: 0, signal: undefined });
    expect(readOutcome()).toEqual({ kind: 'end', outcome: await asked });
  });

  test('garbage on its input ends it with an error', async () => {
    await linked.ready;
    child.stdin.write('GET / HTTP/1.1\r\n\r\n');
    expect(await child.exited).toEqual({ code: 1, signal: undefined });
    expect(stderr).toContain('gateway.protocol');
  });
});

test('what prints goes to stderr, not into the protocol', async () => {
  const script = `import ${JSON.stringify(join(root, 'gateway/stdio.ts'))}; console.log('astray');`;
  const child = await startProcess({
    command: process.execPath,
    args: ['--input-type=module', '--eval', script],
    env: {},
    ownSession: true,
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString('utf8')));
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString('utf8')));
  const ended = new Promise((resolve) => child.stderr.once('end', resolve));
  await child.exited;
  await ended;
  expect({ out, err }).toEqual({ out: '', err: 'astray\n' });
});
