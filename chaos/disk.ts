/** A state dir whose disk can be full at will: a small file system in memory, shrunk to what is in
 *  use and grown again. Only root may mount; elsewhere the fault is left out, and the report says
 *  so. */
import { cpSync, mkdirSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { type ProcessExit, startProcess } from '../base/process.ts';
import type { Home } from './home.ts';

export interface Disk {
  fill(): Promise<boolean>;
  free(): Promise<void>;
  /** Takes the file system away. @param keep  copies what is in it into the scratch folder. */
  close(keep: boolean): Promise<void>;
}

export type DiskChoice = { readonly disk: Disk } | { readonly skipped: string };

const SIZE_BYTES = 2 * 2 ** 30;
/** Somebody writes while we look, or kills what resizes: tried again. */
const TRIES_MAX = 20;

export async function openDisk(home: Home, path: string): Promise<DiskChoice> {
  if (process.getuid?.() !== 0) return { skipped: 'full disk: only root can mount a small one' };
  const run = (command: string, ...args: readonly string[]): Promise<boolean> =>
    runQuietly(command, args, path);
  const dir = home.stateDir;
  const options = `size=${SIZE_BYTES},mode=700`;
  if (!(await run('mount', '-t', 'tmpfs', '-o', options, 'prx-chaos', dir))) {
    return { skipped: 'full disk: this machine lets us mount nothing' };
  }
  const resize = (bytes: number): Promise<boolean> =>
    run('mount', '-o', `remount,size=${bytes}`, dir);
  const disk: Disk = {
    async fill() {
      for (let left = TRIES_MAX; left > 0; left -= 1) {
        const { blocks, bfree, bsize } = statfsSync(dir);
        if (await resize((blocks - bfree) * bsize)) return true;
      }
      return false;
    },
    async free() {
      // The faults' own kills may hit the program that does it.
      for (let left = TRIES_MAX; left > 0; left -= 1) if (await resize(SIZE_BYTES)) return;
    },
    async close(keep) {
      if (keep) {
        const copy = join(home.dir, 'state-kept');
        mkdirSync(copy, { recursive: true });
        cpSync(dir, copy, { recursive: true, filter: (source) => !source.endsWith('.sock') });
      }
      if (!(await run('umount', dir))) await run('umount', '-l', dir);
    },
  };
  return { disk };
}

async function runQuietly(
  command: string,
  args: readonly string[],
  path: string,
): Promise<boolean> {
  const child = await startProcess({ command, args, env: { PATH: path }, ownSession: false });
  child.stdin.end();
  child.stdout.resume();
  child.stderr.resume();
  const { code }: ProcessExit = await child.exited;
  return code === 0;
}
