/** Real system calls fail under a real process: ENOSPC, EIO, EROFS and EMFILE at the n-th call, on
 *  its journal's files; a file system that is full, or was mounted read-only. What the machine
 *  cannot stage (no compiler, no right to mount) is skipped, visibly. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { realClock } from '../../base/clock.ts';
import { realProcesses } from '../../base/process.ts';
import { checkBackup } from '../../store/backup-file.ts';
import { exportOffline, verifyOffline } from '../../store/offline.ts';
import { restoreOffline } from '../../store/restore.ts';
import { type Folder, makeFolder, open } from './setup.ts';
import { created, delta, sessionId } from './setup-events.ts';

const SECONDS = 120_000;
const program = fileURLToPath(new URL('./fixtures/faulty-disk.ts', import.meta.url));
const backup = fileURLToPath(new URL('./fixtures/backup.ts', import.meta.url));
const source = fileURLToPath(new URL('./fixtures/io-shim.c', import.meta.url));

const canCompile = works('gcc', ['--version']);
const canMount = process.getuid?.() === 0 && tryMount();

function works(command: string, args: readonly string[]): boolean {
  try {
    execFileSync(command, args, { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

function tryMount(): boolean {
  const folder = makeFolder();
  const isMounted = works('mount', ['-t', 'tmpfs', 'none', folder.path]);
  if (isMounted) execFileSync('umount', [folder.path]);
  folder.remove();
  return isMounted;
}

let folder: Folder;
let shim: string;

beforeAll(() => {
  folder = makeFolder();
  shim = join(folder.path, 'shim.so');
  if (canCompile) execFileSync('gcc', ['-shared', '-fPIC', '-O1', '-o', shim, source, '-ldl']);
});

afterAll(() => folder.remove());

const ENOENT = 2;
const ENOSPC = 28;
const EIO = 5;
const EMFILE = 24;
const EROFS = 30;

interface Life {
  readonly lines: readonly string[];
  /** Some call failed. */
  readonly isHit: boolean;
  readonly code: number | undefined;
}

let lives = 0;

async function live(stateDir: string, plan: string, flag?: string): Promise<Life> {
  const running = await realProcesses.start({
    command: process.execPath,
    args: [program, stateDir, ...(flag === undefined ? [] : [flag])],
    env: {
      LD_PRELOAD: shim,
      PRX_SHIM: plan,
      ...(flag === undefined ? {} : { PRX_SHIM_FLAG: flag }),
    },
    ownSession: false,
  });
  let [out, err] = ['', ''];
  running.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text;
  });
  running.stderr.setEncoding('utf8').on('data', (text: string) => {
    err += text;
  });
  const { code } = await running.exited;
  return { lines: out.split('\n'), isHit: err.includes('SHIM'), code };
}

/** What was acknowledged is there, in order, and nothing is damaged. */
function expectWhole(stateDir: string, lines: readonly string[]): void {
  const at = { stateDir, clock: realClock };
  expect(verifyOffline(at).problems).toEqual([]);
  const names = new Map<number, string>();
  exportOffline({ ...at, session: sessionId(1), aside: false }, (line) => {
    const { seq, data } = JSON.parse(line) as { seq: number; data: { name?: string } };
    names.set(seq, data.name ?? 'created');
  });
  const acknowledged = lines.flatMap((line) => {
    const [, seq, name] = /^ack (\d+) (\w+)$/.exec(line) ?? [];
    return seq === undefined ? [] : [[Number(seq), name]];
  });
  expect(acknowledged.map(([seq]) => [seq, names.get(Number(seq))])).toEqual(acknowledged);
  expect([...names.keys()]).toEqual([...names.keys()].map((_, index) => index + 1));
}

