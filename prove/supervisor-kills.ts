/** SIGKILL of the supervisor alone, again and again, in mid-stream and mid-tool under load. Judged
 *  by the checkers of `prx-supervisor chaos`, and by the stricter words that hold where nothing
 *  else dies: each step is paid once, each call runs once and is known, and who lives on is
 *  written down. */
import { realClock } from '../base/clock.ts';
import { createSeededRandom, type Random } from '../base/random.ts';
import { checkHistory } from '../chaos/checks/all.ts';
import { type StreamClient, startClient } from '../chaos/clients.ts';
import { createHistory, type History, ofType, type SentInput } from '../chaos/history.ts';
import { type ModelServer, startModelServer } from '../chaos/model-server.ts';
import { createTurnScript, EFFECTS_FILE, type TurnScript } from '../chaos/script.ts';
import { countEffects } from '../chaos/world.ts';
import type { EventEnvelope } from '../protocol/events.ts';
import { eventually, pause } from '../test/integration/processes.ts';
import { describe, timeUntilNone } from './census.ts';
import type { Outcome, Proof, ProofOptions } from './proof.ts';
import { findStrangers, findUnknown } from './registry.ts';
import { openStand, type Stand, toConfig } from './stand.ts';

const SESSIONS = 6;
const CLIENTS_PER_SESSION = 2;
const TOOL_SECS = 1;
const TOOL_SECS_MAX = 10;
/** A kill comes this long after the ready line at the latest, ms. */
const LIFE_MS_MAX = 1500;
const SETTLE_MS = 60_000;
/** One kill in so many falls into a stream, and one into a call: else too little was shown. Of a
 *  few kills that is chance. */
const ENOUGH = 3;
const FEW = 20;
/** What a call may add to its time limit, and what a sweep adds to that. */
const ORPHAN_MS_MAX = TOOL_SECS_MAX * 1000 + 20_000;

interface Campaign {
  readonly stand: Stand;
  readonly model: ModelServer;
  readonly options: ProofOptions;
  readonly random: Random;
  readonly violations: string[];
  readonly workspaces: string[];
  readonly sessions: string[];
  readonly inputs: SentInput[];
  readonly clients: StreamClient[];
  /** Ids of inputs whose end some client has seen. */
  readonly ended: Set<string>;
  readonly kills: { readonly wallMs: number; readonly pid: number }[];
  readonly startsMs: number[];
  readonly readyMs: number[];
  readonly knownMs: number[];
  reconnects: number;
}

export const supervisorKills: Proof = {
  name: 'supervisor-kills',
  claim: 'SIGKILL of the supervisor under load: all is paid once, run once, seen once',
  runs: 200,
  async run(options) {
    const model = await startModelServer(realClock);
    const config = toConfig(model.url, `timeout_secs = ${TOOL_SECS_MAX}`);
    const stand = await openStand(config, options);
    try {
      return await campaign(stand, model, options);
    } finally {
      await stand.close();
      await model.close();
    }
  },
};

async function campaign(stand: Stand, model: ModelServer, options: ProofOptions): Promise<Outcome> {
  const campaign: Campaign = {
    ...{ stand, model, options },
    random: createSeededRandom(options.seed),
    ...{ violations: [], workspaces: [], sessions: [], inputs: [], clients: [], kills: [] },
    ...{ startsMs: [realClock.wallMs()], readyMs: [], knownMs: [], reconnects: 0 },
    ended: new Set(),
  };
  const stopping = new AbortController();
  const loads: Promise<void>[] = [];
  for (let number = 1; number <= SESSIONS; number += 1) {
    const workspace = stand.createWorkspace(`w${number}`, EFFECTS_FILE);
    const { view } = await stand.client.createSession({ workspace, approve: 'all' });
    campaign.workspaces.push(workspace);
    campaign.sessions.push(view.id);
    watch(campaign, view.id);
    loads.push(work(campaign, view.id, stopping.signal));
  }
  await killAll(campaign);
  stopping.abort();
  await Promise.all(loads);
  const orphansMs = await awaitOrphans(campaign);
  const history = await collect(campaign);
  return judge(campaign, history, orphansMs);
}

function watch(campaign: Campaign, session: string): void {
  const { stand, options } = campaign;
  for (let number = 1; number <= CLIENTS_PER_SESSION; number += 1) {
    const client = startClient({
      ...{ session, name: `${session}/${number}`, seed: options.seed, clock: realClock },
      connect: () => stand.client,
      onEvent({ type, data }) {
        if (type !== 'turn.completed') return;
        campaign.ended.add((data as { input_id: string }).input_id);
      },
      onReconnect() {
        campaign.reconnects += 1;
      },
    });
    campaign.clients.push(client);
  }
}

