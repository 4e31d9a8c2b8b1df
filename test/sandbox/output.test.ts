import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, describe, expect, test } from '@jest/globals';
import { realClock } from '../../base/clock.ts';
import type { EffectId } from '../../protocol/ids.ts';
import { createCollector } from '../../sandbox/collect.ts';
import type { Backend, CommandEnd, RunningCommand } from '../../sandbox/launch/backend.ts';
import type { CommandTree } from '../../sandbox/launch/command-tree.ts';
import { quote } from '../../sandbox/launch/quote.ts';
import { joinSentence, toEnding } from '../../sandbox/outcome.ts';
import { toPrintable } from '../../sandbox/printable.ts';
import { runScript, type StopCause } from '../../sandbox/script.ts';
import { createSpill } from '../../sandbox/spill.ts';
import { createStreamer } from '../../sandbox/streamer.ts';
import { runGlob } from '../../sandbox/tools/glob.ts';
import { createMatchLines, runSearch, toSearchScript } from '../../sandbox/tools/search.ts';
import type { Breach } from '../../sandbox/watch.ts';

const base = mkdtempSync(join(tmpdir(), 'prx-sandbox-output-'));
afterAll(() => rmSync(base, { recursive: true, force: true }));

describe('head and tail', () => {
  test.each([
    ['under the cap', ['abcd', 'ef'], 10, 'abcdef'],
    ['at the cap', ['abcde', 'fghij'], 10, 'abcdefghij'],
    ['one over', ['abcde', 'fghijk'], 10, 'abcde\n[cut]\nghijk'],
    ['one big chunk', ['abcdefghijklmnopqrst'], 10, 'abcde\n[cut]\npqrst'],
  ])('%s', (_, chunks, cap, expected) => {
    const collector = createCollector(cap);
    for (const chunk of chunks) collector.add(chunk);
    expect(collector.toText('cut')).toBe(expected);
  });

  test('a character is never cut in two', () => {
    const collector = createCollector(10);
    collector.add('ääääääääää');
    expect(collector.toText('cut')).toBe('ää\n[cut]\nää');
    expect(collector.cutBytes()).toBe(10);
  });

  test('counts every byte it dropped', () => {
    const collector = createCollector(100);
    for (let i = 0; i < 1000; i += 1) collector.add('0123456789');
    expect(collector.cutBytes()).toBe(9900);
  });
});

describe('spill', () => {
  test('no file up to the threshold, the whole output beyond it', () => {
    const path = join(base, 'a', 'one');
    const spill = createSpill({ path, thresholdBytes: 4, bytesMax: 100 });
    spill.add(Buffer.from('abcd'));
    expect(() => readFileSync(path)).toThrow('ENOENT');
    spill.add(Buffer.from('efg'));
    expect(spill.finish()).toEqual({ totalBytes: 7, keptBytes: 7, failure: undefined });
    expect(readFileSync(path, 'utf8')).toBe('abcdefg');
  });

  test('is bounded, and counts what it does not keep', () => {
    const spill = createSpill({ path: join(base, 'two'), thresholdBytes: 1, bytesMax: 5 });
    for (let i = 0; i < 3; i += 1) spill.add(Buffer.from('abc'));
    expect(spill.finish()).toEqual({ totalBytes: 9, keptBytes: 5, failure: undefined });
  });

  test('a disk that refuses is said, not thrown', () => {
    const spill = createSpill({ path: '/dev/null/no', thresholdBytes: 0, bytesMax: 5 });
    spill.add(Buffer.from('abc'));
    expect(spill.finish()).toMatchObject({ keptBytes: 0, failure: expect.any(String) });
  });
});

describe('streamer', () => {
  test('merges within a turn, keeps the order of streams, stops at its bound', async () => {
    const sent: [string, string][] = [];
    const streamer = createStreamer({
      bytesMax: 8,
      send: async (stream, text) => void sent.push([stream, text]),
    });
    void streamer.push('stdout', 'ab');
    void streamer.push('stdout', 'cd');
    void streamer.push('stderr', 'e');
    await streamer.flush();
    void streamer.push('stdout', 'fghi');
    void streamer.push('stdout', 'never');
    await streamer.flush();
    expect(sent).toEqual([
      ['stdout', 'abcd'],
      ['stderr', 'e'],
      ['stdout', 'fghi\n[more output follows; it is not streamed]\n'],
    ]);
  });

  test('holds its producer while a slow taker has too much waiting (FAULTS 37, 39)', async () => {
    let release = (): void => undefined;
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    const streamer = createStreamer({ bytesMax: 1e9, send: () => gate });
    await streamer.push('stdout', 'first');
    let isHeld = true;
    const held = streamer.push('stdout', 'x'.repeat(200_000)).then(() => {
      isHeld = false;
    });
    await realClock.sleep(20);
    expect(isHeld).toBe(true);
    release();
    await held;
  });
});

