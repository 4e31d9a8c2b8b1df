/** A session from nothing to a worker of its own, taken from the spares: the answer to its creation
 *  (it is `running` and durable: it takes input from here on), and the giving of the worker, which
 *  its first input sets off. */
import type { Figure } from './figure.ts';
import type { Home } from './lab.ts';
import { isResident, pause, seenAtMs, settle, warmUp, watchSession } from './session.ts';

interface Birth {
  /** An answer that says nothing, just before. */
  readonly healthMs: number;
  /** POST sent → 201 read. */
  readonly createdMs: number;
  /** 202 read → its worker is initialized, as the client sees it. */
  readonly givenMs: number;
  /** The same, by the stamps of the journal (whole milliseconds). */
  readonly journalMs: number;
}

/** Between turns: what follows a turn is not measured. */
const QUIET_MS = 100;

export const create: Figure = {
  name: 'create',
  async run(lab) {
    const home = await lab.createHome();
    const running = await home.start();
    await settle(home, 2);
    const rounds = lab.quick ? 5 : 60;
    const young = await bearInTurn(home, rounds);
    await warmUp(lab, home);
    const births = await bearInTurn(home, rounds);
    await running.stop();
    const toWhole = ({ createdMs, givenMs }: Birth): number => createdMs + givenMs;
    return {
      title: 'Create to ready, with a spare worker',
      rows: [
        {
          name: 'create sent → 201, plus worker given',
          unit: 'ms',
          samples: births.map(toWhole),
          aim: 5,
        },
        {
          name: 'create sent → 201 (running, durable)',
          unit: 'ms',
          samples: births.map(({ createdMs }) => createdMs),
        },
        {
          name: 'first input accepted (202) → worker given and initialized',
          unit: 'ms',
          samples: births.map(({ givenMs }) => givenMs),
        },
        {
          name: 'the same, by the stamps of the journal',
          unit: 'ms',
          samples: births.map(({ journalMs }) => journalMs),
        },
        {
          name: 'GET /healthz, its floor',
          unit: 'ms',
          samples: births.map(({ healthMs }) => healthMs),
        },
        {
          name: 'the first 60 of a supervisor: sent → 201, plus worker given',
          unit: 'ms',
          samples: young.map(toWhole),
        },
      ],
    };
  },
};

async function bearInTurn(home: Home, rounds: number): Promise<Birth[]> {
  const births: Birth[] = [];
  for (let round = 0; round < rounds; round += 1) births.push(await bear(home));
  return births;
}

async function bear(home: Home): Promise<Birth> {
  await settle(home, 2);
  await pause(QUIET_MS);
  const startMs = performance.now();
  await home.client.getHealth();
  const healthMs = performance.now() - startMs;
  const sentMs = performance.now();
  const { view } = await home.client.createSession({ workspace: home.workspace });
  const createdMs = performance.now() - sentMs;
  const session = await watchSession(home, view.id);
  await home.client.sendInput(view.id, { text: 'hello' });
  const acceptedMs = performance.now();
  await session.reached('turn.completed', 1);
  const givenMs = Math.max(0, seenAtMs(session, isResident) - acceptedMs);
  const stamp = (isWanted: (type: string) => boolean): number =>
    Date.parse(session.seen.find(({ event }) => isWanted(event.type))?.event.time ?? '');
  const resident = session.seen.find(({ event }) => isResident(event))?.event.time ?? '';
  const journalMs = Date.parse(resident) - stamp((type) => type === 'input.accepted');
  session.unwatch();
  await home.client.close(view.id);
  return { healthMs, createdMs, givenMs, journalMs };
}
