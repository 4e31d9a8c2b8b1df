/** The model's argument text, checked against the tool's schema before anyone is asked to approve
 *  it. A problem is a sentence for the model. */
import { toPrxError } from '../../base/errors.ts';
import { isForeignToolName } from '../../protocol/custom-names.ts';
import { isToolName, toolTable } from '../../protocol/tools.ts';

/** Deeper than any schema that is taken (of servers: 32 levels), and far from what a comparison
 *  that calls itself can bear: an approval is digested, and the journal's record of it compared. */
const DEPTH_MAX = 64;

export interface ParsedArguments {
  /** As parsed; the text itself where it did not parse. */
  readonly value: unknown;
  readonly problem: string | undefined;
}

/** @param allowed the tools this agent may use. */
export function parseArguments(
  ask: { readonly name: string; readonly arguments: string },
  allowed: readonly string[],
): ParsedArguments {
  const isKnown = isToolName(ask.name) || isForeignToolName(ask.name);
  if (!isKnown || !allowed.includes(ask.name)) {
    const problem = `there is no tool '${ask.name}'; the tools are: ${allowed.join(', ')}`;
    return { value: ask.arguments, problem };
  }
  let value: unknown;
  try {
    value = ask.arguments.trim() === '' ? {} : JSON.parse(ask.arguments);
  } catch (error) {
    const problem = `the arguments are not valid JSON (${toPrxError(error).message}); send one JSON object`;
    return { value: ask.arguments, problem };
  }
  const problem = findArgumentProblem(ask.name, value);
  return { value, problem };
}

/** The same arguments, however they are written? `value` is what was parsed, or what the journal
 *  gave back of it. */
export function hasArguments(text: string, value: unknown): boolean {
  let parsed: unknown = text;
  try {
    parsed = text.trim() === '' ? {} : JSON.parse(text);
  } catch {
    // Text that is no JSON stands for itself, as in `parseArguments`.
  }
  return JSON.stringify(parsed) === JSON.stringify(value);
}

/** What is wrong with a tool's arguments, as a sentence; undefined: nothing, or nothing but what
 *  the host of an MCP server or a custom tool checks itself (such a schema is not read here). */
export function findArgumentProblem(tool: string, value: unknown): string | undefined {
  if (isDeeper(value, DEPTH_MAX)) return `the arguments are nested deeper than ${DEPTH_MAX} levels`;
  if (isForeignToolName(tool)) return undefined;
  if (!isToolName(tool)) return `there is no tool '${tool}'`;
  const parsed = toolTable[tool].arguments.safeParse(value);
  if (parsed.success) return undefined;
  const issues = parsed.error.issues.map(
    (each) => `${each.path.join('.') || 'arguments'}: ${each.message}`,
  );
  return `the arguments do not fit ${tool}: ${issues.slice(0, 5).join('; ')}`;
}

/** Ends at the limit, whatever it is given. */
function isDeeper(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return levels === 0 || Object.values(value).some((each) => isDeeper(each, levels - 1));
}
