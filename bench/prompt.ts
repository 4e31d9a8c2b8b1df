/** From a prompt to the request the model server sees. The server runs in this process, so both
 *  ends are stamped by one clock. */
import type { Figure } from './figure.ts';
import type { Home } from './lab.ts';
import { openSession, pause, settle, type WatchedSession, warmUp } from './session.ts';
import { readFrames, send } from './sse.ts';

interface Journey {
  readonly sentMs: number;
  readonly acceptedMs: number;
  /** The model server has the head of the request. */
  readonly askedMs: number;
}

/** Between turns: what follows a turn (its commit, a new spare worker) is not measured. */
const QUIET_MS = 100;

export const prompt: Figure = {
  name: 'prompt',
  async run(lab) {
    const home = await lab.createHome();
    const running = await home.start();
    await warmUp(lab, home);
    const rounds = lab.quick ? 5 : 60;
    const floor: Journey[] = [];
    const resident: Journey[] = [];
    const warm: Journey[] = [];
    const session = await openSession(home);
    await session.runTurn('first');
    for (let round = 0; round < rounds; round += 1) {
      await settle(home, 2);
      await pause(QUIET_MS);
      floor.push(await askDirectly(home));
      resident.push(await askThrough(home, session));
      await pause(QUIET_MS);
      const fresh = await openSession(home);
      warm.push(await askThrough(home, fresh));
      fresh.unwatch();
      await home.client.close(fresh.id);
    }
    await running.stop();
    const accepted = (journeys: Journey[]): number[] =>
      journeys.map(({ acceptedMs, askedMs }) => askedMs - acceptedMs);
    const whole = (journeys: Journey[]): number[] =>
      journeys.map(({ sentMs, askedMs }) => askedMs - sentMs);
    return {
      title: 'Prompt to model request',
      rows: [
        {
          name: 'accepted (202) → request, resident worker',
          unit: 'ms',
          samples: accepted(resident),
          aim: 5,
        },
        {
          name: 'accepted (202) → request, warm worker taken',
          unit: 'ms',
          samples: accepted(warm),
          aim: 5,
        },
        { name: 'sent → request, resident worker', unit: 'ms', samples: whole(resident) },
        { name: 'sent → request, warm worker taken', unit: 'ms', samples: whole(warm) },
        { name: 'sent → request, client asks the model itself', unit: 'ms', samples: whole(floor) },
      ],
    };
  },
};

/** One turn of a session. Resolves when it was seen to end. */
async function askThrough(home: Home, session: WatchedSession): Promise<Journey> {
  const asked = nextRequest(home);
  const turns = session.seen.filter(({ event }) => event.type === 'turn.completed').length;
  const sentMs = performance.now();
  await home.client.sendInput(session.id, { text: 'hello' });
  const acceptedMs = performance.now();
  const askedMs = await asked;
  await session.reached('turn.completed', turns + 1);
  return { sentMs, acceptedMs, askedMs };
}

async function askDirectly(home: Home): Promise<Journey> {
  const asked = nextRequest(home);
  const body = JSON.stringify({ stream: true, messages: [{ role: 'user', content: 'hello' }] });
  const sentMs = performance.now();
  const answer = await send(
    { port: home.provider.port, path: '/v1/chat/completions', method: 'POST' },
    body,
  );
  await readFrames(answer, () => undefined);
  return { sentMs, acceptedMs: sentMs, askedMs: await asked };
}

/** When the model server sees its next request. */
function nextRequest({ provider }: Home): Promise<number> {
  return new Promise((resolve) => {
    provider.answer = ({ atMs }, reply) => {
      resolve(atMs);
      reply.say('done');
      reply.end();
    };
  });
}
