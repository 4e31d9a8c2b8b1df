/** fetch with a bound on the body: the SDK buffers an event, and the body of an error, whatever
 *  their size. A longer error body is cut (its beginning says enough); a longer stream fails. */
import { createFailure } from '../failures.ts';

/** Of one streamed answer: 16 MiB of text with the JSON around each token. */
const STREAM_BYTES_MAX = 256 * 1024 * 1024;
/** Of one event, or of any run of bytes without a line end, which the SDK must hold. */
const LINE_BYTES_MAX = 32 * 1024 * 1024;
const ERROR_BYTES_MAX = 64 * 1024;

type Fetch = typeof globalThis.fetch;
type Step = (chunk: Uint8Array, control: TransformStreamDefaultController<Uint8Array>) => void;

export function createBoundedFetch(inner: Fetch): Fetch {
  return async (input, init) => {
    const response = await inner(input, init);
    if (response.body === null) return response;
    const transform = response.ok ? createStreamBound() : createErrorCut();
    const body = response.body.pipeThrough(new TransformStream({ transform }));
    const { status, statusText, headers } = response;
    return new Response(body, { status, statusText, headers });
  };
}

function createStreamBound(): Step {
  const LINE_END = 10;
  let totalBytes = 0;
  let lineBytes = 0;
  return (chunk, control) => {
    totalBytes += chunk.length;
    const lineEnd = chunk.lastIndexOf(LINE_END);
    lineBytes = lineEnd < 0 ? lineBytes + chunk.length : chunk.length - lineEnd - 1;
    if (lineBytes > LINE_BYTES_MAX || totalBytes > STREAM_BYTES_MAX) {
      const limit = lineBytes > LINE_BYTES_MAX ? LINE_BYTES_MAX : STREAM_BYTES_MAX;
      const message = `the provider sent more than ${limit} bytes without an end`;
      control.error(createFailure('too_large', message));
      return;
    }
    control.enqueue(chunk);
  };
}

function createErrorCut(): Step {
  let leftBytes = ERROR_BYTES_MAX;
  return (chunk, control) => {
    control.enqueue(chunk.subarray(0, leftBytes));
    leftBytes -= Math.min(leftBytes, chunk.length);
    if (leftBytes === 0) control.terminate();
  };
}