describe('printable output', () => {
  test.each([
    ['a\tb\r\nc', 'a\tb\r\nc'],
    ['\x1b]52;c;eA==\x07', '\\x1b]52;c;eA==\\x07'],
    ['\x00\x9b\x7f', '\\x00\\x9b\\x7f'],
    ['a\u202eb\u2066', 'a\\u202eb\\u2066'],
    ['é 漢 🙂', 'é 漢 🙂'],
  ])('%j is shown as %j', (text, shown) => {
    expect(toPrintable(text)).toBe(shown);
  });
});

const untouched: CommandTree = {
  measure: () => undefined,
  measureHideable: () => 0,
  machineBytes: () => undefined,
  readCpuMs: () => undefined,
  wasOutOfMemory: () => false,
  peakBytes: () => undefined,
  openFileFolders: () => [],
  countHeldFiles: () => 0,
  signal: () => undefined,
  freeze: () => () => undefined,
};
const unlimited = { memoryBytes: 0, cpuMs: 0, diskBytes: 0, files: 0, roots: [] };

describe('a script ends', () => {
  interface Fake {
    readonly command: RunningCommand;
    readonly end: (end: CommandEnd) => void;
    kills: number;
  }
  function createFake(onKill: (fake: Fake) => void): Fake {
    let end: (value: CommandEnd) => void = () => undefined;
    const ended = new Promise<CommandEnd>((resolve) => {
      end = resolve;
    });
    const streams = { stdout: new PassThrough(), stderr: new PassThrough() };
    const fake: Fake = {
      command: {
        ...streams,
        ended,
        tree: untouched,
        kill() {
          fake.kills += 1;
          onKill(fake);
        },
      },
      end,
      kills: 0,
    };
    return fake;
  }
  const dies = (fake: Fake): void => fake.end({ kind: 'exited', code: 137 });
  const spec = (fake: Fake, changes: { timeoutMs?: number; signal?: AbortSignal } = {}) => ({
    backend: { run: async () => fake.command },
    clock: realClock,
    script: 'x',
    timeoutMs: 10_000,
    limits: unlimited,
    signal: new AbortController().signal,
    onOutput: async () => undefined,
    ...changes,
  });

  test('by itself, though somebody still holds its pipe', async () => {
    const fake = createFake(dies);
    const running = runScript(spec(fake));
    fake.end({ kind: 'exited', code: 3 });
    expect(await running).toEqual({ kind: 'exited', code: 3 });
    expect(fake.kills).toBe(0);
  });

  test('by the clock', async () => {
    const fake = createFake(dies);
    expect(await runScript(spec(fake, { timeoutMs: 5 }))).toEqual({ kind: 'timeout' });
    expect(fake.kills).toBe(1);
  });

  test('by a cancel, also one before its start', async () => {
    const abort = new AbortController();
    const fake = createFake(dies);
    const running = runScript(spec(fake, { signal: abort.signal }));
    abort.abort();
    expect(await running).toEqual({ kind: 'cancelled' });
    expect(await runScript(spec(fake, { signal: abort.signal }))).toEqual({ kind: 'cancelled' });
  });

  test('by its taker, and the first cause wins', async () => {
    const fake = createFake(dies);
    const onOutput = async (_: string, __: Buffer, stop: (cause: StopCause) => void) => {
      stop('flood');
      stop('enough');
    };
    const running = runScript({ ...spec(fake), onOutput });
    (fake.command.stdout as PassThrough).write('x');
    expect(await running).toEqual({ kind: 'flood' });
  });

  test('by the memory limit that the kernel enforced, though it left an exit code', async () => {
    const fake = createFake(dies);
    const tree = { ...untouched, wasOutOfMemory: () => true, peakBytes: () => 2 ** 20 };
    const command = { ...fake.command, tree };
    const limits = { ...unlimited, memoryBytes: 2 ** 20 };
    const running = runScript({ ...spec(fake), limits, backend: { run: async () => command } });
    fake.end({ kind: 'exited', code: 0 });
    const breach = { limit: 'memory_limit_mb', value: 1, max: 1 };
    expect(await running).toEqual({ kind: 'limit', breach, peakBytes: 2 ** 20 });
  });

  test('a kill that came too early is asked again', async () => {
    const fake = createFake((killed) => {
      if (killed.kills === 2) dies(killed);
    });
    expect(await runScript(spec(fake, { timeoutMs: 1 }))).toEqual({ kind: 'timeout' });
    expect(fake.kills).toBe(2);
  });

  test.each([
    ['search', runSearch, { pattern: 'x' }],
    ['glob', runGlob, { pattern: '*' }],
  ] as const)(
    '%s: what was found so far, and the limit that ended it by name',
    async (_, run, args) => {
      const fake = createFake(dies);
      (fake.command.stdout as PassThrough).write('./a.ts\0');
      const backend = { searchProgram: 'rg', run: async () => fake.command } as unknown as Backend;
      const limits = { timeoutMs: 20, maxOutputBytes: 1000, tree: unlimited };
      const { signal } = new AbortController();
      const call = { backend, clock: realClock, effect: '1.1.1' as EffectId, limits, signal };
      expect(await run({ ...call, arguments: args })).toMatchObject({
        status: 'timeout',
        output: expect.stringContaining('time limit of 0.02 s'),
        exceeded: { limit: 'timeout_secs', value: 0.02, max: 0.02 },
      });
    },
  );
});

