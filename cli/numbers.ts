/** What yargs lets through as a number and a command cannot use. */
import { PrxError } from '../base/errors.ts';

/** @throws INVALID_REQUEST for a number below 0. */
export function checkNotNegative(option: string, value: number | undefined): void {
  if (value === undefined || value >= 0) return;
  const message = `--${option} ${value} is negative; give 0 or more`;
  throw new PrxError('INVALID_REQUEST', message, { data: { [option]: value } });
}
