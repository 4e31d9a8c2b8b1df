/** Puts a unit where systemd finds it. What somebody else wrote there stays, unless told. */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { PrxError, systemCode } from '../../base/errors.ts';
import { makeFolder } from '../../base/make-folder.ts';

export interface Installation {
  readonly file: string;
  readonly text: string;
  /** Replaces a different file. */
  readonly force: boolean;
}

export type Installed = 'written' | 'replaced' | 'unchanged';

/** @throws STATE_INVALID when a different unit is there, FORBIDDEN when it cannot be written. */
export function installUnit({ file, text, force }: Installation): Installed {
  try {
    const present = readPresent(file);
    if (present === text) return 'unchanged';
    if (present !== undefined && !force) throw differentUnit(file);
    writeWhole(file, text);
    return present === undefined ? 'written' : 'replaced';
  } catch (cause) {
    if (cause instanceof PrxError) throw cause;
    const reason = systemCode(cause) ?? String(cause);
    const message = `cannot write the unit ${file}: ${reason}; run it as root, or with --user`;
    throw new PrxError('FORBIDDEN', message, { data: { file, reason }, cause });
  }
}

function readPresent(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** systemd may read it at any time: it is there as a whole or not at all. */
function writeWhole(file: string, text: string): void {
  makeFolder(dirname(file), 0o755);
  const draft = `${file}.${process.pid}.tmp`;
  try {
    writeFileSync(draft, text, { mode: 0o644, flag: 'wx', flush: true });
    renameSync(draft, file);
  } catch (error) {
    rmSync(draft, { force: true });
    throw error;
  }
}

function differentUnit(file: string): PrxError {
  const message = `${file} is there and is different: --force replaces it; what you changed in it belongs into a drop-in`;
  return new PrxError('STATE_INVALID', message, { data: { file } });
}
