/** What the gate asks about a call that may be for an MCP server. */
import type { EffectClass } from '../../protocol/content.ts';
import { isMcpToolName } from '../../protocol/mcp-names.ts';
import { effectClassOf } from '../../protocol/tools.ts';
import type { GateDeps, McpGate, SandboxStanding } from './ports.ts';

/** What finds a tool among those of MCP servers; absent: there are none. */
export interface McpFinder {
  readonly mcp?: Pick<McpGate, 'find'>;
}

/** What a call of this tool does: for an MCP tool what the configuration says. */
export function effectOf(deps: McpFinder, tool: string): EffectClass {
  return deps.mcp?.find(tool)?.effect ?? effectClassOf(tool);
}

/** A server behind a URL needs no sandbox of ours, and has none. */
export function standingOf(
  deps: McpFinder & Pick<GateDeps, 'sandbox'>,
  tool: string,
): SandboxStanding {
  const isRemote = isMcpToolName(tool) && deps.mcp?.find(tool)?.isRemote === true;
  return isRemote ? { level: 'none', refusal: undefined } : deps.sandbox();
}

/** All that decides about calls of this tool. */
export function policyOf(deps: McpFinder & Pick<GateDeps, 'policy'>, tool: string): unknown {
  const facts = deps.mcp?.find(tool);
  const { version } = deps.policy();
  return facts === undefined ? version : [version, facts];
}

/** What is wrong with a call of an MCP tool, as its server's host says; undefined: nothing, or it
 *  is another tool, or nobody waits any more. */
export async function findMcpCallProblem(
  deps: Pick<GateDeps, 'mcp'>,
  { tool, value, signal }: McpQuestion,
): Promise<string | undefined> {
  if (!isMcpToolName(tool) || deps.mcp === undefined) return undefined;
  const aborted = Promise.withResolvers<undefined>();
  const onAbort = (): void => aborted.resolve(undefined);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([deps.mcp.check(tool, value), aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

interface McpQuestion {
  readonly tool: string;
  readonly value: unknown;
  readonly signal: AbortSignal;
}
