/** A tool of your own: one file, one tool. docs/tools.md says what it may do and what bounds it. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { defineTool, z } from 'prx-supervisor/tools';

export default defineTool({
  name: 'word_count',
  description: 'Count the lines and words of a text file of the workspace.',
  schema: z.strictObject({
    path: z.string().min(1).describe('Path of the file, relative to the workspace.'),
    longest: z.boolean().default(false).describe('Also say which word is the longest.'),
  }),
  effect: 'read',
  async run({ path, longest }, { workspace, signal, log }) {
    const text = await readFile(join(workspace, path), { encoding: 'utf8', signal });
    log(`read ${text.length} characters of ${path}`);
    const words = text.split(/\s+/).filter((word) => word !== '');
    const counted = { lines: text.split('\n').length - 1, words: words.length };
    if (!longest) return counted;
    const byLength = words.toSorted((one, other) => other.length - one.length);
    return { ...counted, longest: byLength[0] ?? '' };
  },
});
