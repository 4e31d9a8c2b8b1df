/** Makes the changes of a unified diff of one file. Pure. */
import { applyPatch, type StructuredPatch } from 'diff';

/** Nobody who reads a file sees it, so no change to the file has it; it stays where it is. */
export const BYTE_ORDER_MARK = '\ufeff';

/** The changed text; undefined: its context or removed lines are not what the file has. */
export function fitDiff(old: string, diff: StructuredPatch): string | undefined {
  const text = applyPatch(old, diff, { autoConvertLineEndings: true });
  if (text !== false) return text;
  if (!old.startsWith(BYTE_ORDER_MARK)) return undefined;
  const rest = applyPatch(old.slice(1), diff, { autoConvertLineEndings: true });
  return rest === false ? undefined : `${BYTE_ORDER_MARK}${rest}`;
}
