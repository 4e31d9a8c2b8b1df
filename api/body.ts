/** JSON bodies, strictly: valid UTF-8, valid JSON, bounded in bytes (by the server) and in depth.
 *  What passes can be journaled and printed without a second look. */
import type { Readable } from 'node:stream';
import { PrxError } from '../base/errors.ts';

/** Bytes. A prompt may have 8 million characters, which JSON can write as twice the bytes. */
export const BODY_BYTES_MAX = 16 * 1024 * 1024;
/** Levels of nesting: what comes in is written again by JSON.stringify, which recurses. */
const DEPTH_MAX = 100;

/** Bytes of a body that is too large that are read nevertheless. */
const DISCARDED_BYTES_MAX = 4 * BODY_BYTES_MAX;

/** Reads what a client still sends and keeps nothing. One whose connection was closed meanwhile
 *  would see a broken pipe, and not the answer that says why. Ends with the body, the connection
 *  (which has a deadline), or a limit. */
export function discardBody(body: Readable): Promise<void> {
  return new Promise((resolve) => {
    let leftBytes = DISCARDED_BYTES_MAX;
    body.on('data', (chunk: Buffer) => {
      leftBytes -= chunk.length;
      if (leftBytes < 0) resolve();
    });
    body.once('end', resolve).once('close', resolve).resume();
    if (body.readableEnded || body.destroyed) resolve();
  });
}

/** The value of a JSON body; undefined when it is empty. @throws INVALID_REQUEST. */
export function parseBody(bytes: Buffer): unknown {
  if (bytes.length === 0) return undefined;
  const value = parseJson(decodeUtf8(bytes));
  if (isDeeperThan(value, DEPTH_MAX)) {
    throw new PrxError('INVALID_REQUEST', `the body is nested deeper than ${DEPTH_MAX} levels`);
  }
  return value;
}

function decodeUtf8(bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new PrxError('INVALID_REQUEST', 'the body is not valid UTF-8', { cause: error });
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new PrxError('INVALID_REQUEST', `the body is not valid JSON: ${reason}`, {
      cause: error,
    });
  }
}

/** Level by level, so that the check itself needs no stack. */
function isDeeperThan(value: unknown, max: number): boolean {
  let level: unknown[] = [value];
  for (let depth = 0; level.length > 0; depth += 1) {
    const objects = level.filter((item) => typeof item === 'object' && item !== null);
    if (objects.length > 0 && depth >= max) return true;
    level = objects.flatMap((item) => Object.values(item as object));
  }
  return false;
}