/** Call 1, 2, 3 … fails, each in a life of its own, until none does. @returns how many did. */
async function failEach(call: string, errno: number, steps: { stride: number }): Promise<number> {
  let hits = 0;
  for (let at = 1; ; at += steps.stride) {
    lives += 1;
    const stateDir = join(folder.path, `life-${lives}`);
    const { lines, isHit, code } = await live(stateDir, `${call}:${at}:1:${errno}`);
    if (!isHit) return hits;
    hits += 1;
    // It went on by itself, or said that only a new start helps: then that helps.
    expect([0, 2]).toContain(code);
    expect(code === 2 ? lines.at(-2) : 'closed').toBe(code === 2 ? 'fatal' : 'closed');
    if (code === 2) {
      const again = await live(stateDir, '');
      expect(again.lines.at(-2)).toBe('closed');
    }
    if (lines.some((line) => line.startsWith('ack'))) expectWhole(stateDir, lines);
    rmSync(stateDir, { recursive: true, force: true });
  }
}

(canCompile ? describe : describe.skip)('the n-th call fails', () => {
  it.each([
    ['write', 'ENOSPC', ENOSPC, 13, 3],
    ['write', 'EIO', EIO, 17, 2],
    ['sync', 'EIO', EIO, 4, 3],
    ['open', 'EMFILE', EMFILE, 2, 2],
    ['truncate', 'EIO', EIO, 1, 1],
  ])(
    '%s: %s (FAULTS 55, 56)',
    async (call, _, errno, stride, least) => {
      expect(await failEach(call, errno, { stride })).toBeGreaterThanOrEqual(least);
    },
    SECONDS,
  );
});

(canCompile ? describe : describe.skip)('an artifact that goes as a backup comes to it', () => {
  it(
    'is not in it, and the others are (regression)',
    async () => {
      lives += 1;
      const stateDir = join(folder.path, `life-${lives}`);
      const artifacts = join(stateDir, 'artifacts', sessionId(1));
      mkdirSync(artifacts, { recursive: true });
      // The middle one is there for a stat, and gone for an open: its name is one the shim knows.
      for (const name of ['1.1.1-out', '1.2.1-journal.db', '1.3.1-out'])
        writeFileSync(join(artifacts, name), name);
      const [file, flag] = [join(folder.path, 'backup'), join(folder.path, `flag-${lives}`)];
      const env = { LD_PRELOAD: shim, PRX_SHIM: `open:0:0:${ENOENT}`, PRX_SHIM_FLAG: flag };
      const args = [backup, stateDir, file, flag];
      const said = execFileSync(process.execPath, args, { env, encoding: 'utf8' });
      expect(said).toBe('2');
      expect(checkBackup(file).manifest).toMatchObject({ files: 2, problems: [] });
    },
    SECONDS,
  );
});

(canCompile ? describe : describe.skip)('all calls fail for a while', () => {
  it.each([
    ['write', 'ENOSPC', ENOSPC],
    ['write', 'EIO', EIO],
    ['write', 'EROFS, as on a file system that was mounted read-only', EROFS],
  ])(
    '%s: %s: it is refused by name, goes on by itself, and the journal tells (FAULTS 55)',
    async (call, _, errno) => {
      lives += 1;
      const stateDir = join(folder.path, `life-${lives}`);
      const flag = join(folder.path, `flag-${lives}`);
      const { lines, code } = await live(stateDir, `${call}:0:0:${errno}`, flag);
      expect([code, lines.at(-3), lines.at(-2)]).toEqual([0, 'health well', 'closed']);
      const refusals = lines.filter((line) => line.startsWith('refused'));
      expect(refusals.length).toBeGreaterThanOrEqual(3);
      for (const line of refusals) expect(line).toMatch(/^refused STORE_DEGRADED .*by itself/);
      expectWhole(stateDir, lines);
      const types: string[] = [];
      exportOffline({ stateDir, clock: realClock, session: 'system', aside: false }, (line) =>
        types.push((JSON.parse(line) as { type: string }).type),
      );
      expect(types.slice(0, 2)).toEqual(['store.degraded', 'store.repaired']);
    },
    SECONDS,
  );

  it(
    'sync: EIO is for good: nothing more is acknowledged, a new start reads what is there (FAULTS 56)',
    async () => {
      lives += 1;
      const stateDir = join(folder.path, `life-${lives}`);
      const flag = join(folder.path, `flag-${lives}`);
      const { lines, code } = await live(stateDir, `sync:0:0:${EIO}`, flag);
      expect([code, lines.at(-2)]).toEqual([2, 'fatal']);
      expect(lines.filter((line) => line.startsWith('ack')).length).toBe(6);
      expectWhole(stateDir, lines);
      rmSync(flag, { force: true });
      expect((await live(stateDir, '')).lines.at(-2)).toBe('closed');
    },
    SECONDS,
  );
});

