/** `import { defineTool, z } from 'prx-supervisor/tools'`: what the file of a custom tool is
 *  written against. Nothing here runs in the supervisor: a tool file is loaded in the sandbox
 *  only. */
import { z } from 'zod';
import type { EffectClass } from './content.ts';

export { z };

/** What a call is given beside its input. */
export interface ToolContext {
  /** Aborted when the call is cancelled or its time is over. Half a second later its thread is
   *  ended, whatever it does. */
  readonly signal: AbortSignal;
  /** The folder the agent works in, absolute. */
  readonly workspace: string;
  /** Shown to whoever watches the call, not to the model. At most 262,144 characters a call. */
  readonly log: (text: string) => void;
}

export interface CustomTool<Schema extends z.ZodObject = z.ZodObject> {
  /** A letter, then letters, digits, `_` and `-`; at most 48. Models see `custom__NAME`. */
  readonly name: string;
  /** For the model: what it does, when to use it. At most 4,000 characters. */
  readonly description: string;
  /** The arguments, an object. What its JSON Schema cannot say (transforms of dates and the like)
   *  is refused when the file is read. */
  readonly schema: Schema;
  /** What is done with a call of which nobody knows how it ended: `read` and `idempotent` run
   *  again, `write` is reported to the model. When in doubt it is `write`. */
  readonly effect: EffectClass;
  /** @returns text for the model; anything else is given to it as JSON. What it throws is an error
   *  result with its message. Each call has a thread of its own: nothing is kept between two. */
  run(input: z.output<Schema>, context: ToolContext): unknown;
}

/** A tool, as the default export of its file. Checks nothing itself: it gives `run` its types. */
export function defineTool<Schema extends z.ZodObject>(
  tool: CustomTool<Schema>,
): CustomTool<Schema> {
  return tool;
}
