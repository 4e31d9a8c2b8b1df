/** A session's network, assembled: rules, proxy, callers, and what was refused to each call, so
 *  that the answer of a call can say it (programs seldom show what a proxy tells them). */
import type { LookupAddress } from 'node:dns';
import { lookup as systemLookup } from 'node:dns/promises';
import { networkInterfaces } from 'node:os';
import { parseHost } from '../../base/hostnames.ts';
import type { Logger } from '../../base/logger.ts';
import type { EffectId } from '../../protocol/ids.ts';
import type { NetworkPolicy, NetworkRequest } from '../../protocol/network.ts';
import { type Callers, createCallers } from './callers.ts';
import { createProxy } from './proxy.ts';
import type { RequestDeps } from './requests.ts';
import { createNetworkRules } from './rules.ts';

export interface SessionNetwork {
  readonly callers: Callers;
  /** For requests that the host makes itself. */
  readonly requests: RequestDeps;
  /** The call is over. @returns one sentence about what was refused to it; empty: nothing was. */
  endCall(call: EffectId): string;
  close(): void;
}

export interface SessionNetworkSpec
  extends Pick<RequestDeps, 'clock' | 'canRecord' | 'readSecret' | 'report'> {
  readonly policy: NetworkPolicy;
  readonly logger: Logger;
  /** A text without the values of the vault. */
  readonly redact: (text: string) => string;
}

/** Of one call; further ones are counted by their absence from the sentence only. */
const DENIALS_MAX = 8;

export function createSessionNetwork(spec: SessionNetworkSpec): SessionNetwork {
  const { policy, clock, logger, canRecord, readSecret } = spec;
  const denials = new Map<EffectId, Set<string>>();
  const counts = new Map<EffectId | undefined, number>();
  const rules = createNetworkRules(policy, isOwnAddress);

  function note({ call_id: call, decision, host, port, rule }: NetworkRequest): void {
    if (call === undefined || decision === 'allow') return;
    const noted = denials.get(call) ?? new Set();
    if (noted.size < DENIALS_MAX) noted.add(`${host}:${port} (${rule})`);
    denials.set(call, noted);
  }
  const requests: RequestDeps = {
    clock,
    rules,
    lookup: lookUp,
    injections: policy.injections,
    canRecord,
    count(call) {
      const count = (counts.get(call) ?? 0) + 1;
      counts.set(call, count);
      return count;
    },
    readSecret,
    async report(made) {
      const request = toClean(made, spec.redact);
      note(request);
      await spec.report(request);
    },
  };
  const proxy = createProxy({ ...requests, logger, findCall: (word) => callers.find(word) });
  const callers = createCallers((socket) => proxy.accept(socket));

  return {
    callers,
    requests,
    endCall(call) {
      callers.release(call);
      const noted = denials.get(call);
      denials.delete(call);
      counts.delete(call);
      if (noted === undefined) return '';
      const list = [...noted].join(', ');
      return `network requests were refused: ${list}; allowed: ${rules.allowed}`;
    },
    close: () => proxy.close(),
  };
}

/** A name that is asked for may be anything, also what a command was given in confidence. */
function toClean(request: NetworkRequest, redact: (text: string) => string): NetworkRequest {
  const { method, host, rule, reason } = request;
  return {
    ...request,
    ...{ method: redact(method), host: redact(host), rule: redact(rule) },
    ...(reason === undefined ? {} : { reason: redact(reason) }),
  };
}

/** Everything a name stands for, in the order of the system's resolver. */
async function lookUp(name: string): Promise<readonly string[]> {
  const found: LookupAddress[] = await systemLookup(name, { all: true });
  return found.map(({ address }) => address);
}

/** A service of this machine stays unreachable also under its public address. */
function isOwnAddress(address: string): boolean {
  const asked = parseHost(address)?.host;
  return Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .some((own) => parseHost(own.address)?.host === asked);
}
