import { expect, test } from '@jest/globals';
import { toProcessViews } from '../../supervisor/process-views.ts';

const STARTED = '2026-01-02T03:04:05.000Z';
const LATER = '2026-01-02T05:00:00.000Z';

test('[endpoint:listProcesses] the memory of each process, and when it was started', () => {
  const curve = [
    { ago_ms: 100, rss_bytes: 90 },
    { ago_ms: 0, rss_bytes: 60 },
  ];
  const session = {
    id: 's_0123456789abcdef',
    resident: { worker: () => ({ pid: 7, startedAtMs: 0 }) },
    record: () => ({ generation: 2 }),
    host: { child: () => ({ pid: 9 }) },
  };
  // Only what is read: a whole runtime would say no more about it.
  const sources = {
    startedAt: STARTED,
    gateway: { child: () => ({ pid: 8 }) },
    mcp: { processes: () => [10] },
    directory: { all: () => [session] },
    memory: { recordOf: () => ({ peakBytes: 90, curve }) },
    registry: { startedAt: (pid: number) => (pid === 10 ? undefined : LATER) },
    readResidentBytes: (pid: number) => (pid === 10 ? undefined : pid * 100),
  } as unknown as Parameters<typeof toProcessViews>[0];
  const views = toProcessViews(sources, undefined);
  expect(views).toMatchObject([
    { kind: 'supervisor', pid: process.pid, started_at: STARTED },
    { kind: 'gateway', pid: 8, started_at: LATER, rss_bytes: 800 },
    // Gone this moment.
    { kind: 'mcp', pid: 10, started_at: STARTED },
    { kind: 'worker', pid: 7, rss_bytes: 60 },
    { kind: 'sandbox', pid: 9, started_at: LATER, rss_bytes: 900 },
  ]);
});
