/** One line about a tool call's arguments: what a person wants to know before anything else. */
import { sanitizeLine } from '../text/width.ts';

/** The argument that says it all, per tool; others are shown as compact JSON. */
const TELLING: Readonly<Record<string, string>> = {
  shell: 'command',
  read_file: 'path',
  write_file: 'path',
  edit_file: 'path',
  list_files: 'path',
  search: 'pattern',
  glob: 'pattern',
  run_code: 'code',
  apply_patch: 'patch',
  ask_user: 'question',
  process_start: 'command',
  process_poll: 'process',
  process_input: 'text',
  process_stop: 'process',
};

const SUMMARY_CHARS_MAX = 2000;

export function summarizeArguments(tool: string, args: unknown): string {
  const key = TELLING[tool];
  if (key !== undefined && typeof args === 'object' && args !== null && !Array.isArray(args)) {
    const entries = Object.entries(args);
    const telling = entries.find(([name]) => name === key)?.[1];
    if (typeof telling === 'string') return clip(telling);
    if (entries.length === 0) return '';
  }
  return clip(typeof args === 'string' ? args : (JSON.stringify(args) ?? ''));
}

function clip(text: string): string {
  const line = sanitizeLine(text.slice(0, SUMMARY_CHARS_MAX));
  return text.length > SUMMARY_CHARS_MAX ? `${line}…` : line;
}
