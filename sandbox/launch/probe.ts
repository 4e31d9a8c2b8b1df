/** Whether this machine can give a sandbox, found out by building a real one: names and versions
 *  promise nothing (containers, AppArmor, sysctls). */
import { toPrxError } from '../../base/errors.ts';
import { noNetwork } from '../../protocol/network.ts';
import type { SandboxPolicy } from '../../protocol/sandbox-methods.ts';
import type { Backend } from './backend.ts';

export type ProbeResult =
  | { readonly level: 'bubblewrap'; readonly uid: number }
  | {
      readonly level: 'none';
      readonly uid: number;
      readonly reason: string;
      readonly mend: string;
    };

/** Present everywhere; the probe's command neither reads nor writes it. */
const PROBE_WORKSPACE = '/tmp';

export const probePolicy: SandboxPolicy = {
  backend: 'bubblewrap',
  workspace: PROBE_WORKSPACE,
  readOnlyPaths: [],
  writablePaths: [],
  hiddenPaths: [],
  protectedPaths: [],
  envAllowlist: [],
  env: {},
  timeoutMs: 10_000,
  memoryLimitBytes: 0,
  cpuMs: 0,
  diskBytes: 0,
  filesMax: 0,
  maxPids: 64,
  backgroundMax: 0,
  backgroundTimeoutMs: 0,
  maxOutputBytes: 65_536,
  tmpBytes: 1024 * 1024,
  network: noNetwork,
};

/** Never throws: what went wrong is the answer. */
export async function probe(create: () => Promise<Backend>, uid: number): Promise<ProbeResult> {
  try {
    const backend = await create();
    await backend.close();
    return { level: 'bubblewrap', uid: backend.uid };
  } catch (error) {
    return { level: 'none', uid, ...toReason(error) };
  }
}

function toReason(error: unknown): { readonly reason: string; readonly mend: string } {
  const known = toPrxError(error);
  const { reason, mend } = known.data;
  return {
    reason: typeof reason === 'string' ? reason : known.message,
    mend: typeof mend === 'string' ? mend : 'see the reason',
  };
}
