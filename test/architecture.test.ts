/** The rules of docs/architecture.md that a program can check, each run on the whole tree; and
 *  each rule on snippets that break it and that just keep it, because a rule that cannot fail
 *  proves nothing. */
import { dirname } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { doorRules } from './architecture/door-rules.ts';
import { importRules } from './architecture/import-rules.ts';
import { shapeRules } from './architecture/shape-rules.ts';
import { parse, readTree } from './architecture/source.ts';

const rules = [...importRules, ...shapeRules, ...doorRules];
const sources = readTree(dirname(import.meta.dirname));

describe('the tree', () => {
  test('is found', () => {
    expect(sources.map(({ path }) => path)).toContain('base/clock.ts');
  });

  test.each(rules)('$name', ({ check }) => {
    expect(check(sources)).toEqual([]);
  });
});

const lines = (count: number): string => 'a();\n'.repeat(count);
const longCall = `call(${'argument, '.repeat(10)}last);`;
const longText = `call('${'word '.repeat(30)}');`;

/** [rule (part of its name), files that break it, files that keep it] */
const cases: readonly (readonly [string, Files, Files])[] = [
  ['the table', { 'base/a.ts': "import '../protocol/b.ts';" }, { 'base/a.ts': "import './b.ts';" }],
  ['the table', { 'base/a.ts': "import 'zod';" }, { 'base/a.ts': "import 'node:fs';" }],
  ['the table', { 'worker/a.ts': "import '../store/b.ts';" }, { 'worker/a.ts': "import 'zod';" }],
  [
    'the table',
    { 'api/a.ts': "import type { A } from '../supervisor/config.ts';" },
    { 'api/a.ts': "import type { A } from '../supervisor/index.ts';" },
  ],
  [
    'the table',
    { 'cli/a.ts': "export const a = () => import('../api/server.ts');" },
    { 'cli/a.ts': "export const a = () => import('../api/client.ts');" },
  ],
  [
    'the table',
    { 'supervisor/main.ts': "import '../worker/loop.ts';" },
    { 'supervisor/main.ts': "import '../api/server.ts';" },
  ],
  [
    'the table',
    { 'supervisor/a.ts': "import '../api/b.ts';" },
    { 'store/a.ts': "import '../base/b.ts';" },
  ],
  [
    'the table',
    { 'novel/a.ts': "import '../base/b.ts';" },
    { 'test/a.ts': "import '../base/b.ts';" },
  ],
  ['a main.ts', { 'cli/a.ts': "import './main.ts';" }, { 'cli/a.ts': "import './domain.ts';" }],
  ['a main.ts', { 'store/a.ts': "import './writer-main.ts';" }, {}],
  [
    'cycles',
    { 'base/a.ts': "import './b.ts';", 'base/b.ts': "import type { A } from './a.ts';" },
    {
      'base/a.ts': "import './b.ts'; import './c.ts';",
      'base/b.ts': "import './c.ts';",
      'base/c.ts': '',
    },
  ],
  [
    'is reached',
    { 'cli/main.ts': '', 'cli/a.ts': '' },
    {
      'cli/main.ts': "new URL('./a.ts', import.meta.url);",
      'cli/a.ts': "import './b.ts';",
      'cli/b.ts': '',
    },
  ],
  ['400 lines', { 'base/a.ts': lines(401) }, { 'base/a.ts': lines(400) }],
  [
    '70 lines',
    { 'base/a.ts': `function a() {\n${lines(69)}}` },
    { 'base/a.ts': `function a() {\n${lines(68)}}` },
  ],
  [
    '70 lines',
    { 'test/a.test.ts': `test('a', () => {\n${lines(69)}});` },
    { 'test/a.test.ts': `describe('a', () => {\n${lines(69)}});` },
  ],
  ['100 columns', { 'base/a.ts': longCall }, { 'base/a.ts': longText }],
  [
    '100 columns',
    { 'base/a.ts': `// ${'word '.repeat(30)}` },
    { 'base/a.ts': `// ${'x'.repeat(120)}` },
  ],
  ['kebab-case', { 'base/someFile.ts': '' }, { 'base/some-file.test.ts': '' }],
  ['kebab-case', { 'store/utils/a.ts': '' }, { 'store/effects/a.ts': '' }],
  [
    'starts processes',
    { 'cli/a.ts': "import 'node:child_process';" },
    { 'base/process.ts': "import 'execa';" },
  ],
  ['starts processes', { 'sandbox/a.ts': "import { execa } from 'execa';" }, {}],
  ['time and chance', { 'store/a.ts': 'Date.now();' }, { 'base/clock.ts': 'Date.now();' }],
  ['time and chance', { 'store/a.ts': 'new Date();' }, { 'store/a.ts': 'new Date(wallMs);' }],
  [
    'time and chance',
    { 'store/a.ts': 'setTimeout(f, 1);' },
    { 'store/a.ts': 'socket.setTimeout(1);' },
  ],
  [
    'time and chance',
    { 'store/a.ts': 'const deps = { setInterval };' },
    { 'test/a.ts': 'setInterval(f, 1);' },
  ],
  ['time and chance', { 'store/a.ts': "import { randomUUID } from 'node:crypto';" }, {}],
  ['time and chance', { 'store/a.ts': "import { setTimeout } from 'node:timers/promises';" }, {}],
  ['time and chance', { 'store/a.ts': 'a(Math.random);' }, { 'dashboard/a.ts': 'a(Math.random);' }],
  [
    'process.env',
    { 'store/a.ts': 'process.env.HOME;' },
    { 'store/writer-main.ts': 'process.env.HOME;' },
  ],
  [
    'process.env',
    { 'api/config.ts': 'a(process.env);' },
    { 'supervisor/config.ts': 'a(process.env);' },
  ],
  ['process.env', { 'api/a.ts': "import { env } from 'node:process';" }, {}],
  ['console', { 'api/a.ts': 'console.log(1);' }, { 'cli/a.ts': 'console.log(1);' }],
  [
    'exports have names',
    { 'api/a.ts': 'export default 1;' },
    { 'jest.config.ts': 'export default 1;' },
  ],
  ['exports have names', { 'api/a.ts': 'export default function a() {}' }, {}],
  [
    'exports have names',
    { 'api/a.ts': "export * from './b.ts';" },
    { 'api/a.ts': "export { b } from './b.ts';" },
  ],
  ['no any', { 'api/a.ts': 'const a: any = 1;' }, { 'api/a.ts': "const any = 'any';" }],
  [
    'top-level await',
    { 'cli/main.ts': 'await run();' },
    { 'cli/main.ts': 'async () => await run();' },
  ],
  ['top-level await', { 'cli/main.ts': 'await using a = b();' }, { 'test/a.ts': 'await run();' }],
];

describe('a rule', () => {
  test.each(cases)('%s (case %#)', (name, broken, kept) => {
    const matching = rules.filter((rule) => rule.name.includes(name));
    expect(matching).toHaveLength(1);
    const check = (files: Files) => matching.flatMap((rule) => rule.check(parseAll(files)));
    expect(check(broken)).not.toEqual([]);
    expect(check(kept)).toEqual([]);
  });

  test.each(rules)('has a case: $name', ({ name }) => {
    expect(cases.some(([part]) => name.includes(part))).toBe(true);
  });
});

type Files = Readonly<Record<string, string>>;

function parseAll(files: Files) {
  return Object.entries(files).map(([path, text]) => parse(path, text));
}
