/** The command line of a program for who works on this project: what it cannot use is answered with
 *  how to call it and exit 2, not with a stack. */
import { writeSync } from 'node:fs';
import { systemCode } from '../base/errors.ts';

/** What `read` makes of the command line. It only reads: a RangeError of it, and what parseArgs
 *  refuses, is the caller's mistake and ends the process. */
export function orUsage<T>(usage: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    const isMistake = error instanceof RangeError || isRefusal(error);
    if (!isMistake) throw error;
    writeSync(2, `${error.message}\nusage: ${usage}\n`);
    process.exit(2);
  }
}

/** @throws RangeError for what is no whole number from 1 on. */
export function toCount(option: string, text: string): number {
  const count = Number(text);
  if (Number.isInteger(count) && count > 0) return count;
  throw new RangeError(`${option} is '${text}'; it takes a whole number from 1`);
}

function isRefusal(error: unknown): error is Error {
  return error instanceof Error && systemCode(error)?.startsWith('ERR_PARSE_ARGS') === true;
}
