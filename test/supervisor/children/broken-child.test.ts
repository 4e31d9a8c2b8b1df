/** Children that break the rules of their pipes, as real processes: each is one shell script. Waits
 *  of ours pass on a clock that the test moves. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { z } from 'zod';
import { type Clock, realClock } from '../../../base/clock.ts';
import type { LogFields, Logger } from '../../../base/logger.ts';
import { findIdentity, realProcesses } from '../../../base/process.ts';
import { encodeFrame } from '../../../protocol/frames.ts';
import type { Enclosure } from '../../../supervisor/children/cgroup.ts';
import { type Child, type ChildSpec, startChild } from '../../../supervisor/children/child.ts';
import { createSteppedClock } from '../stepped-clock.ts';

const local = {
  requests: {},
  notifications: { 'child/ready': z.object({}), 'child/tell': z.object({ text: z.string() }) },
};
const remote = { requests: {}, notifications: { 'child/hear': z.object({ text: z.string() }) } };

const frame = (method: string, params: object): string =>
  String(encodeFrame({ jsonrpc: '2.0', method, params } as never));

interface Started {
  readonly child: Child<typeof remote>;
  /** What it told, in order. */
  readonly heard: string[];
  readonly logged: { readonly event: string; readonly fields: LogFields | undefined }[];
}

const GRACE_MS = 700;

interface Setting {
  readonly clock?: Clock;
  readonly texts?: readonly string[];
  readonly kind?: ChildSpec['kind'];
  readonly enclosure?: Promise<Enclosure>;
}

/** The script finds `ready` and what else it is to write as $1, $2 … */
async function startScript(
  script: string,
  { clock = realClock, texts = [], kind = 'worker', enclosure }: Setting = {},
): Promise<Started> {
  const heard: string[] = [];
  const logged: Started['logged'] = [];
  const log = (event: string, fields?: LogFields) => void logged.push({ event, fields });
  const logger: Logger = { error: log, warn: log, info: log, debug: log, child: () => logger };
  let markReady: () => void = () => undefined;
  const ready = new Promise<void>((resolve) => {
    markReady = resolve;
  });
  const args = ['-c', `printf %s "$1"; ${script}`, 'sh', frame('child/ready', {}), ...texts];
  const child = await startChild({
    ...{ clock, logger, processes: realProcesses, local, remote, requests: {}, ready },
    enclose: () => enclosure,
    spec: {
      kind,
      process: { command: '/bin/sh', args, env: { PATH: '/usr/bin:/bin' }, ownSession: true },
      readyTimeoutMs: 10_000,
      stopGraceMs: GRACE_MS,
    },
    notifications: {
      'child/ready': markReady,
      'child/tell': ({ text }) => void heard.push(text),
    },
  });
  return { child, heard, logged };
}

async function gone(pid: number): Promise<void> {
  while (findIdentity(pid) !== undefined) await new Promise(setImmediate);
}

describe('a child that is told to stop', () => {
  test('and hears neither EOF nor SIGTERM is killed, with all that it started (FAULTS 15)', async () => {
    const clock = createSteppedClock();
    const script = `trap '' TERM; sleep 1000 & printf %s "$2"; while :; do wait; done`;
    const texts = [frame('child/tell', { text: 'it has a child' })];
    const { child, heard } = await startScript(script, { clock, texts });
    while (heard.length === 0) await new Promise(setImmediate);
    const [grandchild = 0] = realProcesses.listDescendants(child.pid);
    const stopped = child.stop();
    await clock.armed(GRACE_MS);
    clock.advance(GRACE_MS - 1);
    expect(child.isAlive()).toBe(true);
    clock.advance(1);
    // SIGTERM has been sent; as long again until SIGKILL.
    await clock.armed(GRACE_MS);
    clock.advance(GRACE_MS - 1);
    expect(child.isAlive()).toBe(true);
    clock.advance(1);
    expect(await stopped).toMatchObject({ cause: 'stopped', signal: 'SIGKILL' });
    await gone(grandchild);
  });
});

describe('a child with a control group', () => {
  const full = {
    wasOutOfMemory: () => true,
    admit: async () => undefined,
    remove: () => undefined,
  };

  test('is not used before it is in there, with what it has started meanwhile', async () => {
    const admitted: (readonly number[])[] = [];
    const { promise, resolve } = Promise.withResolvers<Enclosure>();
    let isStarted = false;
    const script = `sleep 1000 & printf %s "$2"; wait`;
    const texts = [frame('child/tell', { text: 'it has a child' })];
    const starting = startScript(script, { texts, enclosure: promise }).then((started) => {
      isStarted = true;
      return started;
    });
    while (!realProcesses.listDescendants(process.pid).some(isSleep)) {
      await new Promise(setImmediate);
    }
    expect(isStarted).toBe(false);
    resolve({ ...full, admit: async (pids) => void admitted.push(pids) });
    const { child } = await starting;
    const [below = []] = admitted;
    expect(below.map(isSleep)).toEqual([true]);
    child.kill('stopped');
    await child.exited;
  });

  test.each([
    ['worker', 'memory'],
    // The kernel ends its tools, which it outlives.
    ['sandbox', 'crashed'],
  ] as const)(
    'in which the kernel has killed: a %s died of %s, and the group goes',
    async (kind, cause) => {
      const removed: true[] = [];
      const enclosure = Promise.resolve({ ...full, remove: () => void removed.push(true) });
      const { child } = await startScript('kill -9 $$', { kind, enclosure });
      expect((await child.exited).cause).toBe(cause);
      expect(removed).toEqual([true]);
    },
  );
});

