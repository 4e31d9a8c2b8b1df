/** `mcp__SERVER__TOOL`: how the tools of MCP servers are named, so that none can stand in for
 *  another server's or for one of ours. Pure. */
import { createHash } from 'node:crypto';

const PREFIX = 'mcp__';

/** Names of configured servers: what may stand in a tool's name, and no doubled underscore. */
export const MCP_SERVER_NAME = /^[A-Za-z0-9](?:[_-]?[A-Za-z0-9]){0,23}$/;

/** All names of a server's tools begin so. */
export function toMcpPrefix(server: string): string {
  return `${PREFIX}${server}__`;
}

/** Told from a built-in tool by its name alone. */
export function isMcpToolName(name: string): boolean {
  return name.startsWith(PREFIX);
}

/** The server in a tool's name; undefined: it has not that shape. */
export function findMcpServer(name: string): string | undefined {
  const end = name.indexOf('__', PREFIX.length);
  return isMcpToolName(name) && end > PREFIX.length ? name.slice(PREFIX.length, end) : undefined;
}

/** What providers take. */
const NAME_CHARS_MAX = 64;
const HASH_CHARS = 8;

/** A server's own name of a tool as a model knows it: unlike any other, whatever it is. */
export function toMcpToolName(server: string, name: string): string {
  const clean = name.replace(/[^A-Za-z0-9_-]/g, '_');
  const whole = `${toMcpPrefix(server)}${clean}`;
  if (clean === name && whole.length <= NAME_CHARS_MAX) return whole;
  const hash = createHash('sha256').update(name).digest('hex').slice(0, HASH_CHARS);
  return `${whole.slice(0, NAME_CHARS_MAX - HASH_CHARS - 1)}_${hash}`;
}
