/** A model that says what a test wants, and calls of `shell` that wait for a person: what the tests
 *  of the web page, of an editor and of an MCP client share. */
import { type Bench, createBench } from './harness.ts';
import { type ScriptedProvider, startScriptedProvider } from './scripted-provider.ts';

export interface SupervisedBench {
  readonly provider: ScriptedProvider;
  /** Not started. */
  readonly bench: Bench;
}

/** @param settings  more lines of the config, above the others. */
export async function createSupervisedBench(settings = ''): Promise<SupervisedBench> {
  const provider = await startScriptedProvider();
  const bench = createBench(`
    ${settings}
    [agent]
    model = "scripted"
    [provider]
    base_url = "${provider.url}"
    [security.tool_policy.tools]
    shell = "supervised"
  `);
  return { provider, bench };
}