const isSleep = (pid: number): boolean => {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8') === 'sleep\n';
  } catch {
    return false; // It is gone.
  }
};

describe('a child that breaks off', () => {
  test('by SIGKILL, in the middle of 1 MiB: what was whole is heard, the rest is no fault (FAULTS 34)', async () => {
    const cut = 'head -c 500000 /dev/zero; kill -9 $$';
    const texts = [frame('child/tell', { text: 'whole' }), 'Content-Length: 1048576\r\n\r\n'];
    const { child, heard } = await startScript(`printf %s "$2" "$3"; ${cut}`, { texts });
    expect(await child.exited).toMatchObject({ cause: 'crashed', signal: 'SIGKILL' });
    expect(heard).toEqual(['whole']);
  });

  test.each([
    ['a frame ten times as large as one may be', 'Content-Length: 671088640\r\n\r\n', 'TOO_LARGE'],
    ['a line that never ends', '', 'INVALID'],
  ])('by %s: refused at its head, killed as broken (FAULTS 35)', async (_, head, code) => {
    const flood = 'head -c 671088640 /dev/zero && echo written >&2; exec sleep 1000';
    const { child, logged } = await startScript(`printf %s "$2"; ${flood}`, { texts: [head] });
    const exit = await child.exited;
    expect(exit).toMatchObject({ cause: 'protocol', signal: 'SIGKILL' });
    // The flood was not taken in.
    expect(exit.stderrTail).not.toContain('written');
    const said = logged.find(({ event }) => event === 'child.protocol')?.fields;
    expect(said).toMatchObject({ error: { code: `FRAME_${code}` } });
  });

  test('by closing its stdout, and lives on: killed as broken (FAULTS 40)', async () => {
    const clock = createSteppedClock();
    const { child } = await startScript('exec >&-; exec sleep 1000', { clock });
    await clock.armed(1000);
    expect(child.isAlive()).toBe(true);
    clock.advance(1000);
    expect(await child.exited).toMatchObject({ cause: 'protocol', signal: 'SIGKILL' });
  });

  test('by closing its stdin, and lives on: EPIPE, then killed as broken (FAULTS 40)', async () => {
    const clock = createSteppedClock();
    const { child } = await startScript('exec <&-; printf %s "$2"; exec sleep 1000', {
      clock,
      texts: [frame('child/tell', { text: 'deaf' })],
    });
    await child.connection.notify('child/hear', { text: 'x'.repeat(1_000_000) });
    for (const waitMs of [10_000, 1000]) {
      await clock.armed(waitMs);
      expect(child.isAlive()).toBe(true);
      clock.advance(waitMs);
    }
    expect(await child.exited).toMatchObject({ cause: 'protocol', signal: 'SIGKILL' });
  });
});

/** In a session of its own, so that it outlives the child; $1 is what it says, and $2 the folder in
 *  which it tells that it is there, is told to speak, and tells how that went. */
const HEIR = `trap '' PIPE; : > "$2/here"; until [ -e "$2/speak" ]; do sleep 0.01; done;
  printf %s "$1" && echo heard > "$2/said" || echo refused > "$2/said"`;

test('a dead child whose pipe another process has has no voice any more (FAULTS 25)', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'prx-heir-'));
  const heir = `setsid sh -c "$4" sh "$2" "$3" & until [ -e "$3/here" ]; do sleep 0.01; done; exit 0`;
  const texts = [frame('child/tell', { text: 'I am back' }), folder, HEIR];
  const { child, heard } = await startScript(heir, { texts });
  expect(await child.exited).toMatchObject({ cause: 'completed' });
  writeFileSync(join(folder, 'speak'), '');
  const said = join(folder, 'said');
  while (!existsSync(said) || readFileSync(said, 'utf8') === '') await new Promise(setImmediate);
  expect([readFileSync(said, 'utf8'), heard]).toEqual(['refused\n', []]);
  rmSync(folder, { recursive: true });
});

test('a flood on stderr is read on and on, and its last 8 KiB are kept (FAULTS 42)', async () => {
  const flood = `yes 'some complaint of a hundred characters or so' | head -c 50000000 >&2`;
  const { child, logged } = await startScript(`${flood}; echo 'the last word' >&2; exit 3`);
  const { stderrTail, cause, code } = await child.exited;
  expect({ cause, code, length: stderrTail.length }).toEqual({
    ...{ cause: 'crashed', code: 3, length: 8192 },
  });
  expect(stderrTail).toMatch(/the last word\n$/);
  // Of each chunk that came, at most as much goes to the log.
  const lines = logged.filter(({ event }) => event === 'child.stderr');
  const bytes = lines.reduce((sum, { fields }) => sum + String(fields?.['line']).length, 0);
  expect(bytes).toBeLessThan(25_000_000);
});
