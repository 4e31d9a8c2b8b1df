/** A hibernated session (no process, forgotten by the supervisor) that is given an input: until it
 *  has a worker that knows its conversation, and until the model is asked. Of 1,000 events and
 *  100 kB of conversation, and of 10 MB. */
import type { Figure } from './figure.ts';
import type { Home, Lab } from './lab.ts';
import { type Past, writePast } from './past.ts';
import type { Row } from './report.ts';
import { isResident, pause, seenAtMs, settle, warmUp, watchSession } from './session.ts';

interface Wake {
  readonly residentMs: number;
  readonly askedMs: number;
  readonly sentAskedMs: number;
}

const SESSIONS = 8;
const TURNS = 40;
/** 25 events a turn, and three of its birth. */
const DELTAS = 20;
const QUIET_MS = 100;
/** The supervisor looks every two seconds which sessions it may forget. */
const FORGOTTEN_MS = 4500;
const PATIENCE_MS = 60_000;

/** Hibernates soon, and never shortens a conversation. */
const SETTINGS = [
  '[agent.worker]',
  'idle_hibernate_secs = 1',
  '[agent.loop]',
  'compaction_threshold_tokens = 100000000',
];

export const wake: Figure = {
  name: 'wake',
  async run(lab) {
    const small = await measure(lab, 'at 100 kB', { bytes: 100_000, cycles: 6, aim: 10 });
    const large = await measure(lab, 'at 10 MB', { bytes: 10_000_000, cycles: 3 });
    return { title: 'Wake from hibernation, 1,000 events', rows: [...small, ...large] };
  },
};

interface Size {
  readonly bytes: number;
  readonly cycles: number;
  readonly aim?: number;
}

async function measure(lab: Lab, name: string, { bytes, cycles, aim }: Size): Promise<Row[]> {
  const home = await lab.createHome(SETTINGS);
  const answerBytes = Math.ceil(bytes / TURNS);
  const past: Past = { turns: TURNS, answerBytes, deltas: DELTAS, isOpen: false };
  const ids = await writePast(home, lab.quick ? 2 : SESSIONS, past);
  const running = await home.start();
  await warmUp(lab, home);
  const wakes: Wake[] = [];
  // Those of the first cycle warm the supervisor up.
  for (let cycle = 0; cycle <= (lab.quick ? 1 : cycles); cycle += 1) {
    for (const id of ids) {
      await settle(home, 2);
      await pause(QUIET_MS);
      const measured = await touch(home, id);
      if (cycle > 0) wakes.push(measured);
    }
    await slept(home);
  }
  await running.stop();
  const pick = (key: keyof Wake): number[] => wakes.map((each) => each[key]);
  const aimed = aim === undefined ? {} : { aim };
  return [
    { name: `accepted (202) → request, ${name}`, unit: 'ms', samples: pick('askedMs'), ...aimed },
    {
      name: `accepted (202) → worker initialized, ${name}`,
      unit: 'ms',
      samples: pick('residentMs'),
    },
    { name: `sent → request, ${name}`, unit: 'ms', samples: pick('sentAskedMs') },
  ];
}

async function touch(home: Home, id: string): Promise<Wake> {
  const { last_seq: since } = await home.client.getSession(id);
  const session = await watchSession(home, id, since);
  const asked = new Promise<number>((resolve) => {
    home.provider.answer = ({ atMs }, reply) => {
      resolve(atMs);
      reply.say('done');
      reply.end();
    };
  });
  const sentMs = performance.now();
  await home.client.sendInput(id, { text: 'hello' });
  const acceptedMs = performance.now();
  const askedMs = await asked;
  await session.reached('turn.completed', 1);
  const residentMs = seenAtMs(session, isResident) - acceptedMs;
  session.unwatch();
  return { residentMs, askedMs: askedMs - acceptedMs, sentAskedMs: askedMs - sentMs };
}

/** Resolves when no session has a worker any more, and the supervisor has forgotten them. */
async function slept(home: Home): Promise<void> {
  for (const deadlineMs = performance.now() + PATIENCE_MS; performance.now() < deadlineMs; ) {
    const { capacity } = await home.client.getStatus();
    if (capacity.resident === 0) return pause(FORGOTTEN_MS);
    await pause(100);
  }
  throw new Error('the sessions did not hibernate within a minute');
}
