/** How often an MCP host that does not come up is started, with real processes that end at once, on
 *  a clock that the test moves. */
import { expect, test } from '@jest/globals';
import { silentLogger } from '../../../base/logger.ts';
import { realProcesses } from '../../../base/process.ts';
import { noFingerprints } from '../../../protocol/fingerprints.ts';
import { createMcpHost } from '../../../supervisor/children/mcp-host.ts';
import { createSteppedClock } from '../stepped-clock.ts';
import { emptyRegistry } from './parts.ts';

function createFailing() {
  const clock = createSteppedClock();
  const reasons: string[] = [];
  let starts = 0;
  const host = createMcpHost({
    ...{ clock, logger: silentLogger, random: { next: () => 0.5 }, session: undefined },
    processes: {
      ...realProcesses,
      start(spec) {
        starts += 1;
        return realProcesses.start(spec);
      },
    },
    server: {
      ...{ name: 'broken', shared: true, policy: undefined, isUnconfined: true, effects: {} },
      reach: { kind: 'url', url: 'http://127.0.0.1:9/', within: [], headers: [] },
      ...{ timeoutMs: 1000, maxOutputBytes: 1024 },
    },
    spec: {
      kind: 'mcp',
      process: { command: '/bin/false', args: [], env: {}, ownSession: true },
      ...{ readyTimeoutMs: 1000, stopGraceMs: 50 },
    },
    registry: emptyRegistry,
    artifactsDir: '/nonexistent',
    fingerprints: () => noFingerprints,
    readSecrets: async () => ({ kind: 'refused', reason: 'there is no vault' }),
    onListing: () => undefined,
    onState: (state, reason) => void reasons.push(`${state}: ${reason}`),
  });
  return { clock, host, reasons, starts: () => starts };
}

type Failing = ReturnType<typeof createFailing>;

/** What an asker hears, who waits as long as it takes. */
async function ask({ clock, host }: Failing): Promise<string> {
  let said: string | undefined;
  void host.ensure().catch((error: Error) => {
    said = error.message;
  });
  for (let looks = 0; looks < 100_000 && said === undefined; looks += 1) {
    await new Promise(setImmediate);
    // What ends by itself ends in real time; a pause ends on this clock.
    if (looks % 100 === 99) clock.advance(20);
  }
  return said ?? 'nothing';
}

test('a server that does not start is started again after a growing pause, of which no one waits for a long one', async () => {
  const failing = createFailing();
  for (let start = 1; start <= 4; start += 1) {
    await ask(failing);
    expect(failing.starts()).toBe(start);
  }
  // 0.25, 0.5 and 1 s were waited for; the next would be 2 s.
  expect(await ask(failing)).toMatch(/it is started again in 2 s at the earliest$/);
  expect(failing.starts()).toBe(4);
  failing.clock.advance(2000);
  await ask(failing);
  expect(failing.starts()).toBe(5);
  expect(failing.reasons).toHaveLength(5);
});

test('a server that does not start is started 10 times within 10 minutes, and then has to wait', async () => {
  const failing = createFailing();
  for (let start = 1; start <= 10; start += 1) {
    await ask(failing);
    failing.clock.advance(40_000);
  }
  expect(failing.starts()).toBe(10);
  expect(await ask(failing)).toMatch(
    /the MCP server broken cannot be used: it was started 10 times within 10 minutes; the last time: /,
  );
  expect(failing.starts()).toBe(10);
  failing.clock.advance(300_000);
  await ask(failing);
  expect(failing.starts()).toBe(11);
});
