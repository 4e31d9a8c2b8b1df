/** A browser, and a supervisor whose page it opens: what the tests of the web page share. Where
 *  there is no Chromium these tests are skipped, and say so; CI installs it. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe } from '@jest/globals';
import { type Browser, chromium } from 'playwright-core';
import type { Bench, Running } from './harness.ts';
import { createSupervisedBench, type SupervisedBench } from './supervised.ts';

const executablePath = ['/usr/bin/chromium', '/usr/bin/chromium-browser'].find(existsSync);
export const withBrowser = executablePath === undefined ? describe.skip : describe;

export function launchBrowser(): Promise<Browser> {
  const args = ['--no-sandbox'];
  return chromium.launch(executablePath === undefined ? { args } : { executablePath, args });
}

/** With a door for the browser. */
export function createPageBench(): Promise<SupervisedBench> {
  return createSupervisedBench('[api]\nlisten = "127.0.0.1:0"');
}

/** The address of the page, with the token of who opens it. */
export function toPageUrl({ stateDir }: Bench, { ready }: Running): string {
  const token = readFileSync(join(stateDir, 'api-token'), 'utf8').trim();
  return `${/url (http:\S+)/.exec(ready)?.[1]}/#token=${token}`;
}
