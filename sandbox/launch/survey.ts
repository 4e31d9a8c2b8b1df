/** What this machine has: programs, the folders of its system, the real names of listed paths.
 *  Reads only; what follows from it is decided by the pure functions beside. */
import {
  accessSync,
  constants,
  lstatSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  statSync,
} from 'node:fs';
import { resolve } from 'node:path';
import { systemCode } from '../../base/errors.ts';
import type { PathKind, SystemEntry } from './arguments.ts';

/** Where programs of the system are looked for; never in a PATH somebody else may have set. */
const PROGRAM_FOLDERS = ['/usr/bin', '/bin', '/usr/sbin', '/sbin', '/usr/local/bin'];
const NIX_PROGRAMS = '/run/current-system/sw/bin';

export function findProgram(name: string): string | undefined {
  // As it really is, because in a cell there is only the store.
  return [...PROGRAM_FOLDERS, findPath(NIX_PROGRAMS)?.realPath ?? NIX_PROGRAMS]
    .map((folder) => `${folder}/${name}`)
    .find((path) => isExecutable(path));
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    // Absent, or not for us: in either case not a program we can start.
    return false;
  }
}

export function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    // Not ours, or on a read-only file system.
    return false;
  }
}

const ROOT_NAMES = ['bin', 'sbin', 'lib', 'lib32', 'lib64', 'libx32'];
const SYSTEM_FOLDERS = ['/usr', '/nix/store', '/gnu/store'];
/** World-readable settings that programs need to work at all; nothing with accounts or keys. */
const SYSTEM_SETTINGS = [
  ...['alternatives', 'ld.so.cache', 'ld.so.conf', 'ld.so.conf.d', 'nsswitch.conf', 'localtime'],
  ...[
    'timezone',
    'ssl/certs',
    'ssl/openssl.cnf',
    'ca-certificates',
    'pki/tls/certs',
    'pki/tls/cert.pem',
  ],
  ...['pki/ca-trust', 'crypto-policies', 'mime.types', 'magic', 'terminfo', 'fonts', 'os-release'],
  ...['debian_version', 'lsb-release', 'protocols', 'services', 'inputrc', 'python3', 'perl'],
  ...['java-17-openjdk', 'java-21-openjdk', 'maven', 'R', 'texmf', 'ImageMagick-6'],
];

/** The system's part of the root folder, as it is built on this machine. */
export function surveySystem(): SystemEntry[] {
  const settings = surveySettings().map(({ path }): SystemEntry => ({ kind: 'bind', path }));
  return [...surveyRoots(), ...settings];
}

/** The same without what is shown of /etc. */
export function surveyRoots(): SystemEntry[] {
  const paths = [...SYSTEM_FOLDERS, ...ROOT_NAMES.map((name) => `/${name}`)];
  return paths.map(findSystemEntry).filter((entry) => entry !== undefined);
}

/** What is shown of /etc. */
export function surveySettings(): SurveyedPath[] {
  return SYSTEM_SETTINGS.map((name) => findPath(`/etc/${name}`)).filter(
    (setting) => setting !== undefined,
  );
}

function findSystemEntry(path: string): SystemEntry | undefined {
  try {
    if (!lstatSync(path).isSymbolicLink()) return { kind: 'bind', path };
    return { kind: 'link', path, target: readlinkSync(path) };
  } catch {
    // Not every system has every one of them.
    return undefined;
  }
}

export interface SurveyedPath {
  readonly path: string;
  readonly realPath: string;
  readonly kind: PathKind;
  readonly owner: { readonly uid: number; readonly gid: number };
}

/** The path as it is on disk, or undefined when there is no such thing. Other failures throw. */
export function findPath(path: string): SurveyedPath | undefined {
  const absolute = resolve('/', path);
  try {
    const realPath = realpathSync(absolute);
    const stat = statSync(realPath);
    const kind = stat.isDirectory() ? 'folder' : 'file';
    return { path: absolute, realPath, kind, owner: { uid: stat.uid, gid: stat.gid } };
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'EACCES', 'ELOOP'].includes(systemCode(error) ?? ''))
      return undefined;
    throw error;
  }
}

/** Our own hard limits, which what we start cannot exceed: name → limit, Infinity for none. */
export function readHardLimits(): ReadonlyMap<string, number> {
  const limits = new Map<string, number>();
  for (const line of readLimits().split('\n').slice(1)) {
    const match = /^(.+?)\s{2,}(\S+)\s+(\S+)/.exec(line);
    if (match?.[1] === undefined) continue;
    limits.set(match[1], match[3] === 'unlimited' ? Number.POSITIVE_INFINITY : Number(match[3]));
  }
  return limits;
}

function readLimits(): string {
  try {
    return readFileSync('/proc/self/limits', 'utf8');
  } catch {
    // No /proc: nothing is known, and prlimit will say what it may not set.
    return '';
  }
}
