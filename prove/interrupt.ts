/** Interrupt, suspend and close, while something runs that does not cooperate: the state is reached
 *  in time, and nothing of the call outlives it. */
import { createSeededRandom, type Random } from '../base/random.ts';
import type { EventEnvelope } from '../protocol/events.ts';
import { eventually, pause } from '../test/integration/processes.ts';
import {
  type ScriptedProvider,
  startScriptedProvider,
} from '../test/integration/scripted-provider.ts';
import { describe, findCookies, timeUntilNone } from './census.ts';
import { type Feed, isType, openFeed } from './feed.ts';
import type { Figure, Outcome, Proof, ProofOptions } from './proof.ts';
import { openStand, type Stand, toConfig } from './stand.ts';
import { type Beast, modelBeasts, toolBeasts, untilCallBegun } from './zoo.ts';

const ACTS = ['interrupt', 'suspend', 'close'] as const;
type Act = (typeof ACTS)[number];

/** Two sessions work side by side; the others idle. */
const LANES = 2;
const REACHED_MS = 1000;
const SURVIVED_MS = 5000;

interface Sample {
  readonly act: Act;
  readonly beast: Beast;
  readonly reachedMs: number;
  /** Until the call's last process was gone; undefined: it is a model, or it goes on. */
  readonly goneMs: number | undefined;
}

interface Campaign {
  readonly stand: Stand;
  readonly provider: ScriptedProvider;
  readonly random: Random;
  readonly samples: Sample[];
  readonly violations: string[];
}

interface Trial {
  readonly act: Act;
  readonly beast: Beast;
}

export const interrupt: Proof = {
  name: 'interrupt',
  claim: 'interrupt, suspend and close reach their state whatever a tool or a model does',
  runs: 20,
  async run(options) {
    const provider = await startScriptedProvider();
    const stand = await openStand(toConfig(provider.url), options);
    try {
      return await campaign(stand, provider, options);
    } finally {
      await stand.close();
      await provider.close();
    }
  },
};

