/** Arguments that a server of revision 2026-07-28 behind a URL wants as headers too, so that what
 *  stands before it can route by them: `x-mcp-header` in the schema of a tool. The SDK does it for
 *  its own `callTool` alone, which knows fewer results than we take. Pure.
 *  Source: MCP 2026-07-28, Streamable HTTP, custom headers from tool parameters (SEP-2243). */

interface Declared {
  /** Names of properties, from the arguments down. */
  readonly path: readonly string[];
  readonly header: string;
}

const KEY = 'x-mcp-header';
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$/;
const TYPES: readonly unknown[] = ['string', 'integer', 'boolean'];

/** Why a tool may not be used over HTTP; undefined: it may. */
export function findHeaderProblem(schema: unknown): string | undefined {
  const declared = findDeclared(schema, []);
  if (countKeys(schema) !== declared.length) return `${KEY} stands where no argument is`;
  const names = declared.map(({ header }) => header.toLowerCase());
  if (new Set(names).size !== names.length) return `two arguments have the same ${KEY}`;
  const wrong = declared.find(({ path, header }) => {
    const property = path.reduce<unknown>((node, name) => of(of(node, 'properties'), name), schema);
    return !TOKEN.test(header) || !TYPES.includes(of(property, 'type'));
  });
  if (wrong === undefined) return undefined;
  return `${KEY} of '${wrong.path.join('.')}' is no name of a header, or of no string, integer or boolean`;
}

/** @param schema  one without a problem. */
export function toParamHeaders(schema: unknown, value: unknown): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const { path, header } of findDeclared(schema, [])) {
    const text = toText(path.reduce<unknown>(of, value));
    if (text !== undefined) headers[`Mcp-Param-${header}`] = encode(text);
  }
  return headers;
}

function findDeclared(schema: unknown, path: readonly string[]): Declared[] {
  const properties = of(schema, 'properties');
  if (typeof properties !== 'object' || properties === null) return [];
  return Object.entries(properties).flatMap(([name, property]) => {
    const own = [...path, name];
    const header = of(property, KEY);
    const below = findDeclared(property, own);
    return header === undefined ? below : [{ path: own, header: String(header) }, ...below];
  });
}

/** Wherever they stand: one that is no argument's makes the whole schema unusable. */
function countKeys(schema: unknown): number {
  if (typeof schema !== 'object' || schema === null) return 0;
  const counts = Object.entries(schema).map(([name, below]) =>
    // An argument may have that name.
    name === 'properties' ? countBelow(below) : (name === KEY ? 1 : 0) + countKeys(below),
  );
  return counts.reduce((sum, count) => sum + count, 0);
}

function countBelow(properties: unknown): number {
  if (typeof properties !== 'object' || properties === null) return 0;
  return Object.values(properties).reduce<number>((sum, below) => sum + countKeys(below), 0);
}

function of(node: unknown, key: string): unknown {
  const has = typeof node === 'object' && node !== null && Object.hasOwn(node, key);
  return has ? Reflect.get(node, key) : undefined;
}

/** Undefined: absent, null, or nothing that a header could say. */
function toText(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  const isPlain = typeof value === 'boolean' || Number.isSafeInteger(value);
  return isPlain ? String(value) : undefined;
}

/** What a header would lose, or could be taken for this encoding, is encoded. */
function encode(text: string): string {
  const isPlain = /^[\x21-\x7e]([\t\x20-\x7e]*[\x21-\x7e])?$/.test(text);
  if (isPlain && !/^=\?base64\?.*\?=$/.test(text)) return text;
  return `=?base64?${Buffer.from(text).toString('base64')}?=`;
}
