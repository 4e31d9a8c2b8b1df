/** The backend that a policy asks for, on the real machine. */
import { realClock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import { findIdentity, OWNER_MARK } from '../../base/process.ts';
import { realRandom } from '../../base/random.ts';
import type { SandboxPolicy } from '../../protocol/sandbox-methods.ts';
import type { Callers } from '../network/callers.ts';
import type { Backend } from './backend.ts';
import { openKeeping } from './keeping.ts';
import { createNamespaceBackend } from './namespaces.ts';
import { createPlainBackend } from './plain.ts';
import { findRuntimeFiles } from './runtime-files.ts';

export interface BackendOptions {
  readonly policy: SandboxPolicy;
  readonly scratchDir: string;
  readonly parkedCount: number;
  readonly isSingle: boolean;
  readonly callers: Callers;
  readonly logger: Logger;
  /** The mark of the supervisor that started us. */
  readonly owner: string | undefined;
}

/** Throws SANDBOX_UNAVAILABLE, WORKSPACE_REFUSED. */
export async function createBackend(options: BackendOptions): Promise<Backend> {
  const { policy, scratchDir, parkedCount, isSingle, callers, logger } = options;
  const level = policy.backend;
  const files = findRuntimeFiles({
    mainPath: process.argv[1] ?? '',
    nodePath: process.execPath,
  });
  if (level === 'bubblewrap' || level === 'unshare') {
    const ports = { clock: realClock, random: realRandom, logger };
    const mark = toMark(options.owner);
    const own = { level, policy, files, parkedCount, isSingle, callers, mark };
    return await createNamespaceBackend({ ...ports, ...own });
  }
  const marked = markCommands(policy, options.owner);
  const keeping = level === 'none' ? undefined : openKeeping({ level, policy, files });
  const plain = { level, policy: marked, files, scratchDir, random: realRandom, keeping };
  return await createPlainBackend({ ...plain, isProved: isSingle || level === 'none' });
}

/** Without namespaces nothing dies with us by itself: each command carries whose it is, and of
 *  which host, so that the next start finds those of a host that was killed. */
function markCommands(policy: SandboxPolicy, owner: string | undefined): SandboxPolicy {
  const mark = toMark(owner);
  if (mark === undefined) return policy;
  const env = { ...policy.env, [OWNER_MARK]: mark };
  return { ...policy, envAllowlist: [...policy.envAllowlist, OWNER_MARK], env };
}

/** Whose we are, and who we are. */
function toMark(owner: string | undefined): string | undefined {
  const own = findIdentity(process.pid);
  if (owner === undefined || own === undefined) return undefined;
  return `${owner}.${own.pid}.${own.startTicks}`;
}
