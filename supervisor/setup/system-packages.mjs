/**
 * The one thing npm cannot carry: bubblewrap, the tool that builds a sandbox. Installed where we may
 * (root, and a package manager that we know), else the command is printed. Set-up succeeds in either
 * case: what a weaker sandbox means is decided at run time, and shown there.
 */

import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

const program = 'bwrap';
const installLimitMs = 5 * 60 * 1000;

/** In order of preference. `refresh` is tried when the first attempt fails: an empty package list. */
const managers = [
  {
    name: 'apt-get',
    install: ['-o', 'DPkg::Lock::Timeout=60', 'install', '-y', '--no-install-recommends'],
    refresh: ['-o', 'DPkg::Lock::Timeout=60', 'update', '-q'],
    advice: 'apt-get install -y bubblewrap',
  },
  { name: 'dnf', install: ['install', '-y'], advice: 'dnf install -y bubblewrap' },
  { name: 'apk', install: ['add', '--no-cache'], advice: 'apk add bubblewrap' },
];

/**
 * Decides what to do about bubblewrap. Pure.
 * @param machine  {platform, isRoot, isOff, has(program)}; isOff is PRX_NO_SYSTEM_PACKAGES.
 * @returns undefined when nothing is to do; else {kind: 'install', manager} or {kind: 'advise', text}.
 */
export function decideSystemPackage({ platform, isRoot, isOff, has }) {
  if (platform !== 'linux' || has(program)) return undefined;
  const manager = managers.find(({ name }) => has(name));
  if (manager !== undefined && isRoot && !isOff) return { kind: 'install', manager };
  const command = manager?.advice ?? 'install the package bubblewrap';
  const text = `bubblewrap is missing: tool calls will be refused; as root: ${command}`;
  return { kind: 'advise', text };
}

/** @returns one line for the user, or undefined when nothing is missing. Costs a look in PATH. */
export function findMissingSystemPackage() {
  const decision = decideSystemPackage({ ...thisMachine(), isOff: true });
  return decision?.text;
}

export function installSystemPackage() {
  const decision = decideSystemPackage(thisMachine());
  if (decision?.kind !== 'install') return;
  const { name, install, refresh } = decision.manager;
  process.stderr.write(
    `setup: installing bubblewrap with ${name} (PRX_NO_SYSTEM_PACKAGES=1 turns this off)\n`,
  );
  if (runQuietly(name, [...install, 'bubblewrap']) || refresh === undefined) return;
  runQuietly(name, refresh);
  runQuietly(name, [...install, 'bubblewrap']);
}

/** What it prints is of no use to the user: setup.mjs looks at the result and says what to do. */
function runQuietly(command, args) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  return spawnSync(command, args, { env, stdio: 'ignore', timeout: installLimitMs }).status === 0;
}

function thisMachine() {
  return {
    platform: process.platform,
    isRoot: process.getuid?.() === 0,
    isOff: process.env.PRX_NO_SYSTEM_PACKAGES === '1',
    has: isInPath,
  };
}

function isInPath(name) {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return folder !== '';
    } catch {
      return false; // Not in this folder.
    }
  });
}
