/** What goes wrong gets a clear answer, and the supervisor lives. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import type { EventEnvelope } from '../../protocol/events.ts';
import { type Bench, createBench } from './harness.ts';

let bench: Bench;
afterEach(() => bench.close());

const isEnd = (event: EventEnvelope): boolean => event.type === 'turn.completed';

async function runPrompt(text: string): Promise<readonly EventEnvelope[]> {
  const { view } = await bench.client.createSession({});
  await bench.client.sendInput(view.id, { text });
  return bench.follow(view.id, isEnd);
}

/** A start that is expected to fail: its exit code and what it said. */
function startAndFail(options: Record<string, unknown>): { code: number | null; said: string } {
  const args = [join(bench.dir, 'dist/supervisor.js'), JSON.stringify(options)];
  const env = { PATH: process.env['PATH'], HOME: bench.dir };
  const result = spawnSync(process.execPath, args, { env, encoding: 'utf8', timeout: 120_000 });
  return { code: result.status, said: result.stderr };
}

describe('a start that cannot succeed says why and exits', () => {
  test('a wrong key in config.toml names file, key and the nearest known one', () => {
    bench = createBench('[agent]\nmax_turn = 3\n');
    const file = join(bench.dir, 'config.toml');
    const { code, said } = startAndFail({ config: file, stateDir: bench.stateDir });
    expect(code).toBe(78);
    expect(said).toContain(file);
    expect(said).toContain("agent.max_turn: unknown key; did you mean 'max_turns'?");
  });

  test('a port in use is named', async () => {
    bench = createBench('');
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const { code, said } = startAndFail({ stateDir: bench.stateDir, listen: `127.0.0.1:${port}` });
    server.close();
    expect(code).toBe(78);
    expect(said).toContain(String(port));
  });

  test('a state dir that cannot be used is named', () => {
    bench = createBench('');
    writeFileSync(join(bench.dir, 'file'), '');
    const stateDir = join(bench.dir, 'file', 'state');
    const { code, said } = startAndFail({ stateDir });
    expect(code).toBe(1);
    expect(said).toContain(stateDir);
  });

  test('a second supervisor on one state dir says who holds it', async () => {
    bench = createBench('');
    const { pid } = await bench.start();
    const { code, said } = startAndFail({ stateDir: bench.stateDir });
    expect(code).toBe(75);
    expect(said).toContain(String(pid));
  });
});

describe('a turn that cannot succeed fails with the reason, and the next one works', () => {
  test('a missing key names its variable', async () => {
    bench = createBench(
      '[agent]\nmodel = "m"\n[provider]\nkind = "openai"\napi_key_env = "MY_KEY"\n',
    );
    await bench.start();
    const events = await runPrompt('hello');
    expect(events.at(-1)?.data).toMatchObject({
      outcome: 'failed',
      error: { code: 'PROVIDER_KEY_MISSING', message: expect.stringContaining('MY_KEY') },
    });
    expect((await bench.client.getStatus()).status).toBe('ok');
  });

  test('a dead provider is retried by policy, then named', async () => {
    bench = createBench(`
      [agent]
      model = "m"
      [provider]
      base_url = "http://127.0.0.1:9/v1"
      max_retries = 1
      retry_base_ms = 1
    `);
    await bench.start();
    const events = await runPrompt('hello');
    expect(events.at(-1)?.data).toMatchObject({
      outcome: 'failed',
      error: { code: 'PROVIDER_UNREACHABLE', message: expect.stringContaining('127.0.0.1:9') },
    });
    expect(events.filter((event) => event.type === 'model.started')).toHaveLength(2);
  });
});

describe('bad or large input', () => {
  test('an unknown session is SESSION_NOT_FOUND', async () => {
    bench = createBench('');
    await bench.start();
    const sent = bench.client.sendInput('nosuch', { text: 'hello' });
    await expect(sent).rejects.toMatchObject({ code: 'SESSION_NOT_FOUND' });
  });

  test('a 5 MB prompt is accepted, journaled and answered', async () => {
    bench = createBench('');
    await bench.start();
    const events = await runPrompt(`${'x'.repeat(5_000_000)}`);
    expect(events.at(-1)?.data).toMatchObject({ outcome: 'completed' });
  });

  test('invalid UTF-8 is refused with a problem', async () => {
    bench = createBench('');
    await bench.start();
    const { view } = await bench.client.createSession({});
    const body = Buffer.from([0x7b, 0x22, 0x74, 0xff, 0xfe, 0x22, 0x7d]);
    const socketPath = join(bench.stateDir, 'api.sock');
    const answer = await post(socketPath, `/api/v1/sessions/${view.id}/input`, body);
    expect(answer.status).toBe(400);
    expect(JSON.parse(answer.text)).toMatchObject({ code: 'INVALID_REQUEST' });
    expect(answer.text).toMatch(/UTF-8/);
  });

  test('a tool that prints 1 GB gets a capped result', async () => {
    bench = createBench('');
    const supervisor = await bench.start();
    const events = await runPrompt('!yes | head -c 1000000000');
    const completed = events.find((event) => event.type === 'tool.completed');
    const data = completed?.data as { output: string; truncated: boolean } | undefined;
    expect(data?.truncated).toBe(true);
    expect(data?.output.length).toBeLessThan(1_100_000);
    expect((await bench.client.getStatus()).pid).toBe(supervisor.pid);
  });

  test('workspaces that are the system, a home, the state dir or an ancestor are refused', async () => {
    bench = createBench('');
    await bench.start();
    mkdirSync(join(bench.stateDir, 'inside'));
    for (const workspace of [
      '/',
      '/etc',
      '/usr',
      bench.dir,
      bench.stateDir,
      join(bench.stateDir, 'inside'),
    ]) {
      const made = bench.client.createSession({ workspace });
      await expect(made).rejects.toMatchObject({ code: 'WORKSPACE_REFUSED' });
    }
  });
});

function post(
  socketPath: string,
  path: string,
  body: Buffer,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json' };
    const sent = request({ socketPath, path, method: 'POST', headers }, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => {
        text += chunk.toString();
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
    });
    sent.on('error', reject);
    sent.end(body);
  });
}
