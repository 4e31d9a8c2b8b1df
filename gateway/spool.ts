/** Reads what an attempt's spool says of it. The file is made by the first request of its
 *  attempt: when it exists, the provider may have been asked. */
import { readAppendLog } from '../base/append-log.ts';
import { systemCode } from '../base/errors.ts';
import { type AttemptOutcome, modelSpoolRecordSchema } from '../protocol/gateway-methods.ts';

export type SpoolState =
  | { readonly kind: 'absent' }
  /** Begun, but no terminal record: its gateway died, or an orphan is still at work. */
  | { readonly kind: 'unfinished' }
  | { readonly kind: 'ended'; readonly outcome: AttemptOutcome };

/** Throws the system error when the file exists and cannot be read. */
export function readSpoolState(path: string): SpoolState {
  let offset = 0;
  for (;;) {
    const slice = readSlice(path, offset);
    if (slice === undefined) return { kind: 'absent' };
    const last = modelSpoolRecordSchema.safeParse(slice.records.at(-1)?.value);
    if (last.success && last.data.kind === 'end') {
      return { kind: 'ended', outcome: last.data.outcome };
    }
    // No further whole record: the slice was the rest of the file.
    if (slice.records.length === 0) return { kind: 'unfinished' };
    offset = slice.nextOffset;
  }
}

function readSlice(path: string, offset: number): ReturnType<typeof readAppendLog> | undefined {
  try {
    return readAppendLog(path, offset);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}
