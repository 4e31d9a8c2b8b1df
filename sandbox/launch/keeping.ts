/** What the levels `limits-only` and `landlock` give each command: a keeper, and a folder of its
 *  own for temporary files, which goes with it. At `landlock` also what it may open: decided from
 *  the policy once, refused as a whole where the policy hides or protects a part of what is shown,
 *  because Landlock can only add. */
import { chownSync, lstatSync, mkdirSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { assert } from '../../base/assert.ts';
import { PrxError } from '../../base/errors.ts';
import { findIdentity } from '../../base/process.ts';
import { removeTree } from '../../base/remove-tree.ts';
import { parseHostFolderName, toHostFolderName } from '../../protocol/host-folders.ts';
import type { SandboxPolicy } from '../../protocol/sandbox-methods.ts';
import { findHider, isInside } from './arguments.ts';
import type { Identity } from './identity.ts';
import { type AccessRule, canKeep, toKeeperCommand } from './keeper.ts';
import type { RuntimeFiles } from './runtime-files.ts';
import { toFilter, toFilterBytes } from './seccomp.ts';
import { findPath, findProgram, surveySystem } from './survey.ts';

export interface Keeping {
  /** Holds the temporary files of all commands. */
  readonly folder: string;
  /** For one command. */
  open(identity: Identity): KeptPlace;
  close(): void;
}

export interface KeptPlace {
  readonly temporary: string;
  toCommand(command: readonly string[]): string[];
  close(): void;
}

export interface KeepingSpec {
  readonly level: 'landlock' | 'limits-only';
  readonly policy: SandboxPolicy;
  readonly files: RuntimeFiles;
}

const DEVICES = ['null', 'zero', 'full', 'random', 'urandom'].map((name) => `/dev/${name}`);

/** Throws SANDBOX_UNAVAILABLE with what is missing, or what of the policy cannot be kept. */
export function openKeeping(spec: KeepingSpec): Keeping {
  const { level, policy } = spec;
  const perl = findProgram('perl');
  if (perl === undefined) throw refused('perl is missing', 'install perl, or better bubblewrap');
  if (!canKeep(process.arch)) {
    throw refused(`the processor ${process.arch} is not known to our keeper`, 'use bubblewrap');
  }
  const isLandlock = level === 'landlock';
  const { mode } = policy.network;
  if (mode === 'allowlist') {
    const reason = `level ${level} has no network of its own, so it cannot keep to an allow-list`;
    throw refused(reason, 'use level bubblewrap, or another security.sandbox.network');
  }
  const rules = isLandlock ? toAccessRules(policy, spec.files) : [];
  const filter = isLandlock ? toKeptFilter(mode === 'none') : Buffer.alloc(0);
  const base = openFolder();
  let count = 0;
  return {
    folder: base,
    open({ uid, gid, drops }) {
      count += 1;
      const temporary = join(base, String(count));
      mkdirSync(temporary, { mode: 0o700 });
      if (drops) chownSync(temporary, uid, gid);
      const own: AccessRule[] = isLandlock ? [{ access: 'write', path: temporary }] : [];
      const parts = { perl, arch: process.arch, parentPid: process.pid, filter };
      const options = { ...parts, rules: [...rules, ...own], deniesTcp: mode === 'none' };
      return {
        temporary,
        toCommand: (command) => toKeeperCommand(options, command),
        close: () => discard(temporary),
      };
    },
    close: () => discard(base),
  };
}

/** Pure but for the look at what is there. Throws SANDBOX_UNAVAILABLE. */
function toAccessRules(policy: SandboxPolicy, files: RuntimeFiles): AccessRule[] {
  const hidden = policy.hiddenPaths.flatMap(toRealPath);
  const writable = [
    ...(policy.workspace === '' ? [] : toRealPath(policy.workspace)),
    ...policy.writablePaths.flatMap(toRealPath).filter((path) => !findHider(path, hidden)),
  ];
  const readable = policy.readOnlyPaths
    .flatMap(toRealPath)
    .filter((path) => !findHider(path, hidden));
  const system = surveySystem().flatMap((entry) =>
    entry.kind === 'bind' ? toRealPath(entry.path) : [],
  );
  checkCarving({ policy, hidden, shown: [...writable, ...readable, ...system], writable });
  const own = [
    ...files.hosts.map(({ path }) => path),
    ...[files.interpreter.path, files.search?.path ?? '', files.packagePath],
    ...(policy.custom?.roots ?? []),
  ];
  return [
    ...[...system, ...readable, ...own.flatMap(toRealPath)].map(
      (path): AccessRule => ({ access: 'read', path }),
    ),
    ...DEVICES.flatMap(toRealPath).map((path): AccessRule => ({ access: 'device', path })),
    ...writable.map((path): AccessRule => ({ access: 'write', path })),
  ];
}

/** A hidden or protected path below one that is shown would be open too. */
function checkCarving(parts: {
  readonly policy: SandboxPolicy;
  readonly hidden: readonly string[];
  readonly shown: readonly string[];
  readonly writable: readonly string[];
}): void {
  const { policy, hidden, shown, writable } = parts;
  const open = [
    ...hidden.filter((path) => shown.some((root) => path !== root && isInside(path, root))),
    ...policy.protectedPaths
      .flatMap(toRealPath)
      .filter((path) => writable.some((root) => isInside(path, root))),
  ];
  if (open.length === 0) return;
  const reason = `level landlock cannot keep a command from ${open[0]}, which lies in what it may use`;
  throw refused(
    reason,
    'use level bubblewrap, or move it out of the workspace and the listed paths',
  );
}

function toRealPath(path: string): string[] {
  const found = path === '' ? undefined : findPath(path);
  return found === undefined ? [] : [found.realPath];
}

function toKeptFilter(isOffline: boolean): Buffer {
  const options = { arch: process.arch, refuseUnseenMemory: true, isShared: true, isOffline };
  const program = toFilter(options);
  assert(program !== undefined, 'the keeper and the filter know the same processors');
  return toFilterBytes(program);
}

/** One folder for this host, named after it; those of hosts that are gone are removed. */
function openFolder(): string {
  const own = findIdentity(process.pid);
  if (own === undefined) throw refused('there is no /proc here', 'mount it');
  for (const name of readdirSync(tmpdir())) {
    const host = parseHostFolderName(name);
    if (host === undefined || findIdentity(host.pid)?.startTicks === host.startTicks) continue;
    removeOwn(join(tmpdir(), name));
  }
  const folder = join(tmpdir(), toHostFolderName(own));
  // Who made it before us may look into it: not ours then.
  mkdirSync(folder, { mode: 0o711 });
  return folder;
}

/** Anybody can make a folder of such a name. */
function removeOwn(folder: string): void {
  if (lstatSync(folder, { throwIfNoEntry: false })?.uid !== process.getuid?.()) return;
  discard(folder);
}

/** Who comes later is not to be kept from its work by what a command left there. */
function discard(folder: string): void {
  try {
    removeTree(folder);
  } catch {
    // A disk that takes no changes: the next start, or the next sweep, tries again.
  }
}

function refused(reason: string, mend: string): PrxError {
  const message = `no sandbox: ${reason}; mend: ${mend}`;
  return new PrxError('SANDBOX_UNAVAILABLE', message, { data: { reason, mend } });
}
