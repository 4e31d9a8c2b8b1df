/** An upgrade: SIGTERM, another build, a start on the same state, with work of every kind under
 *  way and clients attached. Nobody loses anything; nothing is done twice. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import type { EventEnvelope } from '../../protocol/events.ts';
import { type Bench, countType, createBench, isGapless, type Running } from './harness.ts';
import { eventually } from './processes.ts';
import { type ScriptedProvider, startScriptedProvider } from './scripted-provider.ts';

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
  `);
  supervisor = await bench.start();
});

afterEach(async () => {
  await bench.close();
  await provider.close();
});

const stream = [{ say: 'one two three four five six', holdAfter: 3 }];
const tool = (name: string): readonly unknown[] => [
  { tool: 'shell', arguments: { command: `echo ${name} >> count; sleep 1; echo done` } },
  { say: 'the end' },
];

async function prompt(session: string, script: readonly unknown[]): Promise<void> {
  await bench.client.sendInput(session, { text: JSON.stringify(script) });
}

/** The build that takes over: another version of the same programs. */
function installNext(): string {
  const path = join(bench.dir, 'package.json');
  const manifest = JSON.parse(readFileSync(path, 'utf8')) as { version: string };
  const version = `${manifest.version}-next`;
  writeFileSync(path, JSON.stringify({ ...manifest, version }));
  return version;
}

test('under load: every session goes on, every client sees all of it once (FAULTS 66)', async () => {
  const sessions: string[] = [];
  const followed: EventEnvelope[][] = [];
  const stop = new AbortController();
  const open = async (): Promise<string> => {
    const { view } = await bench.client.createSession({ workspace: bench.workspace });
    const seen: EventEnvelope[] = [];
    const follow = async (): Promise<void> => {
      const events = bench.client.followEvents(view.id, { signal: stop.signal });
      for await (const event of events) seen.push(event);
    };
    follow().catch(() => undefined);
    sessions.push(view.id);
    followed.push(seen);
    return view.id;
  };
  for (let count = 0; count < 2; count += 1) await prompt(await open(), stream);
  for (const name of ['a', 'b']) await prompt(await open(), tool(name));
  const queued = await open();
  for (const word of ['first', 'second']) await prompt(queued, [{ say: word }]);
  await open();
  // Not the n-th request of all: whose comes first is not known.
  await eventually(() => followed.slice(0, 2).every((seen) => countType(seen, 'model.delta') > 0));
  await eventually(() => followed.slice(2, 4).every((seen) => countType(seen, 'tool.started') > 0));

  supervisor.kill('SIGTERM');
  expect(await supervisor.exited).toBe(0);
  const version = installNext();
  supervisor = await bench.start();
  expect((await bench.client.getStatus()).version).toBe(version);
  provider.release();
  const ends = [1, 1, 1, 1, 2, 0];
  await eventually(() =>
    followed.every((seen, at) => countType(seen, 'turn.completed') === ends[at]),
  );

  const journals = await Promise.all(sessions.map((session) => bench.events(session)));
  await eventually(() => followed.every((seen, at) => seen.length === journals[at]?.length));
  stop.abort();
  expect(followed).toEqual(journals);
  expect(journals.map(isGapless)).toEqual(journals.map(() => true));
  const all = journals.flat();
  for (const { data } of all.filter(({ type }) => type === 'turn.completed')) {
    expect(data).toMatchObject({ outcome: 'completed' });
  }
  // Requests equal attempts: nothing was asked for, or run, once more.
  expect(provider.requests).toHaveLength(countType(all, 'model.started'));
  expect(countType(all, 'model.started')).toBe(countType(all, 'model.completed'));
  const lines = readFileSync(join(bench.workspace, 'count'), 'utf8').trim().split('\n');
  expect(lines.sort()).toEqual(['a', 'b']);
});
