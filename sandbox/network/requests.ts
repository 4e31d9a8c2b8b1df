/** One request from its question to its record: decide, take the secrets that go with it, connect,
 *  and tell the supervisor how it ended. The proxy and the fetch tool are two mouths of this. */
import type { Socket } from 'node:net';
import type { Clock } from '../../base/clock.ts';
import { type CanonicalHost, matchesHost, parseHostPattern } from '../../base/hostnames.ts';
import type { EffectId } from '../../protocol/ids.ts';
import type { Injection, NetworkRequest } from '../../protocol/network.ts';
import { dial } from './dial.ts';
import { type NetworkRules, type NetworkVerdict, toDenialText } from './rules.ts';

export type SecretAnswer =
  | { readonly kind: 'value'; readonly value: string }
  | { readonly kind: 'refused'; readonly reason: string };

export type ReadSecret = (
  name: string,
  asked: {
    readonly use: 'header' | 'file';
    readonly purpose: string;
    readonly call: EffectId | undefined;
  },
) => Promise<SecretAnswer>;

export interface RequestDeps {
  readonly clock: Clock;
  readonly rules: NetworkRules;
  readonly lookup: (name: string) => Promise<readonly string[]>;
  readonly injections: readonly Injection[];
  /** Asks the supervisor, which checks the scope and writes the access down. */
  readonly readSecret: ReadSecret;
  /** Whether somebody is there to record what this call does. */
  readonly canRecord: (call: EffectId | undefined) => boolean;
  /** How many requests this call has begun, with this one. */
  readonly count: (call: EffectId | undefined) => number;
  /** Resolves when it is on its way to the journal. Never rejects. */
  readonly report: (request: NetworkRequest) => Promise<void>;
}

export interface RequestSpec {
  readonly via: NetworkRequest['via'];
  readonly call: EffectId | undefined;
  readonly method: string;
  readonly host: CanonicalHost;
  readonly port: number;
}

/** refused: the text is for whoever asked, with the status to answer. */
export type Opened =
  | { readonly kind: 'open'; readonly request: OpenRequest }
  | { readonly kind: 'refused'; readonly status: number; readonly text: string };

export interface OpenRequest {
  readonly socket: Socket;
  readonly headers: Readonly<Record<string, string>>;
  /** Tells how it ended; once. */
  finish(status: number): Promise<void>;
}

const TUNNEL = 'CONNECT';

/** Never rejects. What is refused has been recorded. */
export async function openRequest(deps: RequestDeps, spec: RequestSpec): Promise<Opened> {
  const { rules, clock } = deps;
  if (!deps.canRecord(spec.call)) return unrecorded;
  const count = deps.count(spec.call);
  // The first one too many is recorded, so that the journal says why there are no more.
  if (count > REQUESTS_MAX + 1) return tooMany;
  const startedMs = clock.nowMs();
  const { method, host, port } = spec;
  const isSeen = method !== TUNNEL;
  const verdict = rules.decide({ host, port, ...(isSeen ? { method } : {}) });
  const record = (more: Partial<NetworkRequest>): Promise<void> =>
    deps.report({
      ...(spec.call === undefined ? {} : { call_id: spec.call }),
      ...{ via: spec.via, method, host: host.host, port, decision: verdict.decision },
      ...{ rule: verdict.rule, status: 403, bytes_sent: 0, bytes_received: 0 },
      duration_ms: Math.round(clock.nowMs() - startedMs),
      ...more,
    });
  const refuse = async (denial: Denial): Promise<Opened> => {
    const { rule, reason, status } = denial;
    await record({ decision: 'deny', rule, reason, status });
    return { kind: 'refused', status, text: toDenialText(reason, rules) };
  };
  if (verdict.decision === 'deny') return await refuse({ ...verdict, status: 403 });
  if (count > REQUESTS_MAX) return await refuse({ rule: 'requests', reason: ENOUGH, status: 429 });
  const taken = isSeen ? await takeHeaders(deps, spec) : { headers: {}, secrets: [] };
  if ('reason' in taken) return await refuse({ rule: 'secrets', status: 403, ...taken });
  const dialed = await dial(deps, spec);
  if (dialed.kind === 'denied') return await refuse({ ...dialed, status: 403 });
  if (dialed.kind === 'failed') {
    await record({ status: dialed.status, reason: dialed.reason });
    return { kind: 'refused', status: dialed.status, text: `${dialed.reason}.\n` };
  }
  const { socket, address } = dialed;
  let isOver = false;
  const request: OpenRequest = {
    socket,
    headers: taken.headers,
    async finish(status) {
      if (isOver) return;
      isOver = true;
      const { secrets } = taken;
      const bytes = { bytes_sent: socket.bytesWritten, bytes_received: socket.bytesRead };
      await record({ address, status, ...bytes, ...(secrets.length === 0 ? {} : { secrets }) });
    },
  };
  return { kind: 'open', request };
}

/** Each is an event in the journal, which a loop must not fill. */
export const REQUESTS_MAX = 5000;
const ENOUGH = `one call makes at most ${REQUESTS_MAX} requests`;
const tooMany: Opened = { kind: 'refused', status: 429, text: `${ENOUGH}; make another call.\n` };

const unrecorded: Opened = {
  kind: 'refused',
  status: 503,
  text: 'The supervisor is gone, so that this request could not be recorded; it was not made.\n',
};

type Denial = Pick<Extract<NetworkVerdict, { decision: 'deny' }>, 'rule' | 'reason'> & {
  readonly status: number;
};

type Taken =
  | { readonly headers: Record<string, string>; readonly secrets: string[] }
  | { readonly reason: string };

/** A secret that is configured for this host and cannot be had refuses the request: sent without,
 *  it would only fail further away and say less. */
async function takeHeaders(deps: RequestDeps, asked: RequestSpec): Promise<Taken> {
  const { host, port, method, call } = asked;
  const taken = { headers: {} as Record<string, string>, secrets: [] as string[] };
  for (const { secret, domain, header, format } of deps.injections) {
    const pattern = parseHostPattern(domain);
    if (pattern === undefined || !matchesHost(pattern, host)) continue;
    if (pattern.port !== undefined && pattern.port !== port) continue;
    if (method === 'TRACE') {
      return { reason: `TRACE asks the server to send the secret ${secret} back` };
    }
    const purpose = `header ${header} to ${host.host}`;
    const answer = await deps.readSecret(secret, { use: 'header', purpose, call });
    if (answer.kind === 'refused') return { reason: answer.reason };
    if (!/^[\x20-\x7e]*$/.test(answer.value)) {
      return {
        reason: `the secret ${secret} does not fit into a header: it is not one line of ASCII`,
      };
    }
    taken.headers[header.toLowerCase()] = format.replaceAll('{value}', () => answer.value);
    taken.secrets.push(secret);
  }
  return taken;
}
