/** Our programs as they ship (see built.mjs). */
import { join } from 'node:path';
import type { ThreadFiles } from '../store/threads.ts';

const dist = join(import.meta.dirname, '../dist');

export const programs = {
  supervisor: join(dist, 'supervisor.js'),
  worker: join(dist, 'worker.js'),
  gateway: join(dist, 'gateway.js'),
  sandbox: join(dist, 'sandbox.js'),
  mcp: join(dist, 'mcp.js'),
  monitor: join(dist, 'monitor.js'),
};

/** Of the store. */
export const threadFiles: ThreadFiles = {
  writer: join(dist, 'writer.js'),
  reader: join(dist, 'reader.js'),
};
