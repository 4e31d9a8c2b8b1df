/** Whether a client that speaks to us on standard input has ended it, or has sent what could not be
 *  read: then it is told why it has nobody to speak to any more. */
import type { Readable } from 'node:stream';
import { PrxError } from '../base/errors.ts';

/** @returns what is called when the connection is over. It throws FRAME_TOO_LARGE. */
export function checkOwnEnd(stdin: Readable): () => void {
  let isEnded = stdin.readableEnded;
  stdin.once('end', () => {
    isEnded = true;
  });
  return () => {
    if (isEnded) return;
    const message =
      'a message is too long to be read, so the connection is ended; send less at once';
    throw new PrxError('FRAME_TOO_LARGE', message);
  };
}
