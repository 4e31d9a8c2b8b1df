/** Which level this machine can give, found out by building it and attacking it: names and versions
 *  promise nothing (containers, AppArmor, sysctls). */
import { toPrxError } from '../../base/errors.ts';
import { noNetwork } from '../../protocol/network.ts';
import type { OfferedLevel, SandboxLevel } from '../../protocol/sandbox-levels.ts';
import type { SandboxPolicy } from '../../protocol/sandbox-methods.ts';
import { type Arena, checkArms, type Escape, openArena } from './arms.ts';
import type { Backend } from './backend.ts';

export interface ProbeResult {
  readonly level: SandboxLevel;
  readonly uid: number;
  /** Why it is not the first that was asked for, and how it would be; absent: it is. */
  readonly reason?: string;
  readonly mend?: string;
}

/** Present everywhere; the command of this proof neither reads nor writes it. */
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

export interface ProbePorts {
  readonly create: (policy: SandboxPolicy) => Promise<Backend>;
  readonly uid: number;
  /** Tells this probe's processes from all others. */
  readonly mark: string;
  /** Removes what the backends left. */
  clean(): void;
}

/** The first of these levels that holds. Never throws: what went wrong is the answer. bubblewrap is
 *  proved by one run of its real profile, which is what each start waits for; what we build
 *  ourselves is attacked as well. */
export async function probe(
  levels: readonly OfferedLevel[],
  ports: ProbePorts,
): Promise<ProbeResult> {
  let why: { readonly reason: string; readonly mend: string } | undefined;
  for (const level of levels) {
    try {
      const uid = level === 'bubblewrap' ? await build(ports) : await attack(level, ports);
      return { level, uid, ...why };
    } catch (error) {
      why ??= toReason(error);
    }
  }
  return { level: 'none', uid: ports.uid, ...why };
}

async function build({ create }: ProbePorts): Promise<number> {
  const backend = await create(probePolicy);
  await backend.close();
  return backend.uid;
}

async function attack(level: OfferedLevel, ports: ProbePorts): Promise<number> {
  const arena = await openArena(ports.mark);
  try {
    const without = await attackAt('none', arena, ports);
    const within = await attackAt(level, arena, ports);
    checkArms(level, without.escapes, within.escapes);
    return within.uid;
  } finally {
    arena.close();
    ports.clean();
  }
}

async function attackAt(
  backend: SandboxLevel,
  arena: Arena,
  { create }: ProbePorts,
): Promise<{ readonly escapes: readonly Escape[]; readonly uid: number }> {
  const own = await create({ ...probePolicy, backend, workspace: arena.workspace });
  try {
    return { escapes: await arena.attack(own), uid: own.uid };
  } finally {
    await own.close();
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
