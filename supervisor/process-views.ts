/** The live processes as `processes`, `status --deep` and `top` show them. */
import { toTimestamp } from '../base/clock.ts';
import type { SessionId } from '../protocol/ids.ts';
import type { ProcessView } from '../protocol/resources.ts';
import type { Gateway } from './children/gateway.ts';
import type { MemoryWatch } from './children/memory.ts';
import type { Registry } from './children/registry.ts';
import type { McpPool } from './mcp/pool.ts';
import type { Directory } from './sessions/directory.ts';

export interface ProcessSources {
  /** Of the supervisor. */
  readonly startedAt: string;
  readonly gateway: Pick<Gateway, 'child'>;
  readonly mcp: Pick<McpPool, 'processes'>;
  readonly directory: Pick<Directory, 'all'>;
  readonly memory: Pick<MemoryWatch, 'recordOf'>;
  readonly registry: Pick<Registry, 'startedAt'>;
  /** Of one process alone: what runs below a host would take a look at all of it. */
  readonly readResidentBytes: (pid: number) => number | undefined;
}

/** @param session  its own ones only; undefined: all there are. */
export function toProcessViews(
  sources: ProcessSources,
  session: SessionId | undefined,
): readonly ProcessView[] {
  const { startedAt, gateway, mcp, directory, memory, registry } = sources;
  const views: ProcessView[] = [];
  /** One that has just exited is in no registry any more. */
  const toView = (kind: ProcessView['kind'], pid: number): ProcessView => ({
    kind,
    pid,
    started_at: registry.startedAt(pid) ?? startedAt,
    ...toMemory(sources.readResidentBytes(pid)),
  });
  if (session === undefined) {
    const rss_bytes = process.memoryUsage.rss();
    views.push({ kind: 'supervisor', pid: process.pid, started_at: startedAt, rss_bytes });
    const own = gateway.child();
    if (own !== undefined) views.push(toView('gateway', own.pid));
  }
  for (const pid of mcp.processes(session)) views.push(toView('mcp', pid));
  for (const each of directory.all()) {
    if (session !== undefined && each.id !== session) continue;
    const worker = each.resident.worker();
    const { generation } = each.record();
    if (worker !== undefined) {
      const started_at = toTimestamp(worker.startedAtMs);
      const sampled = toMemory(memory.recordOf(worker.pid)?.curve.at(-1)?.rss_bytes);
      views.push({ kind: 'worker', pid: worker.pid, started_at, generation, ...sampled });
    }
    const host = each.host.child();
    if (host !== undefined) views.push(toView('sandbox', host.pid));
  }
  return views;
}

function toMemory(bytes: number | undefined): Pick<ProcessView, 'rss_bytes'> {
  return bytes === undefined ? {} : { rss_bytes: bytes };
}
