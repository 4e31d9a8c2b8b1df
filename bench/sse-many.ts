/** A thousand readers of one session while it streams: some lose their connection and come back,
 *  some read nothing until the end. All get the same events; and one more reader beside them shows
 *  what the crowd adds to a token. */
import { fork } from 'node:child_process';
import { join } from 'node:path';
import { check, FILLER, gather, lastSeqOf, p99, streamTokens } from './crowd.ts';
import type { CrowdOptions } from './crowd-clients.ts';
import type { FloorOrder } from './crowd-floor.ts';
import type { Figure } from './figure.ts';
import type { Home } from './lab.ts';
import { readCpuMs } from './processes.ts';
import { openSession, settle } from './session.ts';

const TOKEN_EVERY_MS = 100;

export const sseMany: Figure = {
  name: 'sse',
  async run(lab) {
    const clients = lab.quick ? 200 : 1000;
    const slow = lab.quick ? 10 : 50;
    const tokens = { count: lab.quick ? 40 : 200, everyMs: TOKEN_EVERY_MS, filler: FILLER };
    const home = await lab.createHome();
    const running = await home.start();
    await settle(home, 2);
    const session = await openSession(home);
    await session.runTurn('first');
    const alone = await streamTokens(home, session, tokens);
    const size = { protocol: 'sse', clients, slow, loseEveryMs: 20_000 / clients } as const;
    const crowd = await gather({
      ...size,
      socketPath: join(home.stateDir, 'api.sock'),
      path: `/api/v1/sessions/${session.id}/events?follow=true`,
      lastSeq: lastSeqOf(session),
    });
    const cpuBefore = readCpuMs(running.pid);
    crowd.start();
    const among = await streamTokens(home, session, tokens);
    const cpuMs = readCpuMs(running.pid) - cpuBefore;
    const report = await crowd.finish(lastSeqOf(session));
    check(report, session, tokens.count * (clients - slow));
    const each = report.latenciesMs;
    await running.stop();
    const floor = await measureFloor(home, size, tokens.count);
    const cpuUs = (cpuMs * 1000) / tokens.count / clients;
    return {
      title: `${clients} readers of one stream (${slow} slow, ${report.reconnects} lost connections)`,
      rows: [
        { name: 'token written → one reader has it, alone', unit: 'ms', samples: alone },
        { name: 'token written → each of them has it', unit: 'ms', samples: each },
        { name: 'token written → the first has it', unit: 'ms', samples: among },
        { name: 'p99 of each, over p99 alone', unit: 'ms', samples: [p99(each) - p99(alone)] },
        { name: 'p99 of each', unit: 'ms', samples: [p99(each)] },
        {
          name: 'a bare node:http server, event → each of them has it',
          unit: 'ms',
          samples: floor,
        },
        { name: 'p99 of that', unit: 'ms', samples: [p99(floor)] },
        {
          name: 'p99 of each, over that: what the supervisor adds',
          unit: 'ms',
          samples: [p99(each) - p99(floor)],
          aim: 10,
        },
        { name: 'p99 alone', unit: 'ms', samples: [p99(alone)] },
        { name: 'supervisor, CPU per token and reader', unit: 'µs', samples: [cpuUs] },
      ],
    };
  },
};

type CrowdSize = Omit<CrowdOptions, 'socketPath' | 'path' | 'lastSeq'>;

/** The same crowd before a server that does nothing else. */
async function measureFloor(home: Home, size: CrowdSize, tokens: number): Promise<number[]> {
  const socketPath = join(home.dir, 'floor.sock');
  const floor = fork(new URL('./crowd-floor.ts', import.meta.url), [socketPath]);
  const hear = (): Promise<unknown> => new Promise((resolve) => floor.once('message', resolve));
  await hear();
  const crowd = await gather({ ...size, socketPath, path: '/', lastSeq: 1 });
  crowd.start();
  const order: FloorOrder = { tokens, everyMs: TOKEN_EVERY_MS, filler: FILLER };
  floor.send(order);
  await hear();
  const { latenciesMs } = await crowd.finish(tokens + 1);
  floor.disconnect();
  return [...latenciesMs];
}
