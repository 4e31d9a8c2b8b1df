/** The program of a custom tool's thread: what Piscina calls in there, by name. */
import { checkArguments, describeFile, runTool } from './custom/tasks.ts';

export const describe = describeFile;
export const check = checkArguments;
export const call = runTool;
