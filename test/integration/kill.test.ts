/** Whatever dies, the turn ends as if nothing had happened: HOUSE section 6, row by row. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { findIdentity, listDescendants } from '../../base/process.ts';
import type { EventEnvelope } from '../../protocol/events.ts';
import {
  type Bench,
  countType,
  createBench,
  isGapless,
  killQuietly,
  type Running,
  shownText,
  toTranscript,
} from './harness.ts';
import { eventually, findHosts } from './processes.ts';
import { type ScriptedProvider, startScriptedProvider } from './scripted-provider.ts';

const WORDS = 'one two three four five six';
const counting = (seconds: number): unknown => ({
  tool: 'shell',
  arguments: { command: `echo ran >> count; sleep ${seconds}; echo done` },
});

let provider: ScriptedProvider;
let bench: Bench;
let supervisor: Running;

beforeEach(async () => {
  provider = await startScriptedProvider();
  bench = createBench(`
    [agent]
    model = "scripted"
    [provider]
    base_url = "${provider.url}"
    [log]
    level = "warn"
  `);
  supervisor = await bench.start();
});

afterEach(async () => {
  await bench.close();
  await provider.close();
});

async function prompt(script: readonly unknown[]): Promise<string> {
  const { view } = await bench.client.createSession({ workspace: bench.workspace });
  await bench.client.sendInput(view.id, { text: JSON.stringify(script) });
  return view.id;
}

const isEnd = (event: EventEnvelope): boolean => event.type === 'turn.completed';
const findPid = (events: readonly EventEnvelope[]): number => {
  const started = events.findLast((event) => event.type === 'worker.started');
  return (started?.data as { pid: number } | undefined)?.pid ?? 0;
};
const readCount = (): string => {
  const path = join(bench.workspace, 'count');
  return existsSync(path) ? readFileSync(path, 'utf8') : '';
};
const finish = (session: string): Promise<readonly EventEnvelope[]> => bench.follow(session, isEnd);
const untilType = (session: string, type: string, count = 1): Promise<readonly EventEnvelope[]> => {
  let seen = 0;
  return bench.follow(session, (event) => {
    if (event.type === type) seen += 1;
    return seen >= count;
  });
};

describe('SIGKILL of the worker', () => {
  test('in mid-stream: the model is asked once, the text is whole, the sequence gapless (FAULTS 34)', async () => {
    const session = await prompt([{ say: WORDS, holdAfter: 3 }]);
    await provider.held(1);
    process.kill(findPid(await untilType(session, 'model.delta')), 'SIGKILL');
    await untilType(session, 'worker.started', 2);
    provider.release();
    const events = await finish(session);
    expect(provider.requests).toEqual([0]);
    expect(shownText(events, 1)).toBe(WORDS);
    expect(isGapless(events)).toBe(true);
    expect(events.at(-1)?.data).toMatchObject({ outcome: 'completed', steps: 1 });
  });

  test('in mid-tool: the tool runs once and the transcript equals the undisturbed one', async () => {
    const script = [counting(0.5), { say: WORDS }];
    const session = await prompt(script);
    const started = await untilType(session, 'tool.started');
    process.kill(findPid(started), 'SIGKILL');
    const events = await finish(session);
    expect(readCount()).toBe('ran\n');
    expect(provider.requests).toEqual([0, 1]);
    expect(countType(events, 'worker.exited')).toBe(1);
    const undisturbed = await finish(await prompt(script));
    expect(toTranscript(events)).toEqual(toTranscript(undisturbed));
  });

  test('between turns: the next input is answered by another worker (FAULTS 1)', async () => {
    const session = await prompt([{ say: 'first' }]);
    process.kill(findPid(await finish(session)), 'SIGKILL');
    await untilType(session, 'worker.exited');
    await bench.client.sendInput(session, { text: JSON.stringify([{ say: 'second' }]) });
    const events = await untilType(session, 'turn.completed', 2);
    expect(events.at(-1)?.data).toMatchObject({ outcome: 'completed', turn: 2 });
    expect(isGapless(events)).toBe(true);
  });
});

describe('SIGKILL of the gateway', () => {
  test('in mid-stream: one new attempt supersedes the text, the two are never joined', async () => {
    const session = await prompt([{ say: WORDS, holdAfter: 3 }]);
    await provider.held(1);
    await untilType(session, 'model.delta');
    const processes = await bench.client.listProcesses();
    process.kill(processes.find((each) => each.kind === 'gateway')?.pid ?? 0, 'SIGKILL');
    provider.release();
    const events = await finish(session);
    expect(provider.requests).toEqual([0, 0]);
    expect(countType(events, 'model.started')).toBe(2);
    expect(shownText(events, 1)).toBe(WORDS);
    expect(events.at(-1)?.data).toMatchObject({ outcome: 'completed' });
  });
});

describe('SIGKILL of the sandbox host', () => {
  test('in mid-tool: nothing is left, and the call is reported as indeterminate, not repeated (FAULTS 61)', async () => {
    const session = await prompt([counting(30), { say: WORDS }]);
    await untilType(session, 'tool.started');
    await waitForCount();
    const processes = await bench.client.listProcesses(session);
    process.kill(processes.find((each) => each.kind === 'sandbox')?.pid ?? 0, 'SIGKILL');
    const events = await finish(session);
    const completed = events.find((event) => event.type === 'tool.completed');
    expect(completed?.data).toMatchObject({ status: 'indeterminate' });
    expect(readCount()).toBe('ran\n');
    expect(events.at(-1)?.data).toMatchObject({ outcome: 'completed' });
  });
});

describe('SIGKILL of the cell', () => {
  test('as it starts: another one runs the call, once', async () => {
    const session = await prompt([counting(0), { say: WORDS }]);
    await eventually(() => findHosts(bench).length > 0);
    const [host = 0] = findHosts(bench);
    // It is ready in some tens of milliseconds: looked for without a pause. On a starved machine it
    // is hit when it was ready already: then its host makes another, else it ends with its cell.
    while (listDescendants(host).length === 0) await new Promise(setImmediate);
    const killed = listDescendants(host);
    for (const pid of killed) killQuietly(pid);
    const events = await finish(session);
    const completed = events.find((event) => event.type === 'tool.completed');
    expect(completed?.data).toMatchObject({ status: 'ok' });
    expect(countType(events, 'tool.started')).toBe(1);
    expect(readCount()).toBe('ran\n');
    expect(killed.filter((pid) => findIdentity(pid) !== undefined)).toEqual([]);
  });
});

describe('SIGKILL of the supervisor', () => {
  test('[event:effect.adopted] in mid-stream: the next one adopts the answer that was paid for', async () => {
    const session = await prompt([{ say: WORDS, holdAfter: 3 }]);
    await provider.held(1);
    const before = await untilType(session, 'model.delta');
    supervisor.kill('SIGKILL');
    await supervisor.exited;
    supervisor = await bench.start();
    provider.release();
    const events = await finish(session);
    expect(events.slice(0, before.length)).toEqual(before);
    expect(provider.requests).toEqual([0]);
    expect(shownText(events, 1)).toBe(WORDS);
    expect(isGapless(events)).toBe(true);
    expect(countType(events, 'effect.adopted')).toBe(1);
  });

  test('in mid-tool: the call goes on, its outcome is found, it runs once', async () => {
    const session = await prompt([counting(1), { say: WORDS }]);
    await waitForCount();
    supervisor.kill('SIGKILL');
    await supervisor.exited;
    supervisor = await bench.start();
    const events = await finish(session);
    expect(readCount()).toBe('ran\n');
    expect(provider.requests).toEqual([0, 1]);
    const completed = events.find((event) => event.type === 'tool.completed');
    expect(completed?.data).toMatchObject({ status: 'ok', exit_code: 0 });
    expect(shownText(events, 2)).toBe(WORDS);
    expect(isGapless(events)).toBe(true);
  });

  test('when it stops, no process of ours is left', async () => {
    const session = await prompt([counting(0), { say: WORDS }]);
    await finish(session);
    supervisor.kill('SIGTERM');
    expect(await supervisor.exited).toBe(0);
    await eventually(() => bench.leftovers().length === 0);
  });
});

/** The command has begun to act: its counter is there. */
const waitForCount = (): Promise<void> => eventually(() => readCount() !== '');
