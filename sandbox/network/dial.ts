/** From an allowed name to a connection: resolved once, out here, each address judged, and the
 *  connection made to exactly that address. So a name that answers differently the second time
 *  (rebinding) gains nothing: there is no second time. */
import { connect, type Socket } from 'node:net';
import type { Clock } from '../../base/clock.ts';
import { systemCode } from '../../base/errors.ts';
import { type CanonicalHost, toHostText } from '../../base/hostnames.ts';
import type { NetworkRules, NetworkVerdict } from './rules.ts';

export interface DialDeps {
  readonly clock: Clock;
  readonly rules: NetworkRules;
  /** All addresses of a name; rejects with a system error. */
  readonly lookup: (name: string) => Promise<readonly string[]>;
}

export type Dialed =
  | { readonly kind: 'connected'; readonly socket: Socket; readonly address: string }
  | { readonly kind: 'denied'; readonly rule: string; readonly reason: string }
  | { readonly kind: 'failed'; readonly status: 502 | 504; readonly reason: string };

export interface Target {
  readonly host: CanonicalHost;
  readonly port: number;
}

const LOOKUP_MS = 10_000;
const CONNECT_MS = 10_000;
/** Of a name with many addresses: after so many that do not answer it is down. */
const ADDRESSES_MAX = 3;

/** Never rejects. The caller owns the socket. */
export async function dial(deps: DialDeps, target: Target): Promise<Dialed> {
  const { host, port } = target;
  const found = await resolve(deps, host);
  if (found.kind !== 'resolved') return found;
  const judged = found.addresses.map((address) => ({
    address,
    verdict: deps.rules.decideAddress(address, port),
  }));
  const allowed = judged.filter(({ verdict }) => verdict.decision === 'allow');
  let last = toRefusal(host, judged[0]?.verdict);
  for (const { address } of allowed.slice(0, ADDRESSES_MAX)) {
    last = await connectTo(deps.clock, address, target);
    if (last.kind === 'connected') return last;
  }
  return last;
}

/** When none of its addresses may be connected to. */
function toRefusal(host: CanonicalHost, first: NetworkVerdict | undefined): Dialed {
  if (first?.decision !== 'deny') return failed(502, `${toHostText(host)} has no address`);
  const reason = `${toHostText(host)}: ${first.reason}`;
  return { kind: 'denied', rule: first.rule, reason };
}

type Resolved = { readonly kind: 'resolved'; readonly addresses: readonly string[] };

async function resolve(deps: DialDeps, host: CanonicalHost): Promise<Resolved | Dialed> {
  if (host.kind === 'address') return { kind: 'resolved', addresses: [host.host] };
  const name = host.host;
  const timedOut = new AbortController();
  const late = deps.clock
    .sleep(LOOKUP_MS, timedOut.signal)
    .then(() => failed(504, `${name} could not be resolved within ${LOOKUP_MS / 1000} s`));
  const answer = deps.lookup(name).then(
    (addresses): Resolved => ({ kind: 'resolved', addresses }),
    (error: unknown) =>
      failed(502, `${name} could not be resolved (${systemCode(error) ?? 'unknown error'})`),
  );
  const first = await Promise.race([answer, late]);
  timedOut.abort();
  return first;
}

function connectTo(clock: Clock, address: string, { host, port }: Target): Promise<Dialed> {
  const where = `${toHostText(host)}:${port} (${address})`;
  return new Promise((settle) => {
    const socket = connect({ host: address, port, noDelay: true });
    const timer = clock.setTimer(CONNECT_MS, () => {
      socket.destroy();
      settle(failed(504, `${where} did not take the connection within ${CONNECT_MS / 1000} s`));
    });
    socket.once('connect', () => {
      timer.cancel();
      settle({ kind: 'connected', socket, address });
    });
    // Also later errors: they show as the end of the stream.
    socket.on('error', (error) => {
      timer.cancel();
      settle(failed(502, `${where} refused the connection (${systemCode(error) ?? 'unknown'})`));
    });
  });
}

function failed(status: 502 | 504, reason: string): Dialed {
  return { kind: 'failed', status, reason };
}
