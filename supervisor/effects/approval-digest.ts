/** What a person is asked to approve, as one short text. An approval is bound to it: what runs is
 *  what was shown, under the rules under which it was shown. Pure. */
import { toCanonicalJson, toDigest } from './policy/digest.ts';

export interface ApprovalSubject {
  readonly tool: string;
  readonly arguments: unknown;
  readonly workspace: string;
  /** All that decides about calls: changed since means that this one might be denied today. */
  readonly policy: unknown;
  /** The sandbox level in force. */
  readonly level: string;
}

/** Tells it from the digests of the version before, which left the policy out. */
const VERSION = '2:';

export function digestApproval(subject: ApprovalSubject): string {
  const { tool, arguments: value, workspace, policy, level } = subject;
  return `${VERSION}${toDigest(toCanonicalJson([tool, value, workspace, policy, level]))}`;
}

/** Was exactly this approved? Also of a digest that the version before wrote. */
export function isApproved(digest: string, subject: ApprovalSubject): boolean {
  if (digest.startsWith(VERSION)) return digest === digestApproval(subject);
  const { tool, arguments: value, workspace } = subject;
  return digest === toDigest(JSON.stringify([tool, value, workspace]));
}
