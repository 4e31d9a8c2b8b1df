/** The first events of a long session may be gone: a position before them is refused (410), and the
 *  refusal names the first one that is left. Who asked for all there is goes on from there; a
 *  position that was given stays refused, because a gap is not passed over in silence. */
import { isPrxError } from '../base/errors.ts';

/** The number of the last event that is gone. @throws the error itself, when it is another. */
export function toStart(error: unknown): number {
  const first = isPrxError(error, 'CURSOR_GONE') ? Number(error.data['first_seq']) : 0;
  if (!(first > 1)) throw error;
  return first - 1;
}

/** @param read  from behind this number; what it gives is not looked at.
 *  @returns 0, or the number of the last event that is gone. */
export async function findStart(read: (since: number) => Promise<unknown>): Promise<number> {
  try {
    await read(0);
    return 0;
  } catch (error) {
    return toStart(error);
  }
}
