/** A session from nothing to a worker of its own, taken from the spares: the answer to its creation
 *  (it is `running` and durable: it takes input from here on), and the giving of the worker, which
 *  its first input sets off. */
import type { Figure } from './figure.ts';
import type { Home } from './lab.ts';
import { isResident, pause, seenAtMs, settle, watchSession } from './session.ts';

interface Birth {
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
    await bear(home);
    const births: Birth[] = [];
    const health: number[] = [];
    for (let round = 0; round < (lab.quick ? 5 : 60); round += 1) {
      await settle(home, 2);
      await pause(QUIET_MS);
      const startMs = performance.now();
      await home.client.getHealth();
      health.push(performance.now() - startMs);
      births.push(await bear(home));
    }
    await running.stop();
    const whole = births.map(({ createdMs, givenMs }) => createdMs + givenMs);
    return {
      title: 'Create to ready, with a spare worker',
      rows: [
        { name: 'create sent → 201, plus worker given', unit: 'ms', samples: whole, aim: 5 },
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
        { name: 'GET /healthz, its floor', unit: 'ms', samples: health },
      ],
    };
  },
};

async function bear(home: Home): Promise<Birth> {
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
  return { createdMs, givenMs, journalMs };
}
