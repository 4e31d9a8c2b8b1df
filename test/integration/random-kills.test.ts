/** SIGKILL at random instants: of the supervisor, and of every link below a sandbox host. What the
 *  provider, the workspace and the process table say afterwards must be what the journal says. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { realClock } from '../../base/clock.ts';
import { listDescendants } from '../../base/process.ts';
import { createSeededRandom } from '../../base/random.ts';
import type { EventEnvelope } from '../../protocol/events.ts';
import { type Bench, countType, createBench, isGapless, type Running } from './harness.ts';
import {
  eventually,
  findGateways,
  findHosts,
  findRunning,
  findStrangers,
  pause,
  readName,
} from './processes.ts';
import { type ScriptedProvider, startScriptedProvider } from './scripted-provider.ts';

const WORDS = 'one two three four five six';
const shell = (command: string): unknown => ({ tool: 'shell', arguments: { command } });

let provider: ScriptedProvider;
let bench: Bench;
let supervisor: Running;

beforeEach(async () => {
  provider = await startScriptedProvider();
  bench = createBench(`
    [agent]
    model = "scripted"
    [agent.worker]
    warm_pool = 0
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

describe('kills at random instants', () => {
  const seed = process.env['SEED'] ?? `${process.pid}-${Math.round(realClock.nowMs())}`;
  const KILLS = 10;

  test.each([
    ['mid-stream', toStreams],
    ['mid-tool', toTools],
  ])('[promise:supervisor-dies] of the supervisor, in %s (FAULTS 23, 24)', async (name, toTurn) => {
    const random = createSeededRandom(`${seed}/${name}`);
    const { workspace } = bench;
    const views = [1, 2].map(() => bench.client.createSession({ workspace }));
    const sessions = (await Promise.all(views)).map(({ view }) => view.id);
    const stop = new AbortController();
    const followed = sessions.map((session) => collect(session, stop.signal));
    let sent = 0;
    const seqs = new Map<string, number>();
    // Also while an effect is waited for: what a session does may be the last of its turn.
    const keepBusy = async (): Promise<void> => {
      for (const session of sessions) {
        const view = await bench.client.getSession(session);
        if (!seqs.has(session)) seqs.set(session, view.last_seq);
        if (view.activity !== 'idle' || view.queued_inputs > 0) continue;
        sent += 1;
        await bench.client.sendInput(session, { text: JSON.stringify(toTurn(sent)) });
      }
    };
    for (let kill = 0; kill < KILLS; kill += 1) {
      seqs.clear();
      await eventually(async () => {
        await keepBusy();
        return hasBegun(seqs);
      });
      await pause(random.next() * 200);
      supervisor.kill('SIGKILL');
      await supervisor.exited;
      supervisor = await bench.start();
    }
    const countEnds = async (): Promise<number> => {
      const all = await Promise.all(sessions.map((session) => bench.events(session)));
      return all.reduce((sum, events) => sum + countType(events, 'turn.completed'), 0);
    };
    await eventually(async () => (await countEnds()) === sent);
    const journals = await Promise.all(sessions.map((session) => bench.events(session)));
    const facts = sum(journals);
    const counted = readLines();
    const expected = {
      seed,
      problems: [],
      requests: facts.models,
      twice: [],
      counted: facts.tools,
    };
    const problems = journals.flatMap(checkJournal);
    const twice = findTwice(counted);
    const requests = provider.requests.length;
    expect({ seed, problems, requests, twice, counted: counted.length }).toEqual(expected);
    await eventually(() =>
      followed.every(({ events }, at) => events.length >= (journals[at]?.length ?? 0)),
    );
    stop.abort();
    expect(followed.map(({ events }) => events)).toEqual(journals);
    expect(facts.adopted).toBeGreaterThanOrEqual(KILLS / 4);
    await eventually(
      () => findGateways(bench).length === 1 && findHosts(bench).length <= sessions.length,
    );
    await eventually(() => findStrangers(bench, supervisor.pid).length === 0);
  });

  test.each([
    ['the host', 1],
    ['anything below it', 0],
  ])('[promise:sandbox-dies] of %s: nothing survives', async (name, hostShare) => {
    const random = createSeededRandom(`${seed}/${name}`);
    const { view } = await bench.client.createSession({ workspace: bench.workspace });
    for (let trial = 1; trial <= KILLS; trial += 1) {
      const mark = `sleep 7${trial}.5`;
      const command = `${mark} & (setsid ${mark} &) ; ${mark}`;
      const text = JSON.stringify([shell(command), { say: WORDS }]);
      await bench.client.sendInput(view.id, { text });
      // Mostly in mid-call, now and then while the sandbox is being set up.
      if (random.next() < 0.8) await eventually(() => findRunning(mark).length >= 3);
      else await eventually(() => findHosts(bench).length > 0);
      await pause(random.next() * 20);
      const [host = 0] = findHosts(bench);
      const below = random.next() < hostShare ? [] : listDescendants(host);
      const victim = below[Math.floor(random.next() * below.length)] ?? host;
      const victimName = readName(victim);
      process.kill(victim, 'SIGKILL');
      if (victim === host) {
        await eventually(() => findRunning(mark).length === 0).catch((error: unknown) => {
          throw new Error(`SEED=${seed}: the host died, ${mark} did not: ${error}`);
        });
      }
      // Before its turn is open there is nothing to interrupt.
      await followTo(view.id, 'turn.started', trial);
      await bench.client.interrupt(view.id);
      await followTo(view.id, 'turn.completed', trial);
      await eventually(() => findRunning(mark).length === 0).catch((error: unknown) => {
        throw new Error(`SEED=${seed}: ${victimName} died, ${mark} did not: ${error}`);
      });
    }
    expect(isGapless(await bench.events(view.id))).toBe(true);
  });
});

/** Resolves at the n-th event of this type. */
async function followTo(session: string, type: string, count: number): Promise<void> {
  let seen = 0;
  await bench.follow(session, (event) => {
    if (event.type === type) seen += 1;
    return seen === count;
  });
}

