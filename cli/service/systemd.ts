/** What there is of systemd on this machine: its version, and where units of our own go. */
import { join } from 'node:path';
import type { Machine } from '../machine.ts';
import type { Scope } from './unit.ts';

const VERSION_TIMEOUT_MS = 2000;

/** @returns undefined where there is no systemd, or it does not say. */
export async function findSystemdVersion(machine: Machine): Promise<number | undefined> {
  const { startProcess } = await import('../../base/process.ts');
  try {
    const env = { PATH: machine.env['PATH'] || '/usr/bin:/bin', LC_ALL: 'C' };
    const args = ['--version'];
    const child = await startProcess({ command: 'systemctl', args, env, ownSession: false });
    const timer = machine.clock.setTimer(VERSION_TIMEOUT_MS, () => child.kill('SIGKILL'));
    let text = '';
    for await (const chunk of child.stdout) text = (text + String(chunk)).slice(0, 4096);
    timer.cancel();
    return parseSystemdVersion(text);
  } catch {
    return undefined; // No systemctl here: the unit may be for another machine.
  }
}

/** The first line is "systemd 252 (252.38-1~deb12u1)". */
export function parseSystemdVersion(text: string): number | undefined {
  const found = /^systemd (\d+)/.exec(text)?.[1];
  return found === undefined ? undefined : Number(found);
}

/** Where an administrator's, or a user's own, units are read from. */
export function toUnitFolder(scope: Scope, env: Machine['env'], home: string): string {
  if (scope === 'system') return '/etc/systemd/system';
  return join(env['XDG_CONFIG_HOME'] || join(home, '.config'), 'systemd', 'user');
}