/** One input after the other, each with a key, sent again until it is answered. */
async function work(campaign: Campaign, session: string, signal: AbortSignal): Promise<void> {
  const random = createSeededRandom(`${campaign.options.seed}/${session}`);
  for (let turn = 1; !signal.aborted; turn += 1) {
    const key = `${session}-${turn}`;
    const sleepMark = `300.${Number.parseInt(random.hex(6), 16)}`;
    const script = slowDown(createTurnScript({ key, random, sleepMark }));
    const inputId = await send(campaign, { session, key, text: JSON.stringify(script) });
    const isEnded = (): boolean => campaign.ended.has(inputId);
    // While supervisors die it may take as long as it likes; behind the last one it may not.
    while (!signal.aborted && !isEnded()) await pause(20);
    await eventually(isEnded, SETTLE_MS).catch(() => {
      campaign.violations.push(`input ${key} has no end ${SETTLE_MS} ms behind the last kill`);
    });
  }
}

/** The provider never fails, and both it and the tools take their time: to be killed in. */
function slowDown(script: TurnScript): TurnScript {
  const steps = script.steps.map((step) => ({
    ...step,
    faults: [],
    pauseMs: 20 + step.pauseMs,
    calls: step.calls.map((call) => {
      const { command } = call.arguments;
      if (typeof command !== 'string') return call;
      return { ...call, arguments: { command: `${command}; sleep ${TOOL_SECS}` } };
    }),
  }));
  return { ...script, steps };
}

interface Sending {
  readonly session: string;
  readonly key: string;
  readonly text: string;
}

async function send(campaign: Campaign, { session, key, text }: Sending): Promise<string> {
  for (;;) {
    try {
      const input = { text, idempotency_key: key };
      const { input_id, seq } = await campaign.stand.client.sendInput(session, input);
      campaign.inputs.push({ session, key, answers: [{ input_id, seq }], refused: false });
      return input_id;
    } catch {
      // There is no supervisor now, or it died before it answered: the key makes this safe.
      await pause(20);
    }
  }
}

async function killAll(campaign: Campaign): Promise<void> {
  const { stand, random, options, kills } = campaign;
  for (let kill = 1; kill <= options.runs; kill += 1) {
    await pause(random.next() * LIFE_MS_MAX);
    const { pid, kill: signal, exited } = stand.supervisor();
    kills.push({ wallMs: realClock.wallMs(), pid });
    signal('SIGKILL');
    await exited;
    const diedMs = performance.now();
    campaign.startsMs.push(realClock.wallMs());
    await stand.start();
    campaign.readyMs.push(performance.now() - diedMs);
    const unknownMs = await timeUntilNone(() => findUnknown(stand), SETTLE_MS);
    if (unknownMs === undefined) {
      campaign.violations.push(`after kill ${kill}: ${describe(findUnknown(stand))}`);
    } else campaign.knownMs.push(performance.now() - diedMs);
    if (kill % 20 === 0) options.onProgress(`${kill} of ${options.runs} kills`);
  }
}

/** From the last kill until nobody is left of all the earlier lives. */
async function awaitOrphans(campaign: Campaign): Promise<number> {
  const { stand, kills, violations } = campaign;
  const waitedMs = realClock.wallMs() - (kills.at(-1)?.wallMs ?? 0);
  const find = (): readonly number[] => findStrangers(stand);
  const moreMs = await timeUntilNone(find, ORPHAN_MS_MAX);
  if (moreMs === undefined) violations.push(`behind all deadlines: ${describe(find())}`);
  return waitedMs + (moreMs ?? ORPHAN_MS_MAX);
}

async function collect(campaign: Campaign): Promise<History> {
  const { stand, clients, inputs, model } = campaign;
  const journals = new Map<string, readonly EventEnvelope[]>();
  for (const session of campaign.sessions) journals.set(session, await stand.bench.events(session));
  const lengthOf = (session: string): number => journals.get(session)?.length ?? 0;
  const hasAll = (client: StreamClient): boolean =>
    client.isBroken() || client.lastSeq() >= lengthOf(client.log().session);
  // Who is still behind is found by the checker.
  await eventually(() => clients.every(hasAll), SETTLE_MS).catch(() => undefined);
  await Promise.all(clients.map((client) => client.stop()));
  return createHistory({
    journals,
    clients: clients.map((client) => {
      const log = client.log();
      return { ...log, digests: log.digests.slice(0, lengthOf(log.session)) };
    }),
    inputs,
    effects: countEffects(campaign.workspaces),
    requests: model.requests,
    faults: campaign.kills.map(({ wallMs, pid }) => ({
      ...{ kind: 'kill supervisor', pid, fromMs: wallMs, toMs: wallMs },
    })),
    startsMs: campaign.startsMs,
  });
}

