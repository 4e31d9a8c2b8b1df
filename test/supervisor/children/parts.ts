/** What children are made of in these tests. */
import type { ChildSpec } from '../../../supervisor/children/child.ts';
import type { Registry } from '../../../supervisor/children/registry.ts';
import { programNames } from '../machine.ts';

export const specOf = (kind: keyof typeof programNames, readyTimeoutMs = 5000): ChildSpec => ({
  kind,
  process: { command: 'node', args: [programNames[kind]], env: {}, ownSession: true },
  readyTimeoutMs,
  stopGraceMs: 50,
});

/** It writes nothing down and finds nobody. */
export const emptyRegistry: Registry = {
  add: async () => undefined,
  remove: () => undefined,
  disown: () => undefined,
  orphans: () => [],
  isKept: () => false,
  startedAt: () => undefined,
  hasHost: () => false,
  kill: () => false,
  sweep: async () => ({ killed: [], forgotten: 0 }),
};
