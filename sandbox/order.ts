/** What `prx sandbox run` hands over, and how it is carried out: the backend for this one command,
 *  our streams, our signals, the exit code. */
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import { z } from 'zod';
import type { Clock } from '../base/clock.ts';
import { errorTable, PrxError, toPrxError } from '../base/errors.ts';
import { silentLogger } from '../base/logger.ts';
import type { Random } from '../base/random.ts';
import { toToolEffectId } from '../protocol/ids.ts';
import { type SandboxPolicy, sandboxPolicySchema } from '../protocol/sandbox-methods.ts';
import type { Backend } from './launch/backend.ts';
import { createWorkspaceGuard } from './launch/workspace-guard.ts';
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
  level: z.enum(['bubblewrap', 'none']).optional(),
  minimum: z.enum(['bubblewrap', 'none']).optional(),
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
  readonly onSignal: (listener: () => void) => void;
  readonly streams: Readonly<Record<StreamName, Writable>>;
}

/** The one call there is. */
const CALL = toToolEffectId(1, 1, 1);

/** The policy at the asked level, with the values of the allowed variables. Throws
 *  SANDBOX_UNAVAILABLE when that is weaker than the configuration demands. */
export function toOrderedPolicy(order: Order, env: OrderPorts['env']): SandboxPolicy {
  const { policy, level, minimum } = order;
  const backend = level ?? policy.backend;
  if (backend === 'none' && minimum === 'bubblewrap') {
    const message = 'level none is weaker than security.sandbox.minimum_level = "bubblewrap"';
    throw new PrxError('SANDBOX_UNAVAILABLE', `${message}; nothing ran`);
  }
  if (backend === 'none' && policy.network.mode === 'allowlist') {
    const message = 'level none cannot keep to security.sandbox.network = "allowlist"';
    throw new PrxError('SANDBOX_UNAVAILABLE', `${message}; nothing ran`);
  }
  const values = policy.envAllowlist.flatMap((name) => {
    const value = env[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  return { ...policy, backend, env: Object.fromEntries(values) };
}

export async function runOrdered(spec: OrderPorts): Promise<number> {
  const { clock, random, streams } = spec;
  const abort = new AbortController();
  const stop = (): void => abort.abort();
  spec.onSignal(stop);
  // Nobody reads any more: then nobody waits for the command either.
  for (const stream of Object.values(streams)) stream.on('error', stop);
  // Made by who needs it, which is level none: a kill would leave it behind.
  const scratchDir = join(tmpdir(), `prx-sandbox-${random.hex(8)}`);
  let backend: Backend | undefined;
  let network: SessionNetwork | undefined;
  try {
    const order = orderSchema.parse(JSON.parse(spec.text));
    const policy = toOrderedPolicy(order, spec.env);
    network = await openNetwork(policy, clock);
    backend = await spec.createBackend(policy, scratchDir, network?.callers);
    if (backend.notice !== undefined) await write('stderr', `prx-supervisor: ${backend.notice}\n`);
    const { command, raw } = order;
    const guard = createWorkspaceGuard({ backend, clock, random });
    const ports = { backend, guard, clock, write, use: { call: CALL } };
    const exit = await runSingle({ ...ports, policy, command, raw, signal: abort.signal });
    const refused = network?.endCall(CALL) ?? '';
    if (refused !== '') await write('stderr', `prx-supervisor: ${refused}\n`);
    return exit;
  } catch (error) {
    const { code, message } = toPrxError(error);
    await write('stderr', `prx-supervisor: ${message}\n`);
    return errorTable[code].exit;
  } finally {
    network?.close();
    await backend?.close();
    rmSync(scratchDir, { recursive: true, force: true });
  }

  async function write(stream: StreamName, bytes: Buffer | string): Promise<void> {
    if (abort.signal.aborted && streams[stream].errored !== null) return;
    await new Promise<void>((resolve) => {
      streams[stream].write(bytes, () => resolve());
    });
  }
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
    canRecord: () => true,
    report: async () => undefined,
    async readSecret(name) {
      const reason = `the secret ${name} goes with this request, and a supervisor alone gives it: ask within a session`;
      return { kind: 'refused', reason };
    },
  });
}
