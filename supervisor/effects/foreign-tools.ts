/** What the gate asks about a call that may be for a tool that is not ours: of an MCP server, or a
 *  custom one. */
import { toPrxError } from '../../base/errors.ts';
import type { EffectClass } from '../../protocol/content.ts';
import { isMcpToolName } from '../../protocol/mcp-names.ts';
import { effectClassOf } from '../../protocol/tools.ts';
import type { CustomGate, GateDeps, McpGate, SandboxStanding } from './ports.ts';

/** What finds a tool among those that are not ours; absent: there are none. */
export interface ForeignFinder {
  readonly mcp?: Pick<McpGate, 'find'>;
  readonly custom?: Pick<CustomGate, 'find'>;
}

/** What a call of this tool does: for an MCP tool what the configuration says, for a custom one
 *  what its file says. */
export function effectOf(deps: ForeignFinder, tool: string): EffectClass {
  return findFacts(deps, tool)?.effect ?? effectClassOf(tool);
}

function findFacts({ mcp, custom }: ForeignFinder, tool: string) {
  return mcp?.find(tool) ?? custom?.find(tool);
}

/** A server behind a URL needs no sandbox of ours, and has none. */
export function standingOf(
  deps: ForeignFinder & Pick<GateDeps, 'sandbox'>,
  tool: string,
): SandboxStanding {
  const isRemote = isMcpToolName(tool) && deps.mcp?.find(tool)?.isRemote === true;
  return isRemote ? { level: 'none', refusal: undefined } : deps.sandbox();
}

/** All that decides about calls of this tool. */
export function policyOf(deps: ForeignFinder & Pick<GateDeps, 'policy'>, tool: string): unknown {
  const facts = findFacts(deps, tool);
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

/** What is wrong with a call of a custom tool that a person would be asked about: nobody is shown
 *  what could not run. Where nobody is asked, the call itself finds it. */
export async function findCustomCallProblem(
  { custom, logger }: Pick<GateDeps, 'custom' | 'logger'>,
  tool: string,
  value: unknown,
): Promise<string | undefined> {
  if (custom?.find(tool) === undefined) return undefined;
  return custom.check(tool, value).catch((error: unknown) => {
    logger.warn('custom_tools.not_checked', { tool, error: toPrxError(error).message });
    return `the arguments could not be checked: ${toPrxError(error).message}; nothing ran`;
  });
}

interface McpQuestion {
  readonly tool: string;
  readonly value: unknown;
  readonly signal: AbortSignal;
}
