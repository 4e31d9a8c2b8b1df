/** What is wrong with a configuration, for who wrote it: file, key, value, rule and the nearest
 *  known key. Pure; shows no value that may be a secret. */
import { z } from 'zod';
import { PrxError } from '../base/errors.ts';
import { findNearest } from '../base/nearest.ts';
import { configSchema } from './config-schema.ts';

export interface Written {
  readonly file: string | undefined;
  /** The file with what environment and flags put over it. */
  readonly tree: unknown;
  /** Keys that these set. */
  readonly sources: ReadonlyMap<string, 'environment' | 'flag'>;
}

/** How these keys are called outside of a file. */
const OUTSIDE: Readonly<Record<string, { readonly environment?: string; readonly flag?: string }>> =
  {
    'store.path': { environment: 'PRX_STATE_DIR', flag: '--state-dir' },
    'agent.model': { environment: 'PRX_MODEL' },
    'log.level': { environment: 'PRX_LOG' },
    'api.listen': { flag: '--listen' },
  };

/** CONFIG_INVALID with one line for each problem. */
export function toConfigError(error: z.ZodError, written: Written): PrxError {
  const { file } = written;
  const lines = error.issues.map((issue) => describeIssue(issue, written));
  const isOutside = error.issues.every(({ path }) => findOutside(path, written) !== undefined);
  const where = isOutside || file === undefined ? 'the environment or a flag' : file;
  const message = `${where} is not valid:\n${lines.map((line) => `  ${line}`).join('\n')}`;
  return new PrxError('CONFIG_INVALID', message, { data: { file, problems: lines } });
}

/** The variable or flag that set the key at `path`, if one did. */
function findOutside(path: readonly PropertyKey[], { sources }: Written): string | undefined {
  const key = path.join('.');
  const source = sources.get(key);
  return source === undefined ? undefined : OUTSIDE[key]?.[source];
}

/** As a person counts: `security.rules[1].action` is of the first rule. */
function toKey(path: readonly PropertyKey[]): string {
  const parts = path.map((part) =>
    typeof part === 'number' ? `[${part + 1}]` : `.${String(part)}`,
  );
  return parts.join('').replace(/^\./, '');
}

function describeIssue(issue: z.core.$ZodIssue, written: Written): string {
  const path = issue.path.map(String);
  if (issue.code === 'unrecognized_keys') {
    const known = knownKeysAt(path);
    return issue.keys
      .map((key) => {
        const nearest = findNearest(key, known);
        const hint = nearest === undefined ? '' : `; did you mean '${nearest}'?`;
        return `${toKey([...issue.path, key])}: unknown key${hint} (known here: ${known.join(', ')})`;
      })
      .join('\n  ');
  }
  const value = path.reduce<unknown>((node, key) => childOf(node, key), written.tree);
  const rules = issue.code === 'invalid_key' ? issue.issues.map(({ message }) => message) : [];
  const why = [issue.message, ...rules].join(': ');
  const key = toKey(issue.path);
  if (value === undefined) return `${key} is missing: ${why.replace(', received undefined', '')}`;
  const outside = findOutside(issue.path, written);
  const from = outside === undefined ? '' : ` (from ${outside})`;
  return `${key} = ${mask(path, JSON.stringify(value))}${from}: ${why}`;
}

/** Where a key may have been written, though it does not belong there. */
function mask(path: readonly string[], text: string): string {
  const isSecret = path[0] === 'mcp' && ['headers', 'env'].includes(path[3] ?? '');
  return isSecret ? '(set)' : text.replace(/:\/\/[^/"]*@/, '://(set)@');
}

export function childOf(node: unknown, key: string): unknown {
  return typeof node === 'object' && node !== null ? Reflect.get(node, key) : undefined;
}

/** The keys the schema knows at a path, found by walking its JSON Schema. */
function knownKeysAt(path: readonly string[]): readonly string[] {
  let node: unknown = z.toJSONSchema(configSchema, { io: 'input' });
  for (const key of path) {
    const properties = childOf(node, 'properties');
    node =
      childOf(properties, key) ?? childOf(node, 'additionalProperties') ?? childOf(node, 'items');
  }
  const properties = childOf(node, 'properties');
  return typeof properties === 'object' && properties !== null ? Object.keys(properties) : [];
}