(canMount ? describe : describe.skip)('a file system', () => {
  async function withMount(size: string, test: (path: string) => Promise<void>): Promise<void> {
    const path = join(folder.path, 'mount');
    mkdirSync(path, { recursive: true });
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'none', path]);
    try {
      await test(path);
    } finally {
      execFileSync('umount', ['-l', path]);
    }
  }

  it('that is full: refused, reading goes on; with room it resumes by itself (FAULTS 55)', () =>
    withMount('8m', async (path) => {
      const stateDir = join(path, 'state');
      const store = await open(stateDir);
      await store.append({ events: [created(1)] });
      const { bavail, bsize } = statfsSync(path);
      writeFileSync(join(path, 'filler'), Buffer.alloc((bavail - 64) * bsize, 'x'));
      const big = 'x'.repeat(100_000);
      let acknowledged = 0;
      const fill = async () => {
        for (let i = 0; i < 100; i += 1) {
          await store.append({ events: [delta(big)] });
          acknowledged += 1;
        }
      };
      await expect(fill()).rejects.toMatchObject({ code: 'STORE_DEGRADED' });
      expect(store.health().degraded).toMatch(/full|disk I\/O error/);
      const page = await store.readEvents(sessionId(1), { since: 0, limit: 100 });
      expect(page.last_seq).toBe(1 + acknowledged);
      await expect(store.backup(join(path, 'backup'))).rejects.toMatchObject({
        code: 'LIMIT_EXCEEDED',
        message: expect.stringContaining('(ENOSPC); nothing is left of it'),
      });
      rmSync(join(path, 'filler'));
      while (store.health().degraded !== undefined) await realClock.sleep(20);
      await store.append({ events: [delta(big)] });
      expect((await store.verify()).problems).toEqual([]);
      await store.close();
      expect(() => writeFileSync(join(path, 'filler'), Buffer.alloc(64 * 2 ** 20))).toThrow(
        'ENOSPC',
      );
      await expect(open(stateDir)).rejects.toMatchObject({
        code: 'STATE_DIR_UNUSABLE',
        message: expect.stringContaining('(ENOSPC); the disk is full: free some space'),
      });
      rmSync(join(path, 'filler'));
      // The kernel refuses to make a file system read-only under files that are open for writing:
      // that is staged above (EROFS); here one that is, before the start.
      execFileSync('mount', ['-o', 'remount,ro', path]);
      await expect(open(stateDir)).rejects.toMatchObject({
        code: 'STATE_DIR_UNUSABLE',
        message: expect.stringContaining('EROFS'),
      });
      execFileSync('mount', ['-o', 'remount,rw', path]);
      await (await open(stateDir)).close();
    }));

  it('that cannot hold a backup: a restore leaves nothing of it (regression)', () =>
    withMount('8m', async (path) => {
      const [source, file] = [join(folder.path, 'whole'), join(folder.path, 'whole.backup')];
      const store = await open(source);
      await store.append({ events: [created(1)] });
      mkdirSync(join(source, 'artifacts', sessionId(1)), { recursive: true });
      writeFileSync(join(source, 'artifacts', sessionId(1), 'a'), Buffer.alloc(9 * 2 ** 20, 'x'));
      await store.backup(file);
      await store.close();
      const stateDir = join(path, 'state');
      const restore = () => restoreOffline({ stateDir, file, clock: realClock, force: false });
      expect(restore).toThrow('(ENOSPC); the disk is full: free some space');
      expect(readdirSync(stateDir)).toEqual(['lock.db']);
      execFileSync('mount', ['-o', 'remount,size=64m', path]);
      expect(restore()).toMatchObject({ files: 1 });
    }));
});
