/** What of HTTP/1.1 itself a request must keep, whoever asks and through whichever door: that no
 *  proxy before us reads it otherwise than we do, and that a body is what it says. */
import type { IncomingMessage } from 'node:http';
import { HttpError } from './problem.ts';

/** @throws 400, 412, 415, 417, 421 or 501, as RFC 9110 and RFC 9112 say. */
export function checkFraming(request: IncomingMessage): void {
  checkHost(request);
  checkCondition(request);
  const { 'transfer-encoding': transfer = 'chunked', 'content-encoding': content = 'identity' } =
    request.headers;
  const { expect = '100-continue' } = request.headers;
  if (expect.toLowerCase() !== '100-continue') {
    throw new HttpError(417, `what is expected, '${expect}', is not known; leave Expect out`);
  }
  if (transfer.toLowerCase() !== 'chunked') {
    const message = `the transfer coding '${transfer}' is not known; send chunked, or a length`;
    throw new HttpError(501, message, { code: 'UNSUPPORTED' });
  }
  if (content.toLowerCase() !== 'identity') {
    const message = `the body is coded as '${content}'; send it as it is`;
    throw new HttpError(415, message, { headers: { 'accept-encoding': 'identity' } });
  }
}

/** Node would take the first of two names, a proxy perhaps the other. */
function checkHost({ headersDistinct, httpVersionMinor, url = '' }: IncomingMessage): void {
  const names = headersDistinct['host'] ?? [];
  if (names.length > 1 || (names.length === 0 && httpVersionMinor > 0)) {
    throw new HttpError(400, `a request has one Host header, this one has ${names.length}`);
  }
  const target = /^[a-z]+:\/\/([^/?#]*)/i.exec(url)?.[1];
  if (target === undefined || target.toLowerCase() === names[0]?.toLowerCase()) return;
  const message = `the request is for '${target}', and its Host header names '${names[0] ?? ''}'`;
  throw new HttpError(421, message, { code: 'MISDIRECTED' });
}

/** A change on the condition that nothing else has changed: done all the same, it would be what the
 *  client asked us not to do. The tags of our views move with every heartbeat; none is compared. */
function checkCondition({ method, headers }: IncomingMessage): void {
  if (method === 'GET' || method === 'HEAD') return;
  const { 'if-match': tag = '*', 'if-unmodified-since': stamp } = headers;
  if (tag.trim() === '*' && stamp === undefined) return;
  const name = stamp === undefined ? 'If-Match' : 'If-Unmodified-Since';
  throw new HttpError(412, `${name} is not taken here: nothing was changed; send it without`);
}
