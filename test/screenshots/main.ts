/** Records the pictures of docs/tour.md: a supervisor of its own with the offline model, a real
 *  terminal (tmux) and a real browser (Chromium), driven as a newcomer would.
 *
 *    npm run screenshots [-- FOLDER]      default: docs/images
 *
 *  Fails when the page says anything on the console, or a picture is heavier than
 *  IMAGE_BYTES_MAX. */
import { existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { chromium, type Page } from 'playwright-core';
import { orUsage } from '../../bench/usage.ts';
import { type Bench, createBench } from '../integration/harness.ts';
import { toTerminalPage } from './ansi.ts';
import { createTerminal, type Terminal } from './terminal.ts';
import { recordPage, type Save } from './web.ts';

const root = join(import.meta.dirname, '..', '..');
const IMAGE_BYTES_MAX = 100_000;
const CONFIG = `
[api]
listen = "127.0.0.1:0"
[[security.rules]]
tool = "shell"
command = "git *"
action = "ask"
`;

function readFolder(args: readonly string[]): string {
  const [folder = join(root, 'docs', 'images')] = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {},
  }).positionals;
  return folder;
}

async function main(args: readonly string[]): Promise<void> {
  const folder = orUsage('npm run screenshots -- [FOLDER]', () => readFolder(args));
  const executablePath = ['/usr/bin/chromium', '/usr/bin/chromium-browser'].find(existsSync);
  if (executablePath === undefined) throw new Error('there is no Chromium in /usr/bin');
  mkdirSync(folder, { recursive: true });
  const bench = createBench(CONFIG);
  const terminal = createTerminal(join(bench.dir, 'tmux.sock'), {
    PATH: `${join(root, 'bin')}:${process.env['PATH']}`,
    HOME: bench.dir,
    PRX_STATE_DIR: bench.stateDir,
    LANG: 'C.UTF-8',
  });
  const browser = await chromium.launch({
    executablePath,
    // Letters with grey edges make lighter pictures than coloured ones.
    args: ['--no-sandbox', '--disable-lcd-text'],
  });
  try {
    const { ready } = await bench.start();
    const url = /url (http:\S+)/.exec(ready)?.[1] ?? '';
    const token = readFileSync(join(bench.stateDir, 'api-token'), 'utf8').trim();
    const save = createSaver(folder);
    await recordTerminal({ terminal, page: await browser.newPage(), bench, save });
    await recordPage({ browser, url, token, save });
  } finally {
    await browser.close();
    await terminal.close();
    await bench.close();
  }
}

/** Says what each picture weighs. */
function createSaver(folder: string): Save {
  return async (name, take) => {
    const path = join(folder, `${name}.png`);
    await take(path);
    const { size } = statSync(path);
    process.stdout.write(`${name}.png ${size} bytes\n`);
    if (size > IMAGE_BYTES_MAX) {
      throw new RangeError(`${name}.png has ${size} bytes, at most ${IMAGE_BYTES_MAX} are allowed`);
    }
  };
}

interface TerminalDeps {
  readonly terminal: Terminal;
  readonly page: Page;
  readonly bench: Bench;
  readonly save: Save;
}

async function recordTerminal({ terminal, page, bench, save }: TerminalDeps): Promise<void> {
  const shoot = async (name: string, command: string): Promise<void> => {
    await page.setContent(toTerminalPage(await terminal.read(), command));
    await save(name, (path) => page.locator('#shot').screenshot({ path }));
  };
  const enter = async (text: string): Promise<void> => {
    await terminal.type(text);
    await terminal.press('Enter');
  };
  const inWorkspace = `cd ${bench.workspace} && git init -q .`;
  const run = "prx-supervisor run '!echo hello > note.txt; ls'";
  await terminal.open(`${inWorkspace}; ${run}`);
  await terminal.until('turn 1 completed');
  await shoot('run', run);

  const attach = 'prx-supervisor attach demo';
  await terminal.open(`cd ${bench.workspace}; prx-supervisor new -q --name demo; clear; ${attach}`);
  await terminal.until('detaches');
  await enter('!git status --short');
  await terminal.until('approval needed');
  await shoot('attach-approval', attach);
  await terminal.press('y');
  await terminal.until('turn 1 completed');
  await enter('@ask_user {"question":"Which database?","options":["SQLite","PostgreSQL"]}');
  await terminal.until('the agent asks');
  await shoot('attach-question', attach);
  await enter('2');
  await terminal.until('turn 2 completed');
  await enter('!git diff --stat');
  await terminal.until('approval needed');

  const top = 'prx-supervisor top';
  await terminal.open(top);
  await terminal.until('WAITING');
  await shoot('top-overview', top);
  await terminal.press('Enter');
  await terminal.until('y once');
  await shoot('top-decide', top);
  await terminal.press('Escape');
  for (const [key, name, sign] of TABS) {
    await terminal.press(key);
    await terminal.until(sign);
    await shoot(`top-${name}`, top);
  }
}

const TABS = [
  ['2', 'sessions', 'STATE'],
  ['3', 'triggers', 'no triggers'],
  ['4', 'context', 'compactions'],
  ['5', 'logs', 'turn.completed'],
  ['6', 'events', 'model.delta'],
  ['7', 'commands', 'KEY'],
] as const;

main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`screenshots: ${error instanceof Error ? error.stack : String(error)}\n`);
  process.exitCode = 1;
});
