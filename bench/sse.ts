/** Server-sent events as they come, each with the time of its arrival. The same reader is used on
 *  our api and on the model server behind it, so that it costs both sides the same. */
import type { IncomingMessage, RequestOptions } from 'node:http';
import { request } from 'node:http';

export interface Frame {
  readonly data: string;
  readonly atMs: number;
}

/** Sends a request, resolves with the head of its answer. */
export function send(options: RequestOptions, body?: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const sent = request(options, (head) => {
      if (head.statusCode === 200) return resolve(head);
      reject(new Error(`${options.method ?? 'GET'} ${options.path} answered ${head.statusCode}`));
    });
    sent.once('error', reject);
    sent.end(body);
  });
}

/** Calls `onFrame` for each event until the stream ends. */
export async function readFrames(
  stream: IncomingMessage,
  onFrame: (frame: Frame) => void,
): Promise<void> {
  let rest = '';
  stream.setEncoding('utf8');
  stream.on('data', (chunk: string) => {
    const atMs = performance.now();
    const parts = (rest + chunk).split('\n\n');
    rest = parts.pop() ?? '';
    for (const part of parts) {
      const lines = part.split('\n').filter((line) => line.startsWith('data: '));
      if (lines.length > 0) onFrame({ data: lines.map((line) => line.slice(6)).join('\n'), atMs });
    }
  });
  await new Promise<void>((resolve) => stream.once('close', resolve));
}
