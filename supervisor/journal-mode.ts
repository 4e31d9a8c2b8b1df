/** The supervisor's program as a tool for the journal while no supervisor runs: verify, repair,
 *  export, restore. One JSON answer on stdout (an export: one event a line), and the exit code. */
import { writeSync } from 'node:fs';
import { z } from 'zod';
import type { Clock } from '../base/clock.ts';
import { errorTable, systemCode, toPrxError } from '../base/errors.ts';
import { exportOffline, verifyOffline } from '../store/offline.ts';
import { repairOffline } from '../store/repair.ts';
import { restoreOffline } from '../store/restore.ts';
import { type Environment, loadConfig } from './config.ts';

const MODE = 'journal';

const optionsSchema = z.strictObject({
  mode: z.literal(MODE),
  action: z.enum(['verify', 'repair', 'export', 'restore']),
  config: z.string().optional(),
  stateDir: z.string().optional(),
  /** Absent: all. */
  session: z.string().optional(),
  /** Export: what repairs took out. */
  aside: z.boolean().default(false),
  /** Restore: the backup, and whether a journal that is there is put aside. */
  file: z.string().optional(),
  force: z.boolean().default(false),
});
type Options = z.infer<typeof optionsSchema>;

const EXIT_DAMAGED = 1;
const STDOUT = 1;
const CHUNK_CHARS = 64 * 1024;

/** True when the program was started for this. */
export function isJournalMode(argument: unknown): boolean {
  return typeof argument === 'object' && argument !== null && 'mode' in argument
    ? argument.mode === MODE
    : false;
}

/** @returns the exit code: 0; 1 damage was found (verify); that of the error otherwise. */
export function runJournalMode(argument: unknown, env: Environment, clock: Clock): number {
  const write = createOutput();
  try {
    const options = optionsSchema.parse(argument);
    const { config } = loadConfig(options, env);
    const exit = act(options, { stateDir: config.stateDir, clock }, write.line);
    write.end();
    return exit;
  } catch (error) {
    const { code, message, data } = toPrxError(error);
    write.line(JSON.stringify({ ok: false, error: { code, message, data } }));
    write.end();
    return errorTable[code].exit;
  }
}

function act(
  options: Options,
  place: { readonly stateDir: string; readonly clock: Clock },
  print: (line: string) => void,
): number {
  const { session, aside, force, file = '' } = options;
  const one = { ...place, session };
  switch (options.action) {
    case 'verify': {
      const report = verifyOffline(one);
      print(JSON.stringify({ ok: true, ...report }));
      return report.problems.length === 0 ? 0 : EXIT_DAMAGED;
    }
    case 'repair':
      print(JSON.stringify({ ok: true, ...repairOffline(one) }));
      return 0;
    case 'export':
      exportOffline({ ...one, aside }, print);
      return 0;
    case 'restore':
      print(JSON.stringify({ ok: true, ...restoreOffline({ ...place, file, force }) }));
      return 0;
  }
}

/** Lines in chunks, written at once: a journal of any size passes in constant memory. */
function createOutput(): { readonly line: (text: string) => void; readonly end: () => void } {
  let chunk = '';
  const end = (): void => {
    writeAll(Buffer.from(chunk));
    chunk = '';
  };
  return {
    line(text) {
      chunk += `${text}\n`;
      if (chunk.length >= CHUNK_CHARS) end();
    },
    end,
  };
}

/** A pipe that somebody made non-blocking is full for a moment. */
function writeAll(bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(STDOUT, bytes, at);
    } catch (error) {
      if (systemCode(error) !== 'EAGAIN') throw error;
    }
  }
}
