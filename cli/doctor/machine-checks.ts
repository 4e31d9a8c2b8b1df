/** What can be known of this machine without a supervisor: Node, the state dir, the disk, the
 *  socket. Reads only; nothing is made or changed by looking. */
import { accessSync, constants, existsSync, statfsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { systemCode } from '../../base/errors.ts';
import { formatBytes } from '../text/format.ts';
import type { Check } from './check.ts';

const NODE_MAJOR_MIN = 26;
const DISK_BYTES_FAIL = 100 * 1024 ** 2;
const DISK_BYTES_WARN = 1024 ** 3;

export function checkNode(version: string): Check {
  const major = Number(version.replace(/^v/, '').split('.')[0]);
  const base = { id: 'node', category: 'machine', details: { version } } as const;
  if (major >= NODE_MAJOR_MIN) return { ...base, status: 'ok', summary: `Node ${version}` };
  return {
    ...base,
    status: 'fail',
    summary: `Node ${version} is older than ${NODE_MAJOR_MIN}`,
    mend: `install Node ${NODE_MAJOR_MIN} or later, or run npm install in the package's folder`,
  };
}

/** @param ownUid  undefined where the system has no user ids. */
export function checkStateDir(stateDir: string, ownUid: number | undefined): Check {
  const base = { id: 'state_dir', category: 'state', details: { path: stateDir } } as const;
  const place = findExisting(stateDir);
  const reason = findWriteObstacle(place);
  if (reason !== undefined) {
    const summary = `${stateDir} cannot be written (${place}: ${reason})`;
    const mend = `make ${place} writable for this user, or use --state-dir`;
    return { ...base, status: 'fail', summary, mend };
  }
  if (place !== stateDir) {
    return { ...base, status: 'ok', summary: `${stateDir} will be made at the first start` };
  }
  const { mode, uid } = statSync(stateDir);
  if (ownUid !== undefined && uid !== ownUid) {
    const summary = `${stateDir} belongs to user ${uid}, not to ${ownUid}`;
    return { ...base, status: 'fail', summary, mend: `use a state dir of your own: --state-dir` };
  }
  if ((mode & 0o077) !== 0) {
    const summary = `${stateDir} is open to other users (mode ${(mode & 0o777).toString(8)})`;
    return { ...base, status: 'warn', summary, mend: `chmod 700 ${stateDir}` };
  }
  return { ...base, status: 'ok', summary: stateDir };
}

function findExisting(path: string): string {
  let place = path;
  while (!existsSync(place) && dirname(place) !== place) place = dirname(place);
  return place;
}

function findWriteObstacle(place: string): string | undefined {
  try {
    accessSync(place, constants.W_OK | constants.X_OK);
    return undefined;
  } catch (error) {
    return systemCode(error) ?? 'no access';
  }
}

export function checkDisk(stateDir: string): Check {
  const { bavail, bsize } = statfsSync(findExisting(stateDir));
  return judgeDisk(bavail * bsize);
}

/** Pure part of checkDisk. */
export function judgeDisk(freeBytes: number): Check {
  const base = { id: 'disk', category: 'machine', details: { free_bytes: freeBytes } } as const;
  const summary = `${formatBytes(freeBytes)} free for the state dir`;
  if (freeBytes >= DISK_BYTES_WARN) return { ...base, status: 'ok', summary };
  const status = freeBytes < DISK_BYTES_FAIL ? 'fail' : 'warn';
  return { ...base, status, summary, mend: 'free disk space, or move the state with --state-dir' };
}

/** @param isAnswering  whether a supervisor answers at the socket. */
export function checkSocket(socketPath: string, isAnswering: boolean, startCommand: string): Check {
  const base = {
    id: 'supervisor',
    category: 'supervisor',
    details: { socket: socketPath },
  } as const;
  if (isAnswering) return { ...base, status: 'ok', summary: `running, answers at ${socketPath}` };
  if (existsSync(socketPath)) {
    const summary = `${socketPath} exists and nobody answers: the last supervisor was killed`;
    const mend = `${startCommand} cleans up and goes on where it was`;
    return { ...base, status: 'warn', summary, mend };
  }
  return { ...base, status: 'ok', summary: `not running; start it with: ${startCommand}` };
}
