/** Work nobody awaits. Its failure is a bug to be seen, not a rejection to be lost. */
import type { Logger } from './logger.ts';

/** Runs `work` without waiting; a rejection is logged as `background.failed` under `name`. */
export function background(work: Promise<unknown>, name: string, logger: Logger): void {
  work.catch((error: unknown) => logger.error('background.failed', { name, error }));
}
