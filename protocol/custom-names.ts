/** `custom__NAME`: how the tools of the user's own files are named, so that none can stand in for
 *  one of ours, of today or of a later version, or for an MCP server's. Pure. */
import { isMcpToolName } from './mcp-names.ts';

const PREFIX = 'custom__';

/** What a file may call its tool; with the prefix it is a name that providers take. */
export const CUSTOM_TOOL_NAME = /^[A-Za-z][A-Za-z0-9_-]{0,47}$/;

export function toCustomToolName(name: string): string {
  return `${PREFIX}${name}`;
}

/** Not one of ours: what its arguments mean is its author's affair, and another one may stand
 *  behind the name tomorrow. */
export function isForeignToolName(name: string): boolean {
  return isCustomToolName(name) || isMcpToolName(name);
}

/** Told from any other tool by its name alone. */
export function isCustomToolName(name: string): boolean {
  return name.startsWith(PREFIX);
}
