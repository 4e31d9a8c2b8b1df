/** The user's own tools between the supervisor and the sandbox: which files there are, what a file
 *  says of its tool, and which tools a session has. The supervisor never loads such a file: the
 *  sandbox program describes it (`--describe`), inside a sandbox. */
import { z } from 'zod';
import { effectClassSchema } from './content.ts';

/** A file, as a path below one of the roots; a root that is a file itself has the path ''. */
export const customFileSchema = z.object({ root: z.number(), path: z.string() });
export type CustomFile = z.infer<typeof customFileSchema>;

/** What a session's sandbox shows and runs. */
export const customToolsSchema = z.object({
  /** Folders and files of the host, absolute; shown read-only to the process of the tools alone. */
  roots: z.array(z.string()),
  tools: z.array(
    customFileSchema.extend({
      /** As the model knows it. */
      name: z.string(),
      /** Of the file and of all it loads: another one does not run. */
      digest: z.string(),
    }),
  ),
  /** Of one call's thread. */
  heapBytes: z.number(),
});
export type CustomTools = z.infer<typeof customToolsSchema>;

/** What a file says of its tool, or why it has none that could be used. */
export const descriptionSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('tool'),
    /** Without the prefix. */
    name: z.string(),
    description: z.string(),
    effect: effectClassSchema,
    /** JSON Schema of an object. */
    parameters: z.record(z.string(), z.unknown()),
    digest: z.string(),
  }),
  z.object({ kind: z.literal('refused'), problem: z.string() }),
]);
export type Description = z.infer<typeof descriptionSchema>;

/** What `--describe` is asked; the policy has the roots, and no workspace. */
export const describeOrderSchema = z.object({
  files: z.array(customFileSchema),
  heapBytes: z.number(),
  /** To load one file. */
  timeoutMs: z.number(),
  /** Of all files: those behind it are not read. */
  totalMs: z.number(),
});
export type DescribeOrder = z.infer<typeof describeOrderSchema>;

/** What `--describe` prints: one answer a file, in their order. */
export const describeAnswerSchema = z.object({ files: z.array(descriptionSchema) });
export type DescribeAnswer = z.infer<typeof describeAnswerSchema>;
