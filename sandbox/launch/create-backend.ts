/** The backend that a policy asks for, on the real machine. */
import { realClock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import { findIdentity, OWNER_MARK } from '../../base/process.ts';
import { realRandom } from '../../base/random.ts';
import type { SandboxPolicy } from '../../protocol/sandbox-methods.ts';
import type { Callers } from '../network/callers.ts';
import type { Backend } from './backend.ts';
import { createBubblewrapBackend } from './bubblewrap.ts';
import { createNoneBackend } from './none.ts';
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
  const files = findRuntimeFiles({
    mainPath: process.argv[1] ?? '',
    nodePath: process.execPath,
  });
  if (policy.backend === 'none') {
    const marked = markCommands(policy, options.owner);
    return await createNoneBackend({ policy: marked, files, scratchDir, random: realRandom });
  }
  const ports = { clock: realClock, random: realRandom, logger };
  const own = { policy, files, parkedCount, isSingle, callers };
  return await createBubblewrapBackend({ ...ports, ...own });
}

/** At level none nothing dies with us by itself: each command carries whose it is, and of which
 *  host, so that the next start finds those of a host that was killed. */
function markCommands(policy: SandboxPolicy, owner: string | undefined): SandboxPolicy {
  const own = findIdentity(process.pid);
  if (owner === undefined || own === undefined) return policy;
  const env = { ...policy.env, [OWNER_MARK]: `${owner}.${own.pid}.${own.startTicks}` };
  return { ...policy, envAllowlist: [...policy.envAllowlist, OWNER_MARK], env };
}
