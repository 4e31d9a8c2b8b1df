/** Where requests for an MCP server may go. Pure. */

/** The same origin, and the path itself or one below it: text alone would take a.example.evil. */
export function isBelow(url: string, allowed: string): boolean {
  const [one, other] = [new URL(url), new URL(allowed)];
  if (one.origin !== other.origin) return false;
  const folder = other.pathname.endsWith('/') ? other.pathname : `${other.pathname}/`;
  return one.pathname === other.pathname || one.pathname.startsWith(folder);
}
