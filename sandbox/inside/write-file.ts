/** write_file: the whole content of a file, new or replaced. */
import { statSync } from 'node:fs';
import type { z } from 'zod';
import type { Random } from '../../base/random.ts';
import type { writeFileArgumentsSchema } from '../../protocol/tools.ts';
import { toToolFailure } from './failure.ts';
import { refuseGuarded, resolvePath, toShownPath } from './paths.ts';
import { replaceFile } from './replace-file.ts';
import { type FileContext, type FileResult, toOk } from './result.ts';

export function writeFile(
  args: z.infer<typeof writeFileArgumentsSchema>,
  context: FileContext & { readonly random: Random },
): FileResult {
  const absolute = resolvePath(context.workspace, args.path);
  const shown = toShownPath(context.workspace, absolute);
  refuseGuarded(context.workspace, absolute);
  try {
    const existed = statSync(absolute, { throwIfNoEntry: false }) !== undefined;
    replaceFile(absolute, args.content, context.random.hex(4));
    const verb = existed ? 'Replaced' : 'Created';
    return toOk(`${verb} ${shown} (${Buffer.byteLength(args.content)} bytes).`);
  } catch (error) {
    throw toToolFailure(error, 'write', shown);
  }
}
