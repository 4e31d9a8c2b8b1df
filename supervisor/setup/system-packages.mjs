/**
 * What npm cannot carry: bubblewrap, which builds sandboxes, and on a minimal system the library that
 * Node is linked against. Installed where we may (root, and a package manager that we know), else the
 * command is printed.
 */

import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/** `loss`: what a machine without it cannot do. `names`: of its package, where it is another one. */
export const bubblewrap = { name: 'bubblewrap', loss: 'tool calls will be refused', names: {} };
export const libatomic = {
  name: 'libatomic',
  loss: 'the Node of prx-supervisor cannot start',
  names: { 'apt-get': 'libatomic1' },
};

const installLimitMs = 5 * 60 * 1000;

/** In order of preference. `refresh` is tried when the first attempt fails: an empty package list. */
const managers = [
  {
    name: 'apt-get',
    install: ['-o', 'DPkg::Lock::Timeout=60', 'install', '-y', '--no-install-recommends'],
    refresh: ['-o', 'DPkg::Lock::Timeout=60', 'update', '-q'],
    advice: 'apt-get install -y',
  },
  { name: 'dnf', install: ['install', '-y'], advice: 'dnf install -y' },
  { name: 'apk', install: ['add', '--no-cache'], advice: 'apk add' },
];

/**
 * Decides what to do about a package that is missing. Pure.
 * @param machine  {isRoot, isOff, has(program)}; isOff is PRX_NO_SYSTEM_PACKAGES.
 * @returns {kind: 'install', manager, name} or {kind: 'advise', text}.
 */
export function decideSystemPackage(wanted, { isRoot, isOff, has }) {
  const manager = managers.find((each) => has(each.name));
  const name = wanted.names[manager?.name] ?? wanted.name;
  if (manager !== undefined && isRoot && !isOff) return { kind: 'install', manager, name };
  const command = `${manager?.advice ?? 'install the package'} ${name}`;
  return { kind: 'advise', text: `${wanted.name} is missing: ${wanted.loss}; as root: ${command}` };
}

/** Without bubblewrap set-up succeeds: what a weaker sandbox means is decided, and shown, at run
 *  time. Costs a look in PATH. */
export function lacksBubblewrap(platform = process.platform, has = isInPath) {
  return platform === 'linux' && !has('bwrap');
}

/** One line for the user. */
export function adviseSystemPackage(wanted) {
  return decideSystemPackage(wanted, { ...thisMachine(), isOff: true }).text;
}

export function installSystemPackage(wanted) {
  const decision = decideSystemPackage(wanted, thisMachine());
  if (decision.kind !== 'install') return;
  const { manager, name } = decision;
  process.stderr.write(
    `setup: installing ${name} with ${manager.name} (PRX_NO_SYSTEM_PACKAGES=1 turns this off)\n`,
  );
  if (runQuietly(manager.name, [...manager.install, name]) || manager.refresh === undefined) return;
  runQuietly(manager.name, manager.refresh);
  runQuietly(manager.name, [...manager.install, name]);
}

/** What it prints is of no use to the user: setup.mjs looks at the result and says what to do. */
function runQuietly(command, args) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  return spawnSync(command, args, { env, stdio: 'ignore', timeout: installLimitMs }).status === 0;
}

function thisMachine() {
  return {
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
