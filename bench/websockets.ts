/** Two hundred readers of one session over WebSocket while it streams: some lose their connection
 *  and go on behind their last event, some read nothing until the end. All get what a reader of
 *  the server-sent events gets. */
import { join } from 'node:path';
import { check, FILLER, gather, lastSeqOf, p99, streamTokens } from './crowd.ts';
import type { Figure } from './figure.ts';
import { readCpuMs } from './processes.ts';
import { openSession, settle } from './session.ts';

const TOKEN_EVERY_MS = 100;

export const websockets: Figure = {
  name: 'websockets',
  async run(lab) {
    const [clients, slow] = [200, 10];
    const tokens = { count: lab.quick ? 40 : 200, everyMs: TOKEN_EVERY_MS, filler: FILLER };
    const home = await lab.createHome();
    const running = await home.start();
    await settle(home, 2);
    const session = await openSession(home);
    await session.runTurn('first');
    const crowd = await gather({
      ...{ protocol: 'websocket', clients, slow, loseEveryMs: 20_000 / clients },
      socketPath: join(home.stateDir, 'api.sock'),
      path: `/api/v1/sessions/${session.id}/ws`,
      lastSeq: lastSeqOf(session),
    });
    const cpuBefore = readCpuMs(running.pid);
    crowd.start();
    const among = await streamTokens(home, session, tokens);
    const cpuMs = readCpuMs(running.pid) - cpuBefore;
    const report = await crowd.finish(lastSeqOf(session));
    check(report, session, tokens.count * (clients - slow));
    const each = report.latenciesMs;
    const cpuUs = (cpuMs * 1000) / tokens.count / clients;
    await running.stop();
    return {
      title: `${clients} WebSockets of one session (${slow} slow, ${report.reconnects} lost connections)`,
      rows: [
        { name: 'token written → each of them has it', unit: 'ms', samples: each },
        { name: 'p99 of that', unit: 'ms', samples: [p99(each)] },
        { name: 'token written → a reader of SSE beside them has it', unit: 'ms', samples: among },
        { name: 'supervisor, CPU per token and reader', unit: 'µs', samples: [cpuUs] },
      ],
    };
  },
};
