/** Labels as they are typed: K=V. */
import { PrxError } from '../base/errors.ts';

export function parseLabels(texts: readonly string[]): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const text of texts) {
    const at = text.indexOf('=');
    if (at <= 0) {
      const message = `--label ${text} is not of the form K=V, such as team=web`;
      throw new PrxError('INVALID_REQUEST', message, { data: { label: text } });
    }
    labels[text.slice(0, at)] = text.slice(at + 1);
  }
  return labels;
}
