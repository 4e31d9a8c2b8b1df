/** How a worker is confined beyond the permission model: namespaces of its own, where the machine
 *  has them. */
import type { Programs, WorkerWrap } from './launch.ts';

export function createWorkerWrap(_programs: Programs): () => WorkerWrap | undefined {
  return () => undefined;
}
