/** One call of a file tool: parse, run, and turn what went wrong into words for the model. */
import type { Random } from '../../base/random.ts';
import {
  applyPatchArgumentsSchema,
  editFileArgumentsSchema,
  listFilesArgumentsSchema,
  readFileArgumentsSchema,
  writeFileArgumentsSchema,
} from '../../protocol/tools.ts';
import { applyPatch } from './apply-patch.ts';
import { editFile } from './edit-file.ts';
import { ToolFailure, toToolFailure } from './failure.ts';
import { listFiles } from './list-files.ts';
import type { FileToolName } from './methods.ts';
import { readFile } from './read-file.ts';
import type { FileContext, FileResult } from './result.ts';
import { writeFile } from './write-file.ts';

export interface FileToolCall extends FileContext {
  readonly tool: FileToolName;
  readonly arguments: unknown;
  readonly random: Random;
}

/** Never throws for what a file system can do; other errors are bugs and pass. */
export function runFileTool(call: FileToolCall): FileResult {
  try {
    return dispatch(call);
  } catch (thrown) {
    const error = toToolFailure(thrown, `do ${call.tool} on`, 'this path');
    if (!(error instanceof ToolFailure)) throw error;
    return { status: 'error', output: error.message, truncated: false };
  }
}

function dispatch(call: FileToolCall): FileResult {
  switch (call.tool) {
    case 'read_file':
      return readFile(readFileArgumentsSchema.parse(call.arguments), call);
    case 'write_file':
      return writeFile(writeFileArgumentsSchema.parse(call.arguments), call);
    case 'edit_file':
      return editFile(editFileArgumentsSchema.parse(call.arguments), call);
    case 'list_files':
      return listFiles(listFilesArgumentsSchema.parse(call.arguments), call);
    case 'apply_patch':
      return applyPatch(applyPatchArgumentsSchema.parse(call.arguments), call);
  }
}
