/** A browser, and a supervisor whose page it opens: what the tests of the web page share. Where
 *  there is no Chromium these tests are skipped, and say so; CI installs it. */
import { existsSync } from 'node:fs';
import { describe } from '@jest/globals';
import { type Browser, chromium } from 'playwright-core';
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
