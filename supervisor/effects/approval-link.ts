/** A link that answers one approval, once: it names the call and its digest, ends with the
 *  approval, and is signed with a key that never leaves the state directory. Used up by the first
 *  answer, whoever gives it, because an approval is resolved once. */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import { PrxError } from '../../base/errors.ts';
import { effectIdSchema, sessionIdSchema } from '../../protocol/ids.ts';

const linkSchema = z.tuple([sessionIdSchema, effectIdSchema, z.string(), z.number()]);

export interface ApprovalLink {
  readonly session: z.infer<typeof sessionIdSchema>;
  readonly callId: z.infer<typeof effectIdSchema>;
  readonly digest: string;
  /** Wall time, ms. */
  readonly expiresAtMs: number;
}

export function signLink(key: string, link: ApprovalLink): string {
  const facts = [link.session, link.callId, link.digest, link.expiresAtMs];
  const payload = Buffer.from(JSON.stringify(facts)).toString('base64url');
  return `${payload}.${sign(key, payload)}`;
}

/** @throws FORBIDDEN for a link that is not ours or has expired. */
export function readLink(key: string, token: string, nowMs: number): ApprovalLink {
  const [payload = '', signature = '', ...more] = token.split('.');
  const expected = Buffer.from(sign(key, payload));
  const given = Buffer.from(signature);
  const isOurs =
    more.length === 0 && given.length === expected.length && timingSafeEqual(given, expected);
  if (!isOurs)
    throw new PrxError('FORBIDDEN', 'this link is not valid; ask for the approval again');
  const text = Buffer.from(payload, 'base64url').toString('utf8');
  const [session, callId, digest, expiresAtMs] = linkSchema.parse(JSON.parse(text));
  if (nowMs < expiresAtMs) return { session, callId, digest, expiresAtMs };
  throw new PrxError('FORBIDDEN', `the link for call ${callId} has expired with its approval`);
}

/** What a receiver compares: HMAC-SHA256, hex. */
export function sign(key: string, text: string): string {
  return createHmac('sha256', key).update(text).digest('hex');
}
