/** Looks at the processes of a bench from outside: nothing here asks the supervisor. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { realClock } from '../../base/clock.ts';
import { findIdentity, listDescendants } from '../../base/process.ts';
import type { Bench } from './harness.ts';

/** A look at the outside world has no event to await: it is polled, with a bound. */
export async function eventually(
  holds: () => boolean | Promise<boolean>,
  boundMs = 30_000,
): Promise<void> {
  const untilMs = realClock.nowMs() + boundMs;
  while (!(await holds())) {
    if (realClock.nowMs() > untilMs) throw new Error(`not within ${boundMs} ms: ${holds}`);
    await pause(10);
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}

function readCommandLine(pid: string | number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    // It ended while we looked.
    return '';
  }
}

/** Live processes whose command line has this text. */
export function findRunning(text: string): readonly number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && readCommandLine(name).includes(text))
    .map(Number)
    .filter((pid) => findIdentity(pid) !== undefined);
}

export function findGateways(bench: Bench): readonly number[] {
  return findRunning(join(bench.dir, 'dist/gateway.js'));
}

/** Sandbox hosts; a probe of the sandbox is none. */
export function findHosts(bench: Bench): readonly number[] {
  const all = findRunning(join(bench.dir, 'dist/sandbox.js'));
  return all.filter((pid) => readCommandLine(pid).includes('--run-dir='));
}

/** Live processes of the bench that are not below this supervisor. */
export function findStrangers(bench: Bench, supervisor: number): readonly number[] {
  const own = new Set([supervisor, ...listDescendants(supervisor)]);
  return bench.leftovers().filter((pid) => !own.has(pid) && findIdentity(pid) !== undefined);
}

export function readName(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    // It ended while we looked.
    return 'gone';
  }
}