async function campaign(
  stand: Stand,
  provider: ScriptedProvider,
  options: ProofOptions,
): Promise<Outcome> {
  const random = createSeededRandom(options.seed);
  const campaign: Campaign = { stand, provider, random, samples: [], violations: [] };
  const beasts = [...toolBeasts, ...modelBeasts];
  const trials = Array.from({ length: options.runs }, () =>
    ACTS.flatMap((act) => beasts.map((beast): Trial => ({ act, beast }))),
  ).flat();
  const all = trials.length;
  const lane = async (): Promise<void> => {
    for (let trial = trials.shift(); trial !== undefined; trial = trials.shift()) {
      await tryOnce(campaign, trial).catch((error: unknown) => {
        const { act, beast } = trial;
        campaign.violations.push(`${act} of what ${beast.name}: ${String(error).slice(0, 600)}`);
      });
      const done = all - trials.length;
      if (done % 100 === 0) options.onProgress(`${done} of ${all}`);
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  await checkAbandoned(campaign);
  return toOutcome(campaign, beasts);
}

/** A session, a call that begins, the act, its state, and nothing left. */
async function tryOnce(campaign: Campaign, { act, beast }: Trial): Promise<void> {
  const { stand, random, samples, violations } = campaign;
  const cookie = random.hex(6);
  const workspace = stand.bench.workspace;
  const { view } = await stand.client.createSession({ workspace, approve: 'all' });
  const feed = openFeed(stand.client, view.id);
  const script = [beast.toStep(cookie), { say: 'the end' }];
  await stand.client.sendInput(view.id, { text: JSON.stringify(script) });
  await untilBegun(feed, beast, cookie);
  await pause(random.next() * 50);
  const startMs = performance.now();
  const answered = stand.client[act](view.id);
  const reached = await feed.until(REACHED[act]);
  await answered;
  const lives = act === 'suspend' || beast.kind === 'model';
  const goneMs = lives ? undefined : await timeUntilGone(cookie);
  if (!lives && goneMs === undefined) {
    const left = describe(findCookies(cookie).map(({ pid }) => pid));
    violations.push(`${act} of what ${beast.name}: ${left} lives on`);
  }
  samples.push({
    ...{ act, beast, reachedMs: reached.atMs - startMs },
    goneMs: goneMs === undefined ? undefined : reached.atMs - startMs + goneMs,
  });
  const problem = await findProblem(campaign, act, view.id);
  if (problem !== undefined) violations.push(`${act} of what ${beast.name}: ${problem}`);
  feed.close();
  await stand.client.close(view.id);
  if ((await timeUntilGone(cookie)) === undefined) {
    violations.push(`${act} of what ${beast.name}: its processes outlive the closed session`);
  }
}

/** A suspended session's worker is given back: that is the last thing that happens. */
const REACHED: Readonly<Record<Act, (event: EventEnvelope) => boolean>> = {
  interrupt: isType('turn.completed'),
  suspend: ({ type, data }) =>
    type === 'session.residency' && (data as { to: string }).to === 'hibernated',
  close: ({ type, data }) => type === 'session.state' && (data as { to: string }).to === 'stopped',
};

/** State and activity. A flood may end its turn before it is suspended. */
const SHOWN: Readonly<Record<Act, readonly string[]>> = {
  interrupt: ['running, idle'],
  suspend: ['suspended, turn', 'suspended, idle'],
  close: ['stopped, idle'],
};

async function findProblem({ stand }: Campaign, act: Act, id: string): Promise<string | undefined> {
  const { state, activity } = await stand.client.getSession(id);
  const shown = `${state}, ${activity}`;
  if (SHOWN[act].includes(shown)) return undefined;
  return `the session is ${shown}, not ${SHOWN[act].join(' or ')}`;
}

async function untilBegun(feed: Feed, beast: Beast, cookie: string): Promise<void> {
  if (beast.kind === 'model') await feed.until(isType('model.started'));
  else await untilCallBegun(feed, { cookie, from: 0 });
}

const timeUntilGone = (cookie: string): Promise<number | undefined> =>
  timeUntilNone(() => findCookies(cookie).map(({ pid }) => pid), SURVIVED_MS);

/** Whoever was asked and is no longer listened to has been told so. */
async function checkAbandoned({ provider, samples, violations }: Campaign): Promise<void> {
  const asked = samples.filter(({ beast }) => beast.kind === 'model').length;
  await eventually(() => provider.abandoned() >= asked).catch(() => {
    violations.push(`${provider.abandoned()} of ${asked} requests to the provider were ended`);
  });
}

function toOutcome({ samples, violations, stand }: Campaign, beasts: readonly Beast[]): Outcome {
  const of = (act: Act): readonly Sample[] => samples.filter((sample) => sample.act === act);
  const figures = ACTS.flatMap((act): Figure[] => [
    {
      ...{ name: `${act} → its state`, unit: 'ms', bound: REACHED_MS },
      samples: of(act).map(({ reachedMs }) => reachedMs),
    },
    {
      ...{ name: `${act} → the call's processes gone`, unit: 'ms', bound: REACHED_MS },
      samples: of(act).flatMap(({ goneMs }) => goneMs ?? []),
    },
  ]).filter((figure) => !figure.name.startsWith('suspend → the call'));
  const each = beasts.map(
    (beast): Figure => ({
      ...{ name: `interrupt of what ${beast.name}`, unit: 'ms' },
      samples: of('interrupt')
        .filter((sample) => sample.beast === beast)
        .map(({ reachedMs }) => reachedMs),
    }),
  );
  return {
    counts: {
      'kinds that do not cooperate': beasts.length,
      ...Object.fromEntries(ACTS.map((act) => [`times ${act}`, of(act).length])),
    },
    figures: [...figures, ...each],
    violations,
    notes: stand.notes,
  };
}
