/** Loads a tool file in a thread of its own: TypeScript by the runtime itself, `zod` and
 *  `prx-supervisor/tools` from us whatever lies around, and the digest of all that was loaded from
 *  the tool's folder. Once a thread: hooks and modules stay. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { registerHooks } from 'node:module';
import { relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import * as zod from 'zod';
import { effectClassSchema } from '../../../protocol/content.ts';
import { CUSTOM_TOOL_NAME } from '../../../protocol/custom-names.ts';
import { type CustomTool, defineTool } from '../../../protocol/define-tool.ts';

export interface LoadedTool {
  readonly tool: CustomTool;
  readonly digest: string;
}

/** What may be wrong with a file, as a sentence. */
export class ToolFileError extends Error {
  override readonly name = 'ToolFileError';
}

const { z } = zod;
const DESCRIPTION_CHARS_MAX = 4000;

const toolSchema = z.object(
  {
    name: z.string().regex(CUSTOM_TOOL_NAME, 'a letter, then letters, digits, _ and -; at most 48'),
    description: z.string().min(1).max(DESCRIPTION_CHARS_MAX),
    schema: z.custom(isObjectSchema, 'is no object schema of zod 4: z.object({ … })'),
    effect: effectClassSchema,
    run: z.custom((value) => typeof value === 'function', 'is no function'),
  },
  'is not what defineTool({ … }) returns',
);

const provided: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  zod,
  'prx-supervisor/tools': { defineTool, z },
};
const SCHEME = 'prx-provided:';
const PROVIDED = Symbol.for('prx.provided');

/** @throws ToolFileError; and whatever the file throws as it is loaded. */
export async function loadTool(file: string, root: string): Promise<LoadedTool> {
  const loaded = new Map<string, string>();
  Reflect.set(globalThis, PROVIDED, provided);
  registerHooks({
    resolve(specifier, context, next) {
      if (!Object.hasOwn(provided, specifier)) return next(specifier, context);
      return { url: `${SCHEME}${specifier}`, format: 'module', shortCircuit: true };
    },
    load(url, context, next) {
      if (url.startsWith(SCHEME)) {
        const source = toSource(url.slice(SCHEME.length));
        return { format: 'module', source, shortCircuit: true };
      }
      if (url.startsWith('file:')) {
        const path = fileURLToPath(url);
        loaded.set(relative(root, path), hash(readFileSync(path)));
      }
      return next(url, context);
    },
  });
  const module: { readonly default?: unknown } = await import(pathToFileURL(file).href);
  const tool = checkTool(module.default);
  return { tool, digest: hash(JSON.stringify([...loaded].sort(byPath))) };
}

function byPath([one]: readonly [string, string], [other]: readonly [string, string]): number {
  return one < other ? -1 : 1;
}

function hash(content: Buffer | string): string {
  return createHash('sha256').update(content).digest('hex');
}

function checkTool(value: unknown): CustomTool {
  if (value === undefined) {
    const message = 'it has no default export; write: export default defineTool({ … })';
    throw new ToolFileError(message);
  }
  const parsed = toolSchema.safeParse(value);
  if (!parsed.success) throw new ToolFileError(`its tool: ${toSentence(parsed.error, 'it')}`);
  // Checked above; the object itself, because `run` may use its `this`.
  return value as CustomTool;
}

function isObjectSchema(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || !('_zod' in value)) return false;
  const { _zod: inner } = value as { readonly _zod: { readonly def?: { readonly type?: string } } };
  return inner?.def?.type === 'object';
}

const ISSUES_SHOWN = 5;

/** @param whole  what an issue without a path is about. */
export function toSentence({ issues }: zod.ZodError, whole: string): string {
  const shown = issues
    .slice(0, ISSUES_SHOWN)
    .map(({ path, message }) => `${path.map(String).join('.') || whole}: ${message}`);
  const more = issues.length - shown.length;
  return [...shown, ...(more > 0 ? [`and ${more} more`] : [])].join('; ');
}

/** A module with the names of ours. Some of them (`enum`) cannot be declared, so none is. */
function toSource(specifier: string): string {
  const names = Object.keys(provided[specifier] ?? {}).filter((name) => name !== 'default');
  const from = `const from = globalThis[Symbol.for('prx.provided')][${JSON.stringify(specifier)}];`;
  const constants = names.map((name, index) => `const e${index} = from[${JSON.stringify(name)}];`);
  const exported = names.map((name, index) => `e${index} as ${name}`);
  return [
    from,
    ...constants,
    `export { ${exported.join(', ')} };`,
    'export default from.default ?? from.z;',
  ].join('\n');
}