const toLimitEnd = (limit: Breach['limit']) =>
  ({ kind: 'limit', breach: { limit, value: 9, max: 4 } }) as const;

describe('what the model reads about an end', () => {
  const limits = { timeoutMs: 2000, floodBytes: 100 };
  test.each([
    [{ kind: 'exited', code: 0 }, 'ok', 0, /^$/],
    [{ kind: 'exited', code: 2 }, 'error', 2, /^exit code 2$/],
    [{ kind: 'exited', code: 137 }, 'error', 137, /SIGKILL/],
    [{ kind: 'timeout' }, 'timeout', undefined, /2 s/],
    [{ kind: 'cancelled' }, 'cancelled', undefined, /cancelled/],
    [{ kind: 'flood' }, 'killed', undefined, /100 bytes/],
    [toLimitEnd('memory_limit_mb'), 'memory', undefined, /9 MiB of memory.*4 MiB.*memory_limit_mb/],
    [toLimitEnd('max_cpu_secs'), 'killed', undefined, /9 s of processor.*max_cpu_secs/],
    [toLimitEnd('max_disk_mb'), 'killed', undefined, /9 MiB to the workspace.*max_disk_mb/],
    [toLimitEnd('max_files'), 'killed', undefined, /9 files.*max_files/],
    [{ kind: 'lost', detail: 'why' }, 'indeterminate', undefined, /why/],
  ] as const)('%j', (end, status, exitCode, sentence) => {
    expect(toEnding(end, limits)).toMatchObject({
      status,
      exitCode,
      sentence: expect.stringMatching(sentence),
    });
  });

  test.each([
    ['', '', '(no output)'],
    ['a', '', 'a'],
    ['a', 's', 'a\n[s]'],
    ['a\n', 's', 'a\n[s]'],
  ])('output %j with sentence %j', (output, sentence, expected) => {
    expect(joinSentence(output, sentence)).toBe(expected);
  });
});

describe('search', () => {
  test('every word of the command line is quoted', () => {
    const script = toSearchScript('/rg', { pattern: "a'b$(x)", path: '-p', glob: '*.ts' }, '/w');
    expect(script).toContain(`'-e' 'a'\\''b$(x)'`);
    expect(script).toContain("'--glob=*.ts' '--' '-p'");
    expect(quote('a\x00b')).toBe("'ab'");
  });

  test('counts matches, not context, and says when it stops', () => {
    const lines = createMatchLines({ matchesMax: 1, bytesMax: 1000 });
    expect(lines.push('./a.ts\x001-before\n./a.ts\x002:hit:x\n./a.ts\x003-af')).toBe('more');
    expect(lines.push('ter\n--\n./b\x001:next\n')).toBe('full');
    const { text, count, note } = lines.finish();
    expect(text).toBe('a.ts-1-before\na.ts:2:hit:x\na.ts-3-after\n--');
    expect([count, note]).toEqual([1, expect.stringContaining('1 matches')]);
  });

  test('stops at its byte limit', () => {
    const lines = createMatchLines({ matchesMax: 100, bytesMax: 10 });
    expect(lines.push(`a\x00001:${'x'.repeat(20)}\n`)).toBe('full');
    expect(lines.finish().note).toContain('10 bytes');
  });
});
