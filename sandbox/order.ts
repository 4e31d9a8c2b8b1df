/** What `prx sandbox run` hands over, and how it is carried out: the backend for this one command,
 *  our streams, our signals, the exit code. */
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import { z } from 'zod';
import type { Clock } from '../base/clock.ts';
import { errorTable, PrxError, systemCode, toPrxError } from '../base/errors.ts';
import { silentLogger } from '../base/logger.ts';
import type { Random } from '../base/random.ts';
import { toToolEffectId } from '../protocol/ids.ts';
import {
  hasOwnRoot,
  isOfferedLevel,
  type OfferedLevel,
  offeredLevels,
  type SandboxLevel,
  sandboxLevels,
} from '../protocol/sandbox-levels.ts';
import { type SandboxPolicy, sandboxPolicySchema } from '../protocol/sandbox-methods.ts';
import type { Backend } from './launch/backend.ts';
import type { ProbeResult } from './launch/probe.ts';
import { createWorkspaceGuard, surveyKnown } from './launch/workspace-guard.ts';
import type { Callers } from './network/callers.ts';
import type { SessionNetwork } from './network/session-network.ts';
import { runSingle } from './single.ts';
import type { StreamName } from './streamer.ts';

export const orderSchema = z.object({
  /** Without the environment's values: those come by our own environment. */
  policy: sandboxPolicySchema,
  command: z.array(z.string()),
  raw: z.boolean(),
  json: z.boolean(),
  /** Accepted, strongest first; empty: what `policy` asks for is below the minimum. */
  levels: z.array(z.enum(sandboxLevels)),
  minimum: z.enum(sandboxLevels).optional(),
});
export type Order = z.infer<typeof orderSchema>;

export interface OrderPorts {
  /** The order, JSON. */
  readonly text: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly random: Random;
  readonly createBackend: (
    policy: SandboxPolicy,
    scratchDir: string,
    /** Absent: nothing answers inside. */
    callers?: Callers,
  ) => Promise<Backend>;
  /** The first of these levels that this machine gives. */
  readonly probe: (levels: readonly OfferedLevel[]) => Promise<ProbeResult>;
  readonly onSignal: (listener: () => void) => void;
  readonly streams: Readonly<Record<StreamName, Writable>>;
}

/** The one call there is. */
const CALL = toToolEffectId(1, 1, 1);

/** The policy at the strongest accepted level that can be had, with the values of the allowed
 *  variables. The machine is asked only where there is a choice. Throws SANDBOX_UNAVAILABLE when
 *  there is none, or it is weaker than the configuration demands. */
