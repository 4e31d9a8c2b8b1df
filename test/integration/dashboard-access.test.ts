/** The web page for those who do not see it well, or have no mouse: axe-core over every page in
 *  both colours and at both widths, and what a person must be able to do by keyboard alone. Where
 *  there is no Chromium these tests are skipped, and say so; CI installs it. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals';
import type { Browser, Locator, Page } from 'playwright-core';
import type { Bench } from './harness.ts';
import type { ScriptedProvider } from './scripted-provider.ts';
import { createPageBench, launchBrowser, toPageUrl, withBrowser } from './web-page.ts';

const require = createRequire(import.meta.url);
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

const DESK = { width: 1280, height: 800 };
const PHONE = { width: 390, height: 760 };

withBrowser('the page (skipped without /usr/bin/chromium)', () => {
  let browser: Browser;
  let page: Page;
  let provider: ScriptedProvider;
  let bench: Bench;
  let complaints: string[];

  beforeAll(async () => {
    browser = await launchBrowser();
  });
  afterAll(() => browser.close());

  beforeEach(async () => {
    ({ provider, bench } = await createPageBench());
    const running = await bench.start();
    page = await browser.newPage({ viewport: DESK });
    complaints = [];
    page.on('pageerror', (error) => complaints.push(error.message));
    page.on('console', (message) => complaints.push(`${message.type()}: ${message.text()}`));
    await page.goto(toPageUrl(bench, running));
    await page.getByRole('heading', { name: 'Sessions' }).waitFor();
  });
  afterEach(async () => {
    await page.close();
    await bench.close();
    await provider.close();
    expect(complaints).toEqual([]);
  });

  const say = (...steps: readonly object[]): string => JSON.stringify(steps);
  const shell = (command: string): object => ({ tool: 'shell', arguments: { command } });

  /** A session that asks for `steps`. */
  async function begin(...steps: readonly object[]): Promise<string> {
    const { view } = await bench.client.createSession({ name: 'asked' });
    await bench.client.sendInput(view.id, { text: say(...steps) });
    return view.id;
  }

  /** What axe-core finds: rule, and where. */
  async function findViolations(): Promise<readonly string[]> {
    // Not a script of the page: its policy would refuse it.
    await page.evaluate(axe);
    return page.evaluate(`axe.run().then(({ violations }) =>
      violations.flatMap(({ id, nodes }) =>
        nodes.map(({ html, failureSummary }) => id + ' ' + html + ' ' + failureSummary)))`);
  }

  const tabs = ['Conversation', 'Timeline', 'Curves', 'Events'];

  test.each([
    ['light', 'a desk', DESK],
    ['dark', 'a desk', DESK],
    ['light', 'a phone', PHONE],
    ['dark', 'a phone', PHONE],
  ] as const)('has no fault that axe finds, %s and on %s', async (colorScheme, _name, size) => {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize(size);
    const asked = { question: 'Which one?', options: ['SQLite', 'PostgreSQL'] };
    const id = await begin(shell('echo one'), { say: 'thanks' });
    await begin({ tool: 'ask_user', arguments: asked });
    await page.getByText('awaiting (1 to answer)').nth(1).waitFor();
    await page.getByText('New session').click();
    const found: Record<string, readonly string[]> = { sessions: await findViolations() };
    await page.getByRole('link', { name: /Approvals/ }).click();
    await page.getByLabel('Approval of shell').waitFor();
    await page.getByLabel('Question of the agent').waitFor();
    found['approvals'] = await findViolations();
    await page.getByRole('link', { name: 'System' }).click();
    await page.getByText('whole: 2 sessions').waitFor();
    found['system'] = await findViolations();
    await page.evaluate(`location.hash = '#/sessions/${id}'`);
    for (const name of tabs) {
      await page.getByRole('tab', { name }).click();
      await page.getByRole('tabpanel', { name }).locator('*').first().waitFor();
      found[name] = await findViolations();
    }
    const clean = ['sessions', 'approvals', 'system', ...tabs].map((name) => [name, []]);
    expect(found).toEqual(Object.fromEntries(clean));
  });

  test('a long name leaves the state of a session in sight, on a phone', async () => {
    await page.setViewportSize(PHONE);
    await bench.client.createSession({ name: 'n'.repeat(60) });
    const state = page.getByRole('columnheader', { name: 'State' });
    await page.getByText('n'.repeat(60)).waitFor();
    const { x = 0, width = 0 } = (await state.boundingBox()) ?? {};
    expect(x + width).toBeLessThanOrEqual(PHONE.width);
  });

  /** Presses Tab until the wanted element has the focus. */
  async function tabTo(wanted: Locator): Promise<void> {
    for (let press = 0; press < 60; press += 1) {
      if ((await wanted.and(page.locator(':focus')).count()) > 0) return;
      await page.keyboard.press('Tab');
    }
    throw new Error(`sixty times Tab do not lead to ${wanted}`);
  }

  async function outcomeOf(id: string): Promise<unknown> {
    await bench.follow(id, ({ type }) => type === 'turn.completed');
    const events = await bench.events(id);
    return events.find(({ type }) => type === 'tool.completed')?.data;
  }

  const toApproval = async (): Promise<Locator> => {
    await tabTo(page.getByRole('link', { name: /Approvals/ }));
    await page.keyboard.press('Enter');
    const card = page.getByLabel('Approval of shell');
    await card.waitFor();
    return card;
  };

  test('by keyboard alone a call is changed and approved', async () => {
    const id = await begin(shell('echo asked'), { say: 'thanks' });
    const card = await toApproval();
    await tabTo(card.getByLabel('Arguments'));
    await page.keyboard.press('ControlOrMeta+a');
    await page.keyboard.type('{"command":"echo changed"}');
    await tabTo(card.getByRole('button', { name: 'Approve as changed' }));
    await page.keyboard.press('Enter');
    expect(await outcomeOf(id)).toMatchObject({ output: 'changed\n' });
  });

  test('by keyboard alone a rule is kept', async () => {
    const id = await begin(shell('echo kept'), { say: 'thanks' });
    const card = await toApproval();
    // Radio buttons are one stop; the arrows choose.
    await tabTo(card.getByRole('radio', { name: 'this call alone' }));
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('ArrowDown');
    expect(await card.getByRole('radio', { name: /from now on/ }).isChecked()).toBe(true);
    await tabTo(card.getByRole('button', { name: 'Approve', exact: true }));
    await page.keyboard.press('Space');
    expect(await outcomeOf(id)).toMatchObject({ output: 'kept\n' });
    expect(await bench.client.listKeptRules()).toMatchObject([{ command: 'echo kept' }]);
  });

  test('by keyboard alone a call is denied, with a reason', async () => {
    const id = await begin(shell('echo never'), { say: 'thanks' });
    const card = await toApproval();
    await tabTo(card.getByLabel('Reason'));
    await page.keyboard.type('not today');
    await tabTo(card.getByRole('button', { name: 'Deny' }));
    await page.keyboard.press('Enter');
    const outcome = { status: 'denied', output: expect.stringContaining('not today') };
    expect(await outcomeOf(id)).toMatchObject(outcome);
  });

  test('by keyboard alone a session is made, and spoken to', async () => {
    await tabTo(page.getByText('New session'));
    await page.keyboard.press('Enter');
    await tabTo(page.getByLabel('First prompt'));
    await page.keyboard.type(say({ say: 'made' }));
    await tabTo(page.getByRole('button', { name: 'Create' }));
    await page.keyboard.press('Enter');
    await page.getByText('made', { exact: true }).waitFor();
    await tabTo(page.getByLabel('Say something'));
    await page.keyboard.type(say({ say: 'again' }));
    await page.keyboard.press('Control+Enter');
    await page.getByText('again', { exact: true }).waitFor();
  });
});
