/** SIGKILL of a sandbox host, or of any link below it, at random instants: everything that depends
 *  on the victim dies with it. */

import {
  findIdentity,
  listDescendants,
  type ProcessIdentity,
  signalIdentity,
} from '../base/process.ts';
import { createSeededRandom, type Random } from '../base/random.ts';
import { drawInt } from '../chaos/choice.ts';
import { listChildren } from '../sandbox/launch/process-tree.ts';
import { isGapless } from '../test/integration/harness.ts';
import { pause, readName } from '../test/integration/processes.ts';
import { startScriptedProvider } from '../test/integration/scripted-provider.ts';
import { describe, findCookies, findSurvivors, listDoomed, timeUntilNone } from './census.ts';
import { type Feed, isType, openFeed } from './feed.ts';
import type { Outcome, Proof, ProofOptions } from './proof.ts';
import { openStand, type Stand, toConfig } from './stand.ts';
import { toolBeasts, untilCallBegun } from './zoo.ts';

const KINDS = ['host', 'cell', 'spawner', 'call'] as const;
type Kind = (typeof KINDS)[number];

/** Sessions side by side. */
const LANES = 3;
/** A transcript with the output of more floods than this is no small one. */
const RUNS_PER_SESSION = 20;
/** "At once": the kernel's own doing, seen by a look every few milliseconds. */
const AT_ONCE_MS = 1000;
/** Who is seen for this long has survived, ms; a busy machine takes a while to end a hundred. */
const SURVIVED_MS = 5000;
const TRIES_MAX = 100;

interface Campaign {
  readonly stand: Stand;
  readonly random: Random;
  readonly violations: string[];
  readonly kills: Record<Kind, number>;
  readonly gone: Record<Kind, number[]>;
  /** Kills that fell into a running call, and into a sandbox being built or waiting. */
  readonly during: { call: number; other: number };
}

export const killsBelowHost: Proof = {
  name: 'kills-below-host',
  claim: 'SIGKILL of host, cell, spawner or call at random instants leaves no survivor',
  runs: 500,
  async run(options) {
    const provider = await startScriptedProvider();
    const stand = await openStand(toConfig(provider.url), options);
    try {
      return await campaign(stand, options);
    } finally {
      await stand.close();
      await provider.close();
    }
  },
};

async function campaign(stand: Stand, options: ProofOptions): Promise<Outcome> {
  const campaign: Campaign = {
    stand,
    random: createSeededRandom(options.seed),
    violations: [],
    kills: { host: 0, cell: 0, spawner: 0, call: 0 },
    gone: { host: [], cell: [], spawner: [], call: [] },
    during: { call: 0, other: 0 },
  };
  let next = 0;
  const runLane = async (lane: number): Promise<void> => {
    for (let session = 1; next < options.runs; session += 1) {
      const workspace = stand.createWorkspace(`w${lane}-${session}`);
      const { view } = await stand.client.createSession({ workspace, approve: 'all' });
      const feed = openFeed(stand.client, view.id);
      for (let left = RUNS_PER_SESSION; left > 0 && next < options.runs; left -= 1) {
        const run = next;
        next += 1;
        await killOnce(campaign, feed, run);
        if (run % 50 === 49) options.onProgress(`${run + 1} of ${options.runs} kills`);
      }
      checkJournal(campaign, feed);
      feed.close();
      await stand.client.close(view.id);
    }
  };
  await Promise.all(Array.from({ length: LANES }, (_, lane) => runLane(lane)));
  await checkStop(campaign);
  const { kills, gone, during, violations } = campaign;
  return {
    counts: {
      ...Object.fromEntries(KINDS.map((kind) => [`SIGKILL of a ${kind}`, kills[kind]])),
      'of them in mid-call': during.call,
      'of them before or after one': during.other,
      survivors: violations.length,
    },
    figures: KINDS.filter((kind) => gone[kind].length > 0).map((kind) => ({
      name: `${kind}: SIGKILL → nothing left`,
      unit: 'ms',
      samples: gone[kind],
      bound: AT_ONCE_MS,
    })),
    violations,
    notes: stand.notes,
  };
}

/** One input whose call never ends, one kill, the look, and the turn's end. */
async function killOnce(campaign: Campaign, feed: Feed, run: number): Promise<void> {
  const { stand, random } = campaign;
  const kind = KINDS[run % KINDS.length] ?? 'host';
  const beast = toolBeasts[Math.floor(run / KINDS.length) % toolBeasts.length];
  if (beast === undefined) throw new Error('the zoo is empty');
  const cookie = random.hex(6);
  const from = feed.seen.length;
  const script = [beast.toStep(cookie), { say: 'the end' }];
  await stand.client.sendInput(feed.session, { text: JSON.stringify(script) });
  // Mostly in mid-call, now and then while the sandbox is being set up.
  if (random.next() < 0.8) {
    await untilCallBegun(feed, { cookie, from });
    await pause(random.next() * 30);
  } else await pause(random.next() * 120);
  const victim = await strike(campaign, { feed, kind, cookie });
  const place = `run ${run}: ${victim?.name ?? 'nobody'} (${kind}) of a tool that ${beast.name}`;
  if (victim !== undefined) {
    const goneMs = await timeUntilNone(() => findSurvivors(victim.doomed), SURVIVED_MS);
    if (goneMs === undefined) {
      const left = describe(findSurvivors(victim.doomed));
      campaign.violations.push(`${place}: survived by ${left}`);
    } else campaign.gone[kind].push(goneMs);
    campaign.kills[kind] += 1;
  }
  // Where nobody was killed, or it was not the call's own, the call still runs.
  await feed.until(isType('turn.started'), from);
  await stand.client.interrupt(feed.session);
  await feed.until(isType('turn.completed'), from);
  const left = await timeUntilNone(() => pidsOf(findCookies(cookie)), SURVIVED_MS);
  if (left === undefined) {
    campaign.violations.push(`${place}: the turn ended, ${describe(pidsOf(findCookies(cookie)))}`);
  }
}

