/** The web page as a newcomer sees it: light and dark, a desk and a phone. */
import type { Browser, Page } from 'playwright-core';

/** Takes a picture under a name. */
export type Save = (name: string, take: (path: string) => Promise<unknown>) => Promise<void>;

interface PageDeps {
  readonly browser: Browser;
  readonly url: string;
  readonly token: string;
  readonly save: Save;
}

const DESK = { width: 1100, height: 700 };
const PHONE = { width: 390, height: 760 };
const TO_THE_END = 'scrollTo(0, document.documentElement.scrollHeight)';

/** @throws when the page says anything on the console. */
export async function recordPage({ browser, url, token, save }: PageDeps): Promise<void> {
  const page = await browser.newPage({ viewport: DESK });
  const complaints: string[] = [];
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => complaints.push(`${message.type()}: ${message.text()}`));
  const shoot = (name: string): Promise<void> => save(name, (path) => page.screenshot({ path }));
  await page.goto(`${url}/#token=${token}`);
  await page.getByRole('link', { name: 'demo' }).waitFor();
  await shoot('web-sessions');
  await page.getByRole('link', { name: /Approvals/ }).click();
  await page.getByLabel('Approval of shell').waitFor();
  await shoot('web-approval');
  await page.emulateMedia({ colorScheme: 'dark' });
  await page.getByRole('link', { name: 'Sessions' }).click();
  await page.getByRole('link', { name: 'demo' }).click();
  await page.getByRole('button', { name: 'Approve', exact: true }).click();
  // What is said before the turn has ended stands above the turn's last words.
  await page.locator('.said.text:not(.live)', { hasText: '(no output)' }).waitFor();
  await say(page, '~slow 400');
  await page.locator('.live', { hasText: 'word30' }).waitFor();
  await page.evaluate(TO_THE_END);
  await shoot('web-live-dark');
  await page.setViewportSize(PHONE);
  await page.evaluate(TO_THE_END);
  await shoot('phone-live-dark');
  await page.emulateMedia({ colorScheme: 'light' });
  await page.getByRole('button', { name: 'Interrupt' }).click();
  await page.getByText('turn 4 ended').waitFor();
  await say(page, '@ask_user {"question":"Which database?","options":["SQLite","PostgreSQL"]}');
  await page.getByLabel('Question of the agent').scrollIntoViewIfNeeded();
  await shoot('phone-question');
  await page.setViewportSize(DESK);
  await page.getByRole('link', { name: 'System' }).click();
  await page.getByText('whole: 2 sessions').waitFor();
  await save('web-system', (path) => page.screenshot({ path, fullPage: true }));
  await page.close();
  if (complaints.length > 0) throw new Error(`the page complained: ${complaints.join('; ')}`);
}

async function say(page: Page, text: string): Promise<void> {
  await page.getByLabel(/Say something/).fill(text);
  await page.keyboard.press('Control+Enter');
}
