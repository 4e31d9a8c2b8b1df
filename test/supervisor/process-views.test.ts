import { expect, test } from '@jest/globals';
import { toProcessViews } from '../../supervisor/process-views.ts';

test('[endpoint:listProcesses] the memory of a worker is its newest sample, not its peak', () => {
  const curve = [
    { ago_ms: 100, rss_bytes: 90 },
    { ago_ms: 0, rss_bytes: 60 },
  ];
  const session = {
    id: 's_0123456789abcdef',
    resident: { worker: () => ({ pid: 7, startedAtMs: 0 }) },
    record: () => ({ generation: 2 }),
    host: { child: () => undefined },
  };
  // Only what is read: a whole runtime would say no more about it.
  const sources = {
    startedAt: '2026-01-02T03:04:05.000Z',
    gateway: { child: () => undefined },
    mcp: { processes: () => [] },
    directory: { all: () => [session] },
    memory: { recordOf: () => ({ peakBytes: 90, curve }) },
  } as unknown as Parameters<typeof toProcessViews>[0];
  const views = toProcessViews(sources, undefined);
  expect(views.find(({ kind }) => kind === 'worker')).toMatchObject({ pid: 7, rss_bytes: 60 });
});
