/** Host ↔ file host: what the trusted side asks the process inside the sandbox. */
import { z } from 'zod';

export const fileToolNames = [
  'read_file',
  'write_file',
  'edit_file',
  'list_files',
  'apply_patch',
] as const;
export type FileToolName = (typeof fileToolNames)[number];

export const fileRequests = {
  /** Runs one file tool. What goes wrong in the file system is a result with status error. */
  'file/run': {
    params: z.object({
      tool: z.enum(fileToolNames),
      arguments: z.unknown(),
      workspace: z.string(),
      maxOutputBytes: z.number(),
    }),
    result: z.object({
      status: z.enum(['ok', 'error']),
      output: z.string(),
      truncated: z.boolean(),
    }),
  },
} as const;

export const fileHostReports = {
  'file/ready': z.object({}),
} as const;