export async function toOrderedPolicy(
  order: Order,
  { env, probe }: Pick<OrderPorts, 'env' | 'probe'>,
): Promise<SandboxPolicy> {
  const { policy, levels, minimum } = order;
  const [strongest] = levels;
  if (strongest === undefined) {
    const message = `level ${policy.backend} is weaker than security.sandbox.minimum_level`;
    throw new PrxError('SANDBOX_UNAVAILABLE', `${message} = "${minimum}"; nothing ran`);
  }
  const backend = levels.length === 1 ? strongest : await findLevel(levels, probe);
  if (policy.network.mode === 'allowlist' && !hasOwnRoot(backend)) {
    const message = `level ${backend} cannot keep to security.sandbox.network = "allowlist"`;
    throw new PrxError('SANDBOX_UNAVAILABLE', `${message}; nothing ran`);
  }
  const values = policy.envAllowlist.flatMap((name) => {
    const value = env[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  return { ...policy, backend, env: Object.fromEntries(values) };
}

async function findLevel(
  levels: readonly SandboxLevel[],
  probe: OrderPorts['probe'],
): Promise<SandboxLevel> {
  const { level, reason, mend } = await probe(
    offeredLevels.filter((each) => levels.includes(each)),
  );
  if (level !== 'none') return level;
  const message = `no sandbox: ${reason}; mend: ${mend}`;
  throw new PrxError('SANDBOX_UNAVAILABLE', message, { data: { reason, mend } });
}

/** Where no least level is written down, it is the strongest: who reads why that cannot be had may
 *  want the next one, as long as it isolates. */
function toHint({ policy, minimum }: Order): string {
  if (minimum !== undefined || !isOfferedLevel(policy.backend)) return '';
  const next = offeredLevels.indexOf(policy.backend) + 1;
  const weaker = offeredLevels.slice(next).filter((level) => level !== 'limits-only');
  return weaker.length === 0 ? '' : `; or accept less: --level ${weaker.join(' or ')}`;
}

export async function runOrdered(spec: OrderPorts): Promise<number> {
  const { clock, random, streams } = spec;
  const abort = new AbortController();
  const stop = (): void => abort.abort();
  spec.onSignal(stop);
  // Nobody reads any more: then nobody waits for the command either. A process's own streams forget
  // their error, so it is kept here.
  let unwritten: Error | undefined;
  streams.stdout.on('error', stop);
  streams.stderr.on('error', () => undefined);
  // Made by who needs it, which is level none: a kill would leave it behind.
  const scratchDir = join(tmpdir(), `prx-sandbox-${random.hex(8)}`);
  let backend: Backend | undefined;
  let network: SessionNetwork | undefined;
  let hint = '';
  try {
    const order = orderSchema.parse(JSON.parse(spec.text));
    hint = toHint(order);
    const policy = await toOrderedPolicy(order, spec);
    network = await openNetwork(policy, clock);
    const surveying = surveyKnown(policy.workspace);
    backend = await spec.createBackend(policy, scratchDir, network?.callers);
    if (backend.notice !== undefined) await write('stderr', `prx-supervisor: ${backend.notice}\n`);
    const { command, raw } = order;
    const guard = createWorkspaceGuard({ backend, known: await surveying, clock, random });
    const ports = { backend, guard, clock, write, use: { call: CALL } };
    const exit = await runSingle({ ...ports, policy, command, raw, signal: abort.signal });
    const refused = network?.endCall(CALL) ?? '';
    if (refused !== '') await write('stderr', `prx-supervisor: ${refused}\n`);
    return unwritten === undefined ? exit : endUnwritten(unwritten, streams.stderr);
  } catch (error) {
    const { code, message } = toPrxError(error);
    const more = code === 'SANDBOX_UNAVAILABLE' ? hint : '';
    await write('stderr', `prx-supervisor: ${message}${more}\n`);
    return errorTable[code].exit;
  } finally {
    network?.close();
    await backend?.close();
    rmSync(scratchDir, { recursive: true, force: true });
  }

  async function write(stream: StreamName, bytes: Buffer | string): Promise<void> {
    // That the command was stopped for it is no news of the command.
    if (unwritten !== undefined) return;
    await new Promise<void>((resolve) => {
      streams[stream].write(bytes, (error) => {
        if (stream === 'stdout') unwritten ??= error ?? undefined;
        resolve();
      });
    });
  }
}

/** As every other command ends: quietly, unless it was not the reader who left. */
function endUnwritten(error: Error, stderr: Writable): number {
  const code = systemCode(error);
  if (code === 'EPIPE') return 0;
  stderr.write(`prx-supervisor: cannot write output: ${code}\n`);
  return errorTable.INTERNAL.exit;
}

/** What answers inside, where there is an allow-list: the same rules as for a session. Without a
 *  supervisor nothing is recorded, and there is no secret to give. */
async function openNetwork(
  { network: policy }: SandboxPolicy,
  clock: Clock,
): Promise<SessionNetwork | undefined> {
  if (policy.mode !== 'allowlist') return undefined;
  const { createSessionNetwork } = await import('./network/session-network.ts');
  return createSessionNetwork({
    ...{ policy, clock, logger: silentLogger },
    redact: (text) => text,
    canRecord: () => true,
    report: async () => undefined,
    async readSecret(name) {
      const reason = `the secret ${name} goes with this request, and a supervisor alone gives it: ask within a session`;
      return { kind: 'refused', reason };
    },
  });
}