function toStreams(): readonly unknown[] {
  return [{ say: Array.from({ length: 30 }, (_, index) => `w${index}`).join(' '), everyMs: 15 }];
}

/** Each call leaves a line of its own. */
function toTools(turn: number): readonly unknown[] {
  const count = (call: number): unknown =>
    shell(`echo ${turn}.${call} >> count; sleep 0.4; echo done`);
  return [count(1), count(2), { say: WORDS }];
}

/** Has an effect begun behind these sequence numbers? */
async function hasBegun(seqs: ReadonlyMap<string, number>): Promise<boolean> {
  const types = ['model.delta', 'tool.started'];
  const pages = [...seqs].map(([session, since]) =>
    bench.client.readEvents(session, { since, types }),
  );
  return (await Promise.all(pages)).some(({ events }) => events.length > 0);
}

function sum(journals: readonly (readonly EventEnvelope[])[]): {
  readonly models: number;
  readonly tools: number;
  readonly adopted: number;
} {
  const all = journals.flat();
  return {
    models: countType(all, 'model.started'),
    tools: countType(all, 'tool.started'),
    adopted: countType(all, 'effect.adopted'),
  };
}

function readLines(): readonly string[] {
  const path = join(bench.workspace, 'count');
  return existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n') : [];
}

function findTwice(lines: readonly string[]): readonly string[] {
  return lines.filter((line, index) => lines.indexOf(line) !== index);
}

/** What must not be in the journal of a session whose supervisor alone was killed. */
function checkJournal(events: readonly EventEnvelope[]): readonly string[] {
  const problems: string[] = [];
  if (!isGapless(events)) problems.push('not gapless');
  const starts = events.filter(({ type }) => type === 'model.started' || type === 'tool.started');
  const effects = starts.map(toEffect);
  for (const effect of findTwice(effects)) problems.push(`${effect} was started twice`);
  for (const event of events) {
    const { type, data } = event;
    const { status, outcome } = data as { status?: string; outcome?: string };
    const effect = toEffect(event);
    if (type === 'tool.completed' && status !== 'ok') problems.push(`${effect} is ${status}`);
    if (type === 'model.failed') problems.push(`${effect} failed`);
    if (type === 'turn.completed' && outcome !== 'completed') problems.push(`a turn is ${outcome}`);
  }
  return problems;
}

function toEffect({ turn, data }: EventEnvelope): string {
  const { call_id: call, step } = data as { call_id?: string; step?: number };
  return call ?? `${turn}.${step}`;
}

function collect(session: string, signal: AbortSignal): { readonly events: EventEnvelope[] } {
  const events: EventEnvelope[] = [];
  const read = async (): Promise<void> => {
    for await (const event of bench.client.followEvents(session, { signal })) events.push(event);
  };
  read().catch(() => undefined);
  return { events };
}
