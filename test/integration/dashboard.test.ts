/** The web page in a real browser, before a real supervisor: no mock on either side. Where there is
 *  no Chromium these tests are skipped, and say so; CI installs it. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals';
import type { Browser, Page } from 'playwright-core';
import { type Bench, createBench, type Running } from './harness.ts';
import type { ScriptedProvider } from './scripted-provider.ts';
import { createPageBench, launchBrowser, toPageUrl, withBrowser } from './web-page.ts';

withBrowser('the page (skipped without /usr/bin/chromium)', () => {
  let browser: Browser;
  let page: Page;
  let provider: ScriptedProvider;
  let bench: Bench;
  let running: Running;
  let complaints: string[];

  beforeAll(async () => {
    browser = await launchBrowser();
  });
  afterAll(() => browser.close());

  beforeEach(async () => {
    ({ provider, bench } = await createPageBench());
    running = await bench.start();
    page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
    complaints = [];
    page.on('pageerror', (error) => complaints.push(error.message));
    page.on('console', (message) => {
      if (message.type() === 'error') complaints.push(message.text());
    });
  });
  afterEach(async () => {
    await page.close();
    await bench.close();
    await provider.close();
  });

  const urlOf = ({ ready }: Running): string => /url (http:\S+)/.exec(ready)?.[1] ?? '';
  const open = async (): Promise<void> => {
    await page.goto(toPageUrl(bench, running));
    await page.getByRole('heading', { name: 'Sessions' }).waitFor();
  };
  const say = (...steps: readonly object[]): string => JSON.stringify(steps);

  async function create(prompt: string): Promise<void> {
    await page.getByText('New session').click();
    await page.getByLabel('First prompt').fill(prompt);
    await page.getByRole('button', { name: 'Create' }).click();
  }

  test('shows a turn as it is written, in a session that it made', async () => {
    await open();
    await create(say({ say: 'one two three', holdAfter: 2 }));
    await provider.held(1);
    await page.locator('.said.text.live', { hasText: 'one two' }).waitFor();
    provider.release();
    await page.locator('.said.text:not(.live)', { hasText: 'one two three' }).waitFor();
    expect(page.url()).toMatch(/#\/sessions\/s_[0-9a-f]{16}$/);
    expect(complaints).toEqual([]);
  });

  test('shows what the model wrote as Markdown, and never as markup', async () => {
    await open();
    const lines = ['# Title', '', '- **bold** <img src=x onerror="document.title=1">', '', '```'];
    const code = ['<script>document.title = 2</script>', '```', '', '[here](javascript:alert(3))'];
    const rest = ['', '[there](https://example.org/a)', '', '|a|b|', '|-|-|', '|1|2|'];
    await create(say({ say: [...lines, ...code, ...rest].join('\n') }));
    const said = page.locator('.said.text:not(.live) .markdown');
    await said.locator('li b', { hasText: 'bold' }).waitFor();
    expect(await said.locator('pre').textContent()).toContain('<script>document.title = 2');
    expect(await said.locator('li').textContent()).toContain('<img src=x onerror');
    expect(await said.locator('img, script').count()).toBe(0);
    expect(await said.locator('td').allTextContents()).toEqual(['1', '2']);
    const links = said.locator('a');
    expect(await links.allTextContents()).toEqual(['https://example.org/a']);
    expect(await links.getAttribute('rel')).toBe('noopener noreferrer');
    expect(await said.textContent()).toContain('[here](javascript:alert(3))');
    expect([await page.title(), complaints]).toEqual(['prx-supervisor', []]);
  });

  test('sends, too, where the browser gives no secure context', async () => {
    await page.addInitScript(() => {
      Object.defineProperty(crypto, 'randomUUID', { value: undefined });
    });
    await open();
    await create(say({ say: 'first' }));
    await page.getByText('first', { exact: true }).waitFor();
    await page.getByLabel(/Say something/).fill(say({ say: 'second' }));
    await page.getByLabel(/Say something/).press('Control+Enter');
    await page.getByText('second', { exact: true }).waitFor();
    expect(complaints).toEqual([]);
  });

  test('takes the token of a link that is opened where the page is already', async () => {
    await page.goto(`${urlOf(running)}/`);
    await page.getByText('give a token').waitFor();
    await open();
    await page.getByText('There is no session yet').waitFor();
    expect(page.url()).toBe(`${urlOf(running)}/#/`);
  });

  test('takes a token from a link that did not encode it (regression)', async () => {
    await page.goto(`${urlOf(running)}/#token=100%`);
    await page.getByText('no valid token').waitFor();
    expect(await page.evaluate(() => sessionStorage.getItem('prx-token'))).toBe('100%');
  });

  test('an approval is answered with changed arguments, and exactly those run', async () => {
    await open();
    const call = { tool: 'shell', arguments: { command: 'echo asked' } };
    await create(say(call, { say: 'thanks' }));
    const card = page.getByLabel('Approval of shell');
    await card.getByLabel('Arguments').fill('{"command":"echo changed"}');
    await card.getByRole('button', { name: 'Approve as changed' }).click();
    await page.getByText('thanks', { exact: true }).waitFor();
    const [session] = await bench.client.listSessions();
    const events = await bench.events(session?.id ?? '');
    const completed = events.find(({ type }) => type === 'tool.completed');
    expect(completed?.data).toMatchObject({ output: 'changed\n' });
  });

  test('the scope of an approval is shown in words, and the rule that is kept', async () => {
    await open();
    const call = { tool: 'shell', arguments: { command: 'echo kept' } };
    await create(say(call, { say: 'thanks' }));
    const card = page.getByLabel('Approval of shell');
    const scopeOf = (name: string | RegExp) => card.getByRole('radio', { name });
    expect(await scopeOf('this call alone').isChecked()).toBe(true);
    expect(await scopeOf('in this session: every call of shell').count()).toBe(1);
    await scopeOf(/from now on: shell "echo kept" in .+ for agent default/).check();
    await card.getByRole('button', { name: 'Approve', exact: true }).click();
    await page.getByText('thanks', { exact: true }).waitFor();
    expect(await bench.client.listKeptRules()).toMatchObject([{ command: 'echo kept' }]);
    expect(complaints).toEqual([]);
  });

  test.each([
    ['an option', 'PostgreSQL'],
    ['own words', 'the one we have'],
  ])('a question of the agent is answered with %s, by keyboard alone', async (how, said) => {
    await open();
    const options = ['SQLite', 'PostgreSQL'];
    const asked = { tool: 'ask_user', arguments: { question: 'Which one?', options } };
    await create(say(asked, { say: 'thanks' }));
    const card = page.getByLabel('Question of the agent');
    await card.getByText('Which one?').waitFor();
    if (how === 'an option') await card.getByRole('button', { name: said }).focus();
    else {
      await card.getByLabel('Or in your own words').focus();
      await page.keyboard.type(said);
      await page.keyboard.press('Tab');
    }
    await page.keyboard.press('Enter');
    await page.getByText('thanks', { exact: true }).waitFor();
    const [session] = await bench.client.listSessions();
    const events = await bench.events(session?.id ?? '');
    const resolved = events.find(({ type }) => type === 'approval.resolved');
    expect(resolved?.data).toMatchObject({ decision: 'approve', answer: said });
    expect(complaints).toEqual([]);
  });

  test('its tabs are one stop, and the arrows go round; skipping stays on the page', async () => {
    await open();
    await create(say({ say: 'hello' }));
    await page.getByText('hello', { exact: true }).waitFor();
    await page.getByRole('tab', { name: 'Conversation' }).focus();
    await page.keyboard.press('ArrowLeft');
    await page.getByRole('tabpanel', { name: 'Events' }).waitFor();
    await page.keyboard.press('ArrowRight');
    await page.keyboard.press('ArrowRight');
    await page.getByRole('tabpanel', { name: 'Timeline' }).waitFor();
    const focused = 'document.activeElement.textContent';
    expect(await page.evaluate(focused)).toBe('Timeline');
    await page.getByRole('button', { name: 'To the content' }).focus();
    await page.keyboard.press('Enter');
    expect(await page.evaluate('document.activeElement.id')).toBe('content');
    expect(await page.getByRole('tab').count()).toBe(4);
  });

  test('goes on by itself when the supervisor is killed and comes back', async () => {
    await open();
    await create(say({ say: 'a b c d', holdAfter: 2 }));
    await provider.held(1);
    await page.locator('.said.text', { hasText: 'a b' }).waitFor();
    const port = new URL(urlOf(running)).port;
    running.kill('SIGKILL');
    await running.exited;
    await page.getByText('Waiting for the supervisor').waitFor();
    provider.release();
    bench.configure((text) => text.replace('127.0.0.1:0', `127.0.0.1:${port}`));
    running = await bench.start();
    await page.locator('.said.text', { hasText: 'a b c d' }).waitFor();
    expect(await page.locator('.said.text').count()).toBe(1);
  });

  test('can be walked by keyboard alone', async () => {
    await open();
    await page.keyboard.press('Tab');
    expect(await page.evaluate('document.activeElement.textContent')).toBe('To the content');
    for (const name of ['Sessions', 'Approvals', 'System']) {
      await page.keyboard.press('Tab');
      expect(await page.evaluate('document.activeElement.textContent')).toBe(name);
    }
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'System' }).waitFor();
  });

  test('without a token shows nothing but how to give one', async () => {
    await page.goto(`${urlOf(running)}/`);
    await page.getByRole('alert').getByText('give a token').waitFor();
    expect(await page.locator('tbody tr').count()).toBe(0);
  });

  test('runs no script but its own', async () => {
    await open();
    const ran = await page.evaluate(`{
      const script = document.createElement('script');
      script.textContent = 'globalThis.ran = true';
      document.body.append(script);
      'ran' in globalThis;
    }`);
    expect(ran).toBe(false);
  });

  test('fits a narrow screen', async () => {
    await page.setViewportSize({ width: 390, height: 800 });
    await open();
    const width = await page.evaluate('document.documentElement.scrollWidth');
    expect(width).toBeLessThanOrEqual(390);
  });
});

test('[endpoint:getPage] [endpoint:getPageFile] is served whole, once, and nothing else is', async () => {
  const bench = createBench('[api]\nlisten = "127.0.0.1:0"\n');
  try {
    const { ready } = await bench.start();
    const url = /url (http:\S+)/.exec(ready)?.[1] ?? '';
    let byteCount = 0;
    for (const path of ['/', '/dashboard/app.js', '/dashboard/style.css']) {
      const response = await fetch(`${url}${path}`);
      expect(response.status).toBe(200);
      expect(response.headers.get('content-security-policy')).toContain("script-src 'self'");
      byteCount += (await response.arrayBuffer()).byteLength;
      const etag = response.headers.get('etag') ?? '';
      // A proxy that compresses makes the tag a weak one.
      for (const known of [etag, `W/${etag}`, `"older", ${etag}`]) {
        const again = await fetch(`${url}${path}`, { headers: { 'if-none-match': known } });
        expect(again.status).toBe(304);
      }
    }
    expect(byteCount).toBeLessThan(150_000);
    for (const path of ['/dashboard/..%2fcli.js', '/dashboard/index.htm']) {
      expect((await fetch(`${url}${path}`)).status).toBe(404);
    }
  } finally {
    await bench.close();
  }
});
