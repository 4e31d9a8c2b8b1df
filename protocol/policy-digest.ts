/** The name of a sandbox policy: stands on every tool call, so that two calls can be told to have
 *  run under the same rules, and an approval or a report can be traced to what was in force. */
import { createHash } from 'node:crypto';
import type { SandboxPolicy } from './sandbox-methods.ts';

const DIGITS = 16;

/** Of all that the policy says but the values of variables, which may be anything. Pure. */
export function toPolicyDigest(policy: SandboxPolicy): string {
  const { env, ...rest } = policy;
  const named: Record<string, unknown> = { ...rest, env: Object.keys(env).sort() };
  const sorted = Object.keys(named)
    .sort()
    .map((key) => [key, named[key]]);
  return createHash('sha256').update(JSON.stringify(sorted)).digest('hex').slice(0, DIGITS);
}
