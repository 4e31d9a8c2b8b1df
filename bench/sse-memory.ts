/** What the supervisor's memory does while a thousand readers follow one long answer: it is that of
 *  their connections, and does not grow with what they are told. */
import { join } from 'node:path';
import { check, gather, lastSeqOf, streamTokens } from './crowd.ts';
import type { Figure } from './figure.ts';
import { readRssMb } from './processes.ts';
import type { Row } from './report.ts';
import { openSession, pause, settle } from './session.ts';
import { summarize } from './stats.ts';

const TOKEN_EVERY_MS = 40;
/** With its envelope more than a socket's buffer holds, after a third of the answer. */
const FILLER = 'x'.repeat(300);
const SAMPLE_EVERY_MS = 250;
/** Longer than the supervisor waits before it gives back what work left on its heap. */
const QUIET_MS = 16_000;
const QUARTERS = ['first', 'second', 'third', 'last'] as const;
/** MB; a tenth of what a thousand connections cost. */
const GROWTH_AIM = 10;

export const sseMemory: Figure = {
  name: 'sse-memory',
  async run(lab) {
    const clients = lab.quick ? 200 : 1000;
    const slow = lab.quick ? 10 : 50;
    const count = lab.quick ? 200 : 2000;
    const home = await lab.createHome();
    const { pid, stop } = await home.start();
    await settle(home, 2);
    const session = await openSession(home);
    await session.runTurn('first');
    await pause(QUIET_MS);
    const before = readRssMb(pid);
    const crowd = await gather({
      ...{ protocol: 'sse', clients, slow, loseEveryMs: 20_000 / clients },
      socketPath: join(home.stateDir, 'api.sock'),
      path: `/api/v1/sessions/${session.id}/events?follow=true`,
      lastSeq: lastSeqOf(session),
    });
    await pause(QUIET_MS);
    const connected = readRssMb(pid);
    const quarters: number[][] = QUARTERS.map(() => []);
    let written = 0;
    const sampling = setInterval(() => {
      quarters[Math.floor((written / count) * QUARTERS.length)]?.push(readRssMb(pid));
    }, SAMPLE_EVERY_MS);
    crowd.start();
    const onToken = (index: number): void => {
      written = index;
    };
    const tokens = { count, everyMs: TOKEN_EVERY_MS, filler: FILLER, onToken };
    await streamTokens(home, session, tokens);
    clearInterval(sampling);
    const report = await crowd.finish(lastSeqOf(session));
    check(report, session, count * (clients - slow));
    await pause(QUIET_MS);
    const after = readRssMb(pid);
    await stop();
    const medians = quarters.map((samples) => summarize(samples).median);
    const [start = 0, , , end = 0] = medians;
    const toRow = (quarter: string, at: number): Row => {
      const samples = quarters[at] ?? [];
      return { name: `in the ${quarter} quarter of the answer`, unit: 'MB', samples };
    };
    return {
      title:
        `Memory of the supervisor (RSS), ${clients} readers of one answer of ${count} tokens ` +
        `(${slow} slow, ${report.reconnects} lost connections)`,
      rows: [
        { name: 'before they come', unit: 'MB', samples: [before] },
        { name: 'all connected, before the first token', unit: 'MB', samples: [connected] },
        ...QUARTERS.map(toRow),
        {
          name: 'last quarter over the first',
          unit: 'MB',
          samples: [end - start],
          aim: GROWTH_AIM,
        },
        { name: 'all gone', unit: 'MB', samples: [after] },
      ],
    };
  },
};
