/** The tools a model may ask for: name, description, argument schema, effect class, group. Here
 *  because four rooms need the same words: the worker and the gateway (what the model is told),
 *  the supervisor (policy, effect class) and the sandbox (what it runs). */
import { z } from 'zod';
import type { EffectClass } from './content.ts';

export interface ToolDefinition {
  readonly name: string;
  /** Policy group: `[security.tool_policy.groups.<g>]`. */
  readonly group: 'shell' | 'files' | 'search';
  readonly effect: EffectClass;
  readonly description: string;
  readonly arguments: z.ZodType;
}

const path = z
  .string()
  .min(1)
  .max(4096)
  .describe('Path relative to the workspace, or absolute inside it.');

export const shellArgumentsSchema = z.strictObject({
  command: z.string().min(1).max(100_000).describe('A command line for /bin/sh.'),
  timeout_secs: z
    .number()
    .positive()
    .max(86_400)
    .optional()
    .describe(
      'Seconds until the command and all it started are killed. Default: the configured limit, which is also the maximum.',
    ),
});

export const readFileArgumentsSchema = z.strictObject({
  path,
  offset: z.number().int().min(1).optional().describe('First line to return, from 1.'),
  limit: z.number().int().min(1).max(20_000).optional().describe('How many lines; default 2000.'),
});

export const writeFileArgumentsSchema = z.strictObject({
  path,
  content: z.string().max(10_000_000).describe('The whole new content of the file.'),
});

export const editFileArgumentsSchema = z.strictObject({
  path,
  old_text: z
    .string()
    .min(1)
    .optional()
    .describe('Exact text to replace; must occur exactly once unless replace_all is true.'),
  new_text: z.string().optional().describe('What to put in its place.'),
  replace_all: z.boolean().optional(),
  patch: z
    .string()
    .optional()
    .describe('Instead of old_text and new_text: a unified diff for this one file.'),
});

export const listFilesArgumentsSchema = z.strictObject({
  path: path.optional(),
  depth: z.number().int().min(1).max(20).optional().describe('Levels below; default 2.'),
  hidden: z.boolean().optional().describe('Also names that start with a dot; default false.'),
});

export const searchArgumentsSchema = z.strictObject({
  pattern: z.string().min(1).max(10_000).describe('A regular expression, as ripgrep has it.'),
  path: path.optional(),
  glob: z.string().max(1000).optional().describe('Only files that match, e.g. "*.ts".'),
  ignore_case: z.boolean().optional(),
  literal: z.boolean().optional().describe('Take the pattern as plain text.'),
  context: z.number().int().min(0).max(20).optional().describe('Lines around each match.'),
  max_matches: z.number().int().min(1).max(10_000).optional().describe('Default 200.'),
});

export const toolTable = {
  shell: {
    name: 'shell',
    group: 'shell',
    effect: 'write',
    description:
      'Run a command with /bin/sh in the workspace, inside a sandbox: no network, the system is read-only, only the workspace and /tmp can be written, and /tmp is fresh for each call. Standard input is empty. Everything the command starts is killed when the call ends.',
    arguments: shellArgumentsSchema,
  },
  read_file: {
    name: 'read_file',
    group: 'files',
    effect: 'read',
    description:
      'Read a text file of the workspace. Returns numbered lines; use offset and limit for a part of a long file.',
    arguments: readFileArgumentsSchema,
  },
  write_file: {
    name: 'write_file',
    group: 'files',
    effect: 'idempotent',
    description:
      'Create a file or replace its whole content. Missing folders are made. To change a part of a file use edit_file.',
    arguments: writeFileArgumentsSchema,
  },
  edit_file: {
    name: 'edit_file',
    group: 'files',
    effect: 'write',
    description:
      'Change a part of a file: either replace old_text (exact, with its indentation, occurring exactly once) by new_text, or apply a unified diff given as patch.',
    arguments: editFileArgumentsSchema,
  },
  list_files: {
    name: 'list_files',
    group: 'files',
    effect: 'read',
    description: 'List files and folders of the workspace as a tree with sizes.',
    arguments: listFilesArgumentsSchema,
  },
  search: {
    name: 'search',
    group: 'search',
    effect: 'read',
    description:
      'Search the contents of files with a regular expression (ripgrep semantics: .gitignore is honoured, binary files are skipped). Returns path:line:text.',
    arguments: searchArgumentsSchema,
  },
} as const satisfies Record<string, ToolDefinition>;

export type ToolName = keyof typeof toolTable;

export function isToolName(name: string): name is ToolName {
  return Object.hasOwn(toolTable, name);
}

/** A tool as a provider is told of it; `parameters` is JSON Schema. */
export const toolSpecSchema = z.object({
  name: z.string(),
  description: z.string(),
  parameters: z.record(z.string(), z.unknown()),
});
export type ToolSpec = z.infer<typeof toolSpecSchema>;

export function toToolSpec(tool: ToolDefinition): ToolSpec {
  const { $schema: _, ...parameters } = z.toJSONSchema(tool.arguments);
  return { name: tool.name, description: tool.description, parameters };
}
