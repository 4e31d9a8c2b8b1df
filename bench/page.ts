/** From the exec of a supervisor until its page can be used, in a real browser that runs already:
 *  the list of sessions is shown, and New session opens when it is clicked. And what the page
 *  weighs on the wire. Each round is a start of its own, and a browser that has nothing cached. */
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { type Browser, chromium, type Page } from 'playwright-core';
import type { Figure } from './figure.ts';
import type { Home, Lab } from './lab.ts';
import { writePast } from './past.ts';
import { sum } from './processes.ts';
import { pause } from './session.ts';
import { difference, pairwise } from './stats.ts';

const SESSIONS = 50;
const SETTLE_MS = 500;

export const page: Figure = {
  name: 'page',
  async run(lab) {
    const executablePath = ['/usr/bin/chromium', '/usr/bin/chromium-browser'].find(existsSync);
    if (executablePath === undefined) throw new Error('there is no Chromium in /usr/bin');
    const port = await findPort();
    const home = await lab.createHome(['[api]', `listen = "127.0.0.1:${port}"`]);
    await writePast(home, SESSIONS, { turns: 1, answerBytes: 400, deltas: 4, isOpen: false });
    const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
    const rounds: Round[] = [];
    try {
      // The first start makes the token, and reads everything into the page cache.
      await runRound(lab, home, { browser, port });
      for (let count = 0; count < (lab.quick ? 2 : 15); count += 1) {
        rounds.push(await runRound(lab, home, { browser, port }));
      }
    } finally {
      await browser.close();
    }
    const ready = rounds.map(({ readyMs }) => readyMs);
    const usable = rounds.map(({ usableMs }) => usableMs);
    const bytes = rounds.map((round) => round.bytes / 1000);
    return {
      title: `The web page, ${SESSIONS} sessions, Chromium ${browser.version()}`,
      rows: [
        { name: 'exec of start → page usable', unit: 'ms', samples: usable, aim: 1000 },
        { name: 'of which exec → ready line', unit: 'ms', samples: ready },
        {
          name: 'of which address opened → page usable',
          unit: 'ms',
          samples: pairwise(usable, ready, difference),
        },
        { name: 'script, style and page, uncompressed', unit: 'kB', samples: bytes, aim: 150 },
      ],
    };
  },
};

interface Round {
  readonly readyMs: number;
  readonly usableMs: number;
  readonly bytes: number;
}

async function runRound(
  lab: Lab,
  home: Home,
  { browser, port }: { readonly browser: Browser; readonly port: number },
): Promise<Round> {
  const context = await browser.newContext();
  const tab = await context.newPage();
  const own: Promise<Buffer>[] = [];
  tab.on('response', (response) => {
    if (response.url().startsWith('http') && !response.url().includes('/api/')) {
      own.push(response.body());
    }
  });
  await pause(SETTLE_MS); // A new tab keeps the browser busy for a moment.
  const { config, stateDir } = JSON.parse(home.options) as { config: string; stateDir: string };
  const args = ['start', '--config', config, '--state-dir', stateDir];
  const startMs = performance.now();
  const running = await home.startAs(lab.bin, args);
  const readyMs = performance.now() - startMs;
  const token = readFileSync(join(stateDir, 'api-token'), 'utf8').trim();
  await tab.goto(`http://127.0.0.1:${port}/#token=${token}`);
  await use(tab);
  const usableMs = performance.now() - startMs;
  const bytes = sum((await Promise.all(own)).map(({ byteLength }) => byteLength));
  await context.close();
  await running.stop();
  return { readyMs, usableMs, bytes };
}

async function use(tab: Page): Promise<void> {
  await tab
    .locator('tbody tr')
    .nth(SESSIONS - 1)
    .waitFor();
  await tab.getByText('New session').click();
  await tab.getByRole('button', { name: 'Create' }).waitFor();
}

async function findPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('the server has no port');
  return address.port;
}
