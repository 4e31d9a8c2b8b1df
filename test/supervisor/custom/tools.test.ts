/** Which files are tools, and what becomes of what they say. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Description } from '../../../protocol/custom-tools.ts';
import { FILES_MAX, listToolFiles } from '../../../supervisor/custom/files.ts';
import { toReading } from '../../../supervisor/custom/tools.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'prx-tool-files-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const write = (...names: readonly string[]): void => {
  for (const name of names) writeFileSync(join(folder, name), '');
};

describe('listToolFiles', () => {
  test('takes the programs of a folder, and not what is beside them', () => {
    write('b.ts', 'a.mjs', '_own.ts', '.hidden.ts', 'a.d.ts', 'a.test.ts', 'c.json', 'README.md');
    mkdirSync(join(folder, 'deep.ts'));
    const files = [
      { root: 0, path: 'a.mjs' },
      { root: 0, path: 'b.ts' },
    ];
    expect(listToolFiles([folder], undefined)).toEqual({ roots: [folder], files, problems: [] });
  });

  test('finds relative paths from the folder of the configuration, and follows links', () => {
    write('one.ts');
    symlinkSync(join(folder, 'one.ts'), join(folder, 'link.ts'));
    const found = listToolFiles(['link.ts'], join(folder, 'config.toml'));
    const files = [{ root: 0, path: '' }];
    expect(found).toEqual({ roots: [join(folder, 'one.ts')], files, problems: [] });
  });

  test('says what is not there, and what is empty', () => {
    const missing = join(folder, 'nowhere.ts');
    expect(listToolFiles([missing, folder], undefined).problems).toEqual([
      { file: missing, problem: 'it cannot be read (ENOENT)' },
      { file: folder, problem: 'no tool file is in it' },
    ]);
  });

  test.each([
    [FILES_MAX, 0],
    [FILES_MAX + 1, 1],
  ])('of %i files leaves %i out', (count, left) => {
    write(...Array.from({ length: count }, (_, index) => `t${1000 + index}.ts`));
    const { files, problems } = listToolFiles([folder], undefined);
    expect([files.length, problems.length]).toEqual([FILES_MAX, left]);
    if (left === 1) {
      const problem = 'it is beyond the limit of 64 files';
      expect(problems).toEqual([{ file: join(folder, 't1064.ts'), problem }]);
    }
  });
});

describe('toReading', () => {
  const said = (name: string): Description => ({
    ...{ kind: 'tool', name, description: 'd', effect: 'read' },
    ...{ parameters: { type: 'object' }, digest: `of ${name}` },
  });
  const read = (...descriptions: readonly Description[]) =>
    toReading(
      {
        roots: ['/t'],
        files: descriptions.map((_, index) => ({ root: 0, path: `${index}.ts` })),
        problems: [],
      },
      descriptions,
    );

  test('a file with a tool, and one without', () => {
    const { tools, status } = read(said('a'), { kind: 'refused', problem: 'why' });
    expect([...tools]).toEqual([
      [
        'custom__a',
        {
          ...{ root: 0, path: '0.ts', effect: 'read', digest: 'of a' },
          spec: { name: 'custom__a', description: 'd', parameters: { type: 'object' } },
        },
      ],
    ]);
    expect(status).toEqual([
      { file: '/t/0.ts', tool: 'custom__a', effect: 'read', digest: 'of a' },
      { file: '/t/1.ts', problem: 'why' },
    ]);
  });

  test('a name of two files is nobody’s, and a built-in one is ours', () => {
    const { tools, status } = read(said('a'), said('shell'), said('a'), said('b'));
    expect([...tools.keys()]).toEqual(['custom__b']);
    expect(status.slice(0, 3)).toEqual([
      {
        file: '/t/0.ts',
        problem: "its name 'a' is also that of the tool in /t/2.ts; none of them is used",
      },
      {
        file: '/t/1.ts',
        problem: "its name 'shell' is that of a built-in tool; give it another name",
      },
      {
        file: '/t/2.ts',
        problem: "its name 'a' is also that of the tool in /t/0.ts; none of them is used",
      },
    ]);
  });
});
