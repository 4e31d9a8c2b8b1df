/** The logs of a real supervisor: one line each, session and turn on those about a session, a file
 *  for each worker, an audit log; and no secret in any of them. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { runCli } from './command-line.ts';
import { type Bench, createBench, type Running } from './harness.ts';
import { type ScriptedProvider, startScriptedProvider } from './scripted-provider.ts';

/** Several real processes, on a machine that is busy. */

let provider: ScriptedProvider;
let bench: Bench;

beforeEach(async () => {
  provider = await startScriptedProvider();
});

afterEach(async () => {
  await bench.close();
  await provider.close();
});

function open(log: string): void {
  bench = createBench(`
    [agent]
    model = "scripted"
    [provider]
    base_url = "${provider.url}"
    [log]
    ${log}
  `);
}

async function runTurn(): Promise<string> {
  const { view } = await bench.client.createSession({ workspace: bench.workspace });
  const script = [{ tool: 'shell', arguments: { command: 'echo hello' } }, { say: 'done' }];
  await bench.client.sendInput(view.id, { text: JSON.stringify(script) });
  await bench.follow(view.id, ({ type }) => type === 'turn.completed');
  return view.id;
}

type Line = Readonly<Record<string, unknown>>;
const toLines = (text: string): Line[] =>
  text.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as Line]));
const readState = (...path: string[]): string =>
  readFileSync(join(bench.stateDir, ...path), 'utf8');

async function stop(supervisor: Running): Promise<void> {
  supervisor.kill('SIGTERM');
  await supervisor.exited;
}

describe('[config:log.format] lines', () => {
  test('are text where that is written: time, level, event, key=value', async () => {
    open('format = "text"');
    const supervisor = await bench.start();
    const id = await runTurn();
    await stop(supervisor);
    const lines = supervisor.stderr().trimEnd().split('\n');
    const odd = lines.filter((line) => !/^\S+Z (ERROR|WARN |INFO |DEBUG) [\w.]+ room=/.test(line));
    expect(odd).toEqual([]);
    expect(supervisor.stderr()).toMatch(
      new RegExp(`INFO {2}worker\\.started room=supervisor session=${id} turn=0 generation=1`),
    );
  });

  test('of a host are lines of our log, with its session and turn', async () => {
    open('level = "info"');
    const supervisor = await bench.start();
    const id = await runTurn();
    await stop(supervisor);
    const lines = toLines(supervisor.stderr());
    expect(lines.find(({ event }) => event === 'sandbox.initialized')).toMatchObject({
      ...{ level: 'info', room: 'supervisor', session: id, turn: 1, child: 'sandbox' },
    });
    const own = toLines(readState('logs', id, 'worker.log'));
    expect(own.map(({ event }) => event)).toEqual(
      expect.arrayContaining(['worker.started', 'sandbox.initialized', 'worker.exited']),
    );
    for (const line of [...lines.filter(({ session }) => session !== undefined), ...own]) {
      expect({ line, session: line['session'], turn: typeof line['turn'] }).toEqual({
        ...{ line, session: id, turn: 'number' },
      });
    }
  });
});

describe('a secret [promise:no-secret-leaves]', () => {
  // What is said of every worker, as if it were a key: whoever writes it writes a secret.
  test('of the environment, or of the vault, is taken out of every line and file', async () => {
    open('level = "debug"');
    await runCli(bench, ['secret', 'set', 'VAULTED'], 'sandbox.initialized');
    const supervisor = await bench.start({ OPENAI_API_KEY: 'worker.started' });
    const id = await runTurn();
    await stop(supervisor);
    for (const text of [supervisor.stderr(), readState('logs', id, 'worker.log')]) {
      expect(text).toContain('"event":"[secret OPENAI_API_KEY]"');
      expect(text).toContain('"event":"[secret VAULTED]"');
      expect(text).not.toContain('worker.started');
      expect(text).not.toContain('sandbox.initialized');
    }
  });
});

describe('the audit log', () => {
  test('of a supervisor lies in its state directory, and says what was asked of it', async () => {
    open('level = "warn"');
    const supervisor = await bench.start();
    const id = await runTurn();
    await bench.client.close(id);
    await stop(supervisor);
    expect(toLines(readState('audit.log'))).toMatchObject([
      { by: 'socket', route: 'createSession', created: id, status: 201 },
      { by: 'socket', route: 'sendInput', on: { id }, status: 202 },
      { by: 'socket', route: 'close', on: { id }, status: 200 },
    ]);
    expect(readdirSync(join(bench.stateDir, 'logs'))).toEqual([id]);
  });
});
