/** SIGTERM to a supervisor whose eight sessions are busy with streams and uncooperative tools: it
 *  ends in time, leaves what runs to those who are written down, and those end by their deadlines;
 *  the next supervisor goes on with every turn. A second SIGTERM does not wait. */
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { createSeededRandom, type Random } from '../base/random.ts';
import { pause } from '../test/integration/processes.ts';
import { startScriptedProvider } from '../test/integration/scripted-provider.ts';
import { describe, timeUntilNone } from './census.ts';
import { type Feed, isType, openFeed } from './feed.ts';
import type { Outcome, Proof, ProofOptions } from './proof.ts';
import { findStrangers, findUnknown } from './registry.ts';
import { openStand, type Stand, toConfig } from './stand.ts';
import { toolBeasts, untilCallBegun } from './zoo.ts';

const SESSIONS = 8;
const STOP_MS = 3000;
/** Of the second signal, until the process is gone. */
const FORCED_MS = 1000;
const TOOL_SECS_MAX = 3;
const STREAM_WORDS = 60;
const WORD_MS = 50;
/** The stream and the call end within 3 s; the rest is the host's own margin. */
const ORPHAN_MS_MAX = TOOL_SECS_MAX * 1000 + 15_000;
const UNKNOWN_MS_MAX = 5000;

interface Campaign {
  readonly stand: Stand;
  readonly random: Random;
  readonly feeds: readonly Feed[];
  readonly violations: string[];
  readonly stopMs: number[];
  readonly forcedMs: number[];
  readonly unknownMs: number[];
  readonly orphansMs: number[];
  turns: number;
}

export const stop: Proof = {
  name: 'stop',
  claim:
    'SIGTERM with 8 busy sessions ends the supervisor in time; only what is written down goes on',
  runs: 10,
  async run(options) {
    const provider = await startScriptedProvider();
    const config = toConfig(provider.url, `timeout_secs = ${TOOL_SECS_MAX}`);
    const stand = await openStand(config, options);
    try {
      return await campaign(stand, options);
    } finally {
      await stand.close();
      await provider.close();
    }
  },
};

async function campaign(stand: Stand, options: ProofOptions): Promise<Outcome> {
  const feeds: Feed[] = [];
  for (let number = 1; number <= SESSIONS; number += 1) {
    const workspace = stand.createWorkspace(`w${number}`);
    const { view } = await stand.client.createSession({ workspace, approve: 'all' });
    feeds.push(openFeed(stand.client, view.id));
  }
  const campaign: Campaign = {
    ...{ stand, feeds, random: createSeededRandom(options.seed), violations: [] },
    ...{ stopMs: [], forcedMs: [], unknownMs: [], orphansMs: [], turns: 0 },
  };
  for (let run = 0; run < options.runs * 2; run += 1) {
    await stopOnce(campaign, { run, isForced: run % 2 === 1 });
    options.onProgress(`${run + 1} of ${options.runs * 2} stops`);
  }
  for (const feed of feeds) feed.close();
  const { stopMs, forcedMs, unknownMs, orphansMs, violations, turns } = campaign;
  return {
    counts: {
      'stops by one SIGTERM': stopMs.length,
      'stops by two, while the first one drains': forcedMs.length,
      'sessions busy at each': SESSIONS,
      'turns that the next supervisor ended well': turns,
    },
    figures: [
      { name: 'SIGTERM → exit, 8 busy sessions', unit: 'ms', samples: stopMs, bound: STOP_MS },
      { name: 'second SIGTERM → exit', unit: 'ms', samples: forcedMs, bound: FORCED_MS },
      { name: 'exit → only the registered live', unit: 'ms', samples: unknownMs },
      { name: 'exit → nobody lives', unit: 'ms', samples: orphansMs, bound: ORPHAN_MS_MAX },
    ],
    violations,
    notes: stand.notes,
  };
}

interface Stop {
  readonly run: number;
  readonly isForced: boolean;
}

async function stopOnce(campaign: Campaign, stop: Stop): Promise<void> {
  const { stand, random, violations } = campaign;
  const place = `stop ${stop.run + 1}${stop.isForced ? ' (forced)' : ''}`;
  const places = campaign.feeds.map(({ seen }) => seen.length);
  await keepBusy(campaign, stop.run);
  await pause(random.next() * 300);
  const code = stop.isForced ? await stopByForce(campaign) : await stopOrderly(campaign);
  const expected = stop.isForced ? 1 : 0;
  if (code !== expected) violations.push(`${place}: exit ${code}, not ${expected}`);
  const unknownMs = await timeUntilNone(() => findUnknown(stand), UNKNOWN_MS_MAX);
  if (unknownMs === undefined) violations.push(`${place}: ${describe(findUnknown(stand))}`);
  else campaign.unknownMs.push(unknownMs);
  const orphansMs = await timeUntilNone(() => findStrangers(stand), ORPHAN_MS_MAX);
  if (orphansMs === undefined) {
    violations.push(`${place}: behind all deadlines: ${describe(findStrangers(stand))}`);
  } else campaign.orphansMs.push(orphansMs);
  await stand.start();
  const isEnd = isType('turn.completed');
  const ends = await Promise.all(campaign.feeds.map((feed, at) => feed.until(isEnd, places[at])));
  for (const { event } of ends) {
    if ((event.data as { outcome: string }).outcome === 'completed') campaign.turns += 1;
    else violations.push(`${place}: ${JSON.stringify(event)}`);
  }
}

/** One half streams, the other half has a tool that does not cooperate. */
async function keepBusy({ stand, feeds, random }: Campaign, run: number): Promise<void> {
  const words = Array.from({ length: STREAM_WORDS }, (_, at) => `w${at}`).join(' ');
  await Promise.all(
    feeds.map(async (feed, at) => {
      const from = feed.seen.length;
      const cookie = random.hex(6);
      const isTool = at % 2 === 0;
      const beast = toolBeasts[(run * SESSIONS + at) % toolBeasts.length];
      const step = isTool ? beast?.toStep(cookie) : { say: words, everyMs: WORD_MS };
      const text = JSON.stringify([step, { say: 'the end' }].slice(0, isTool ? 2 : 1));
      await stand.client.sendInput(feed.session, { text });
      if (!isTool) return void (await feed.until(isType('model.delta'), from));
      await untilCallBegun(feed, { cookie, from });
    }),
  );
}

async function stopOrderly({ stand, stopMs }: Campaign): Promise<number> {
  const { kill, exited } = stand.supervisor();
  const startMs = performance.now();
  kill('SIGTERM');
  const code = await exited;
  stopMs.push(performance.now() - startMs);
  return code;
}

/** It drains for as long as it may; the first signal asks it to stop, which it does already. */
async function stopByForce({ stand, forcedMs }: Campaign): Promise<number> {
  const { pid, kill, exited } = stand.supervisor();
  await stand.client.stop({ drain_secs: 60 });
  kill('SIGTERM');
  // Two that wait at once are one.
  while (isPending(pid, constants.signals.SIGTERM)) await pause(10);
  const startMs = performance.now();
  kill('SIGTERM');
  const code = await exited;
  forcedMs.push(performance.now() - startMs);
  return code;
}

/** The signal was sent, and the process has not had a turn since. */
function isPending(pid: number, signal: number): boolean {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const [, pending = '0'] = /^ShdPnd:\s+([0-9a-f]+)$/m.exec(status) ?? [];
  return ((BigInt(`0x${pending}`) >> BigInt(signal - 1)) & 1n) === 1n;
}