function judge(campaign: Campaign, history: History, orphansMs: number): Outcome {
  const { stand, violations, kills, options } = campaign;
  const found = checkHistory(history).map(
    ({ check, session = '', message }) => `${check} ${session}: ${message}`,
  );
  const known = history.facts.flatMap((facts) => facts.known);
  const [streams, tools] = countInFlight(
    history,
    kills.map(({ wallMs }) => wallMs),
  );
  const tooFew = [
    { what: 'mid-stream', count: streams },
    { what: 'mid-tool', count: tools },
  ].filter(({ count }) => options.runs > FEW && count * ENOUGH < options.runs);
  const calls = ofType(known, 'tool.completed');
  return {
    counts: {
      'SIGKILL of the supervisor': kills.length,
      'of them in mid-stream': streams,
      'of them in mid-tool': tools,
      'turns completed': ofType(known, 'turn.completed').length,
      'model steps completed': ofType(known, 'model.completed').length,
      'requests that the provider counted': history.requests.length,
      'tool calls ended': calls.length,
      'effects counted in the workspaces': [...history.effects.values()].reduce(add, 0),
      'effects adopted': ofType(known, 'effect.adopted').length,
      'stream clients': history.clients.length,
      'their reconnects': campaign.reconnects,
      'events that each client had to have': [...history.journals.values()].flat().length,
    },
    figures: [
      { name: 'death → next supervisor ready', unit: 'ms', samples: campaign.readyMs },
      {
        name: 'death → nobody unknown to the registry (a new start included)',
        unit: 'ms',
        samples: campaign.knownMs,
      },
      {
        name: 'last death → no orphan',
        unit: 'ms',
        samples: [orphansMs],
        bound: ORPHAN_MS_MAX,
      },
    ],
    violations: [
      ...violations,
      ...found,
      ...findUnpaid(history),
      ...findUncertain(history),
      ...tooFew.map(({ what, count }) => `only ${count} of ${options.runs} kills came in ${what}`),
    ],
    notes: stand.notes,
  };
}

const add = (one: number, other: number): number => one + other;

/** How many of these moments fell into a model call, and how many into a tool call. */
function countInFlight(
  { facts }: History,
  moments: readonly number[],
): readonly [streams: number, tools: number] {
  const spansOf = (
    begin: 'model.started' | 'tool.started',
    end: 'model.completed' | 'tool.completed',
  ): readonly (readonly [number, number])[] =>
    facts.flatMap(({ known }) => {
      const ends = ofType(known, end);
      return ofType(known, begin).flatMap((started) => {
        const ended = ends.find((each) => each.seq > started.seq && isSame(started, each));
        return ended === undefined ? [] : [[Date.parse(started.time), Date.parse(ended.time)]];
      });
    });
  const count = (spans: readonly (readonly [number, number])[]): number =>
    moments.filter((ms) => spans.some(([fromMs, toMs]) => fromMs <= ms && ms < toMs)).length;
  return [
    count(spansOf('model.started', 'model.completed')),
    count(spansOf('tool.started', 'tool.completed')),
  ];
}

function isSame(one: EventEnvelope, other: EventEnvelope): boolean {
  const [a, b] = [one.data, other.data] as { step?: number; call_id?: string }[];
  return one.turn === other.turn && a?.step === b?.step && a?.call_id === b?.call_id;
}

/** Nothing but the supervisor died: one request a step, not one more, not one less. */
function findUnpaid({ requests }: History): readonly string[] {
  const counts = new Map<string, number>();
  for (const { key, index } of requests) {
    const place = `step ${index} of ${key}`;
    counts.set(place, (counts.get(place) ?? 0) + 1);
  }
  return [...counts]
    .filter(([, count]) => count !== 1)
    .map(([place, count]) => `${place} was paid ${count} times`);
}

/** And no call's outcome was lost with it. */
function findUncertain({ facts }: History): readonly string[] {
  return facts.flatMap(({ session, known }) =>
    ofType(known, 'tool.completed')
      .filter(({ data }) => data.status !== 'ok')
      .map(({ data }) => {
        const said = data.output.slice(-200);
        return `call ${data.call_id} of ${session} ended as ${data.status}: ${said}`;
      }),
  );
}