const pidsOf = (identities: readonly ProcessIdentity[]): number[] =>
  identities.map(({ pid }) => pid);

interface Aim {
  readonly feed: Feed;
  readonly kind: Kind;
  readonly cookie: string;
}

interface Victim {
  readonly name: string;
  readonly doomed: ReturnType<typeof listDoomed>;
}

/** Undefined: there was none in time, which the counts show. */
async function strike(campaign: Campaign, aim: Aim): Promise<Victim | undefined> {
  const { stand } = campaign;
  for (let left = TRIES_MAX; left > 0; left -= 1) {
    const processes = await stand.client.listProcesses(aim.feed.session);
    const host = processes.find((each) => each.kind === 'sandbox')?.pid;
    const target = host === undefined ? undefined : choose(campaign, aim, host);
    if (target !== undefined) {
      const isInCall = findCookies(aim.cookie).length > 0;
      // A call that has not begun may rightly begin in the next sandbox.
      const isOver = isInCall && target.endsCall;
      const doomed = listDoomed(target.root, isOver ? aim.cookie : undefined);
      const name = readName(target.victim.pid);
      if (signalIdentity(target.victim, 'SIGKILL')) {
        campaign.during[isInCall ? 'call' : 'other'] += 1;
        return { name, doomed: withoutHost(doomed, target.victim.pid, host) };
      }
    }
    await pause(10);
  }
  return undefined;
}

/** The host itself may well survive its cell. */
function withoutHost(
  doomed: Victim['doomed'],
  victim: number,
  host: number | undefined,
): Victim['doomed'] {
  if (victim === host) return doomed;
  return { ...doomed, identities: doomed.identities.filter(({ pid }) => pid !== host) };
}

interface Target {
  readonly victim: ProcessIdentity;
  /** All of this process's tree dies with the victim. */
  readonly root: number;
  /** The call that runs dies with it. */
  readonly endsCall: boolean;
}

/** The links below a host: 1 the cell, 2 its spawner, 3 a sandbox's monitor, 4 its first process,
 *  5 the shell of the call. */
function choose(campaign: Campaign, { kind, cookie }: Aim, host: number): Target | undefined {
  const levels = toLevels(host);
  const only = (pid: number | undefined, root: number): Target | undefined => {
    const victim = pid === undefined ? undefined : findIdentity(pid);
    return victim === undefined ? undefined : { victim, root, endsCall: true };
  };
  if (kind === 'host') return only(host, host);
  // Beside a cell that ends, the next may be starting, and that one lives on.
  const cell = levels[1]?.[0];
  if (cell === undefined || kind === 'cell') return only(cell, cell ?? host);
  // What prepares a cell may have a helper, and be a cell all the same when that one has died.
  const isPrepared = readName(cell) === 'bwrap';
  const spawner = listChildren(cell)[0];
  if (kind === 'spawner') return isPrepared ? only(spawner, cell) : only(spawner, spawner ?? cell);
  const cookies = new Set(pidsOf(findCookies(cookie)));
  const monitors = levels[3] ?? [];
  const own = monitors.find((pid) => listDescendants(pid).some((below) => cookies.has(below)));
  const monitor = own ?? monitors[drawInt(campaign.random, 0, monitors.length - 1)];
  if (monitor === undefined) return undefined;
  const [init, ...below] = listDescendants(monitor);
  const shell = below.find((pid) => ['sh', 'dash', 'bash'].includes(readName(pid)));
  const links = [monitor, init, shell].filter((pid) => pid !== undefined);
  const target = only(links[drawInt(campaign.random, 0, links.length - 1)], monitor);
  return target === undefined ? undefined : { ...target, endsCall: monitor === own };
}

function toLevels(host: number): readonly (readonly number[])[] {
  const levels: number[][] = [[host]];
  for (let depth = 0; depth < 3; depth += 1) {
    levels.push((levels[depth] ?? []).flatMap(listChildren));
  }
  return levels;
}

/** Whatever died, each call has one end and the sequence no gap. */
function checkJournal({ violations }: Campaign, { session, seen }: Feed): void {
  const events = seen.map(({ event }) => event);
  if (!isGapless(events)) violations.push(`session ${session}: the sequence has a gap`);
  const calls = (type: string): string[] =>
    events
      .filter((event) => event.type === type)
      .map(({ data }) => (data as { call_id: string }).call_id)
      .sort();
  const [requested, completed] = [calls('tool.requested'), calls('tool.completed')];
  if (requested.join() !== completed.join()) {
    violations.push(`session ${session}: ${requested.length} calls, ${completed.length} ends`);
  }
}

/** Nobody of the whole campaign is below no supervisor, and nobody is left when it stops. */
async function checkStop({ stand, violations }: Campaign): Promise<void> {
  const running = stand.supervisor();
  const strangers = (): readonly number[] => stand.enclosure?.strangers([running.pid]) ?? [];
  if ((await timeUntilNone(strangers, SURVIVED_MS)) === undefined) {
    violations.push(`below no supervisor: ${describe(strangers())}`);
  }
  running.kill('SIGTERM');
  await running.exited;
  const left = (): readonly number[] => stand.enclosure?.strangers([]) ?? stand.bench.leftovers();
  if ((await timeUntilNone(left, SURVIVED_MS)) === undefined) {
    violations.push(`after the stop: ${describe(left())}`);
  }
}
