/** The calls of a host: how many at once, and what their spool is made sure of. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { realClock } from '../../base/clock.ts';
import { type Logger, silentLogger } from '../../base/logger.ts';
import { noFingerprints } from '../../protocol/fingerprints.ts';
import type { EffectId, SessionId } from '../../protocol/ids.ts';
import type { SandboxPolicy } from '../../protocol/sandbox-methods.ts';
import { type Calls, createCalls } from '../../sandbox/calls.ts';
import type { Backend } from '../../sandbox/launch/backend.ts';
import type { SessionNetwork } from '../../sandbox/network/session-network.ts';
import { toFailure } from '../../sandbox/outcome.ts';
import type { CustomToolHost } from '../../sandbox/tools/custom.ts';
import type { FileTools } from '../../sandbox/tools/files.ts';

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'prx-calls-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

/** File tools that wait for `end`; nothing else of a sandbox is used by them. */
function create(end: Promise<unknown>, isOrphaned: boolean, logger: Logger = silentLogger): Calls {
  const fileTools = {
    run: async () => {
      await end;
      return toFailure('it was a test');
    },
  } as unknown as FileTools;
  return createCalls({
    session: 's_0123456789abcdef' as SessionId,
    backend: { level: 'none' } as Backend,
    fileTools,
    customTools: {} as CustomToolHost,
    policy: {
      maxOutputBytes: 1024,
      timeoutMs: 1000,
      writablePaths: [] as string[],
    } as SandboxPolicy,
    policyDigest: '',
    network: { endCall: () => '', requests: {} } as unknown as SessionNetwork,
    toMarkdown: async () => '',
    fingerprints: () => noFingerprints,
    guard: { watch: () => undefined, scan: async () => [] },
    artifactDir: dir,
    clock: realClock,
    logger,
    report: async () => undefined,
    registerProcess: async () => undefined,
    reportProcessEnd: () => undefined,
    isOrphaned: () => isOrphaned,
  });
}

const toParams = (call: number, spoolPath = join(dir, `${call}.log`)) => ({
  effect: `1.1.${call}` as EffectId,
  tool: 'read_file',
  arguments: { path: 'f' },
  attempt: 1,
  spoolPath,
});

test('thirty-two calls run at once; one more is refused by name, and leaves no spool', async () => {
  const end = Promise.withResolvers<void>();
  const calls = create(end.promise, false);
  const running = Array.from({ length: 32 }, (_, index) => calls.run(toParams(index + 1)));
  const surplus = calls.run(toParams(33));
  end.resolve();
  await expect(surplus).rejects.toMatchObject({ code: 'AT_CAPACITY' });
  await Promise.all(running);
});

test('asked for twice while it runs, a call is begun once', async () => {
  const end = Promise.withResolvers<void>();
  const calls = create(end.promise, false);
  const both = [calls.run(toParams(1)), calls.run(toParams(1))];
  expect(calls.count()).toBe(1);
  end.resolve();
  const [one, other] = await Promise.all(both);
  expect(other).toBe(one);
});

// A pipe takes records and cannot be synced: who tries is heard of.
test.each([
  ['synced where there is no supervisor', true, 1],
  ['not synced where one syncs its journal', false, 0],
])('the end of a call is %s', async (_, isOrphaned, failures) => {
  const errors: string[] = [];
  const logger = { ...silentLogger, error: (event: string) => void errors.push(event) };
  const pipe = join(dir, 'pipe');
  execFileSync('mkfifo', [pipe]);
  await create(Promise.resolve(), isOrphaned, logger).run(toParams(1, pipe));
  expect(errors).toEqual(Array.from({ length: failures }, () => 'spool.write_failed'));
});
