/** A browser, and a supervisor whose page it opens: what the tests of the web page share. Where
 *  there is no Chromium these tests are skipped, and say so; CI installs it. */
import { existsSync } from 'node:fs';
import { describe } from '@jest/globals';
import { type Browser, chromium } from 'playwright-core';
import { type Bench, createBench } from './harness.ts';
import { type ScriptedProvider, startScriptedProvider } from './scripted-provider.ts';

const executablePath = ['/usr/bin/chromium', '/usr/bin/chromium-browser'].find(existsSync);
export const withBrowser = executablePath === undefined ? describe.skip : describe;

export function launchBrowser(): Promise<Browser> {
  const args = ['--no-sandbox'];
  return chromium.launch(executablePath === undefined ? { args } : { executablePath, args });
}

export interface PageBench {
  readonly provider: ScriptedProvider;
  /** Not started. */
  readonly bench: Bench;
}

/** A model that says what a test wants, and calls of `shell` that wait for a person. */
export async function createPageBench(): Promise<PageBench> {
  const provider = await startScriptedProvider();
  const bench = createBench(`
    [api]
    listen = "127.0.0.1:0"
    [agent]
    model = "scripted"
    [provider]
    base_url = "${provider.url}"
    [security.tool_policy.tools]
    shell = "supervised"
  `);
  return { provider, bench };
}
