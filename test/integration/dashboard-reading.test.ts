/** The web page under a reader's hands: long sessions, many tabs, keys held down. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import type { EventEnvelope } from '../../protocol/events.ts';
import { type Bench, countType, type Running } from './harness.ts';
import type { ScriptedProvider } from './scripted-provider.ts';
import { createPageBench, launchBrowser, toPageUrl, withBrowser } from './web-page.ts';

withBrowser('the page, read and written on (skipped without /usr/bin/chromium)', () => {
  let browser: Browser;
  let context: BrowserContext;
  let provider: ScriptedProvider;
  let bench: Bench;
  let running: Running;

  beforeAll(async () => {
    browser = await launchBrowser();
  });
  afterAll(() => browser.close());
  beforeEach(async () => {
    ({ provider, bench } = await createPageBench());
    running = await bench.start();
    context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  });
  afterEach(async () => {
    await context.close();
    await bench.close();
    await provider.close();
  });

  const say = (...steps: readonly object[]): string => JSON.stringify(steps);
  const isTurnEnd = ({ type }: EventEnvelope): boolean => type === 'turn.completed';

  async function open(path = ''): Promise<Page> {
    const page = await context.newPage();
    await page.goto(toPageUrl(bench, running));
    await page.evaluate(`location.hash = '#/${path}'`);
    return page;
  }

  async function begin(...steps: readonly object[]): Promise<string> {
    const { view } = await bench.client.createSession({ workspace: bench.workspace });
    await bench.client.sendInput(view.id, { text: say(...steps) });
    return view.id;
  }

  /** As a browser tells a tab that another one is before it. */
  const show = (page: Page, isShown: boolean): Promise<unknown> =>
    page.evaluate(`{
      Object.defineProperty(document, 'hidden', { value: ${!isShown}, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));
    }`);

  test('sessions open in many tabs leave the browser connections for the next (regression)', async () => {
    const id = await begin({ say: 'first' });
    await bench.follow(id, isTurnEnd);
    const tabs: Page[] = [];
    // Six is what a browser has for one server.
    for (let count = 0; count < 8; count += 1) {
      const page = await open(`sessions/${id}`);
      await page.getByText('first', { exact: true }).waitFor();
      await show(page, false);
      tabs.push(page);
    }
    await bench.client.sendInput(id, { text: say({ say: 'second' }) });
    const [page] = tabs;
    if (page === undefined) throw new Error('there is a first tab');
    await show(page, true);
    await page.getByText('second', { exact: true }).waitFor();
    expect(await page.locator('.said.text').allTextContents()).toEqual(['first', 'second']);
  });

  test('a long session opens at its newest, and a reader who went up stays there (regression)', async () => {
    const lines = Array.from({ length: 120 }, (_, at) => `line ${at}\n\n`).join('');
    const id = await begin({ say: lines });
    await bench.follow(id, isTurnEnd);
    const page = await open(`sessions/${id}`);
    await until(page, 'scrollY > 1000');
    expect(await isInSight(page, 'line 119')).toBe(true);
    await page.mouse.wheel(0, -2000);
    await until(page, 'document.documentElement.scrollHeight - scrollY > 1800');
    await bench.client.sendInput(id, { text: say({ say: 'unseen' }) });
    await page.getByText('unseen', { exact: true }).waitFor({ state: 'attached' });
    expect(await isInSight(page, 'unseen')).toBe(false);
  });

  /** The page's policy lets nobody wait in it. */
  async function until(page: Page, condition: string): Promise<void> {
    while ((await page.evaluate(condition)) !== true);
  }

  async function isInSight(page: Page, text: string): Promise<boolean> {
    const box = await page.getByText(text, { exact: true }).boundingBox();
    return box !== null && box.y >= 0 && box.y + box.height <= 800;
  }

  test('what is sent twice, by a key held down, counts once (regression)', async () => {
    const id = await begin({ say: 'first' });
    const page = await open(`sessions/${id}`);
    const field = page.getByLabel(/Say something/);
    await field.fill(say({ say: 'second' }));
    await field.focus();
    await page.keyboard.down('Control');
    for (let press = 0; press < 3; press += 1) await page.keyboard.down('Enter');
    await page.keyboard.up('Control');
    await page.getByText('second', { exact: true }).waitFor();
    // The same words again are another input.
    await field.fill(say({ say: 'second' }));
    await field.press('Control+Enter');
    await page.getByText('second', { exact: true }).nth(1).waitFor();
    expect(countType(await bench.events(id), 'input.accepted')).toBe(3);
  });

  test('blanks are no first prompt: one session, and nothing is refused (regression)', async () => {
    const page = await open();
    await page.getByText('New session').click();
    await page.getByLabel('First prompt').fill('  \n');
    await page.getByRole('button', { name: 'Create' }).click();
    await page.getByLabel(/Say something/).waitFor();
    expect(await bench.client.listSessions()).toHaveLength(1);
  });

  test('a session removed while it is looked at is said to be gone, not waited for (regression)', async () => {
    const id = await begin({ say: 'first' });
    await bench.follow(id, isTurnEnd);
    const page = await open(`sessions/${id}`);
    await page.getByText('first', { exact: true }).waitFor();
    await bench.client.deleteSession(id);
    await page.getByRole('alert').getByText('no session has the id').waitFor();
    await page.getByText('Waiting for the supervisor').waitFor({ state: 'detached' });
  });

  test('a long word of a call does not widen a phone (regression)', async () => {
    const id = await begin({ tool: 'read_file', arguments: { path: 'x'.repeat(400) } });
    const page = await open(`sessions/${id}`);
    await page.setViewportSize({ width: 360, height: 640 });
    await page.getByText('x'.repeat(100)).first().waitFor();
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(360);
  });

  test('arguments that would reorder themselves are shown as they are (regression)', async () => {
    const id = await begin(
      { tool: 'shell', arguments: { command: 'printf \u202etxt\u200b | wc -c' } },
      { say: 'ran' },
    );
    const page = await open(`sessions/${id}`);
    const card = page.getByLabel('Approval of shell');
    const shown = await card.getByLabel('Arguments').inputValue();
    expect(shown).toBe('{\n  "command": "printf \\u202etxt\\u200b | wc -c"\n}');
    await card.getByRole('button', { name: 'Approve', exact: true }).click();
    const events = await bench.follow(id, isTurnEnd);
    const ran = events.find(({ type }) => type === 'tool.completed');
    // What was meant ran: three letters, and twice three bytes that nobody sees.
    expect(ran?.data).toMatchObject({ output: '9\n' });
  });

  test('a server that is slow is not asked again before it has answered (regression)', async () => {
    const page = await context.newPage();
    await page.clock.install();
    await page.goto(toPageUrl(bench, running));
    await page.getByText('There is no session yet').waitFor();
    running.kill('SIGSTOP');
    const asked: string[] = [];
    page.on('request', (request) => asked.push(new URL(request.url()).pathname));
    await page.clock.runFor(60_000);
    running.kill('SIGCONT');
    expect(asked.toSorted()).toEqual(['/api/v1/approvals', '/api/v1/sessions']);
  });
});
