/** `import 'prx-supervisor/client'`, as another program writes it: what loads, and its types. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect, test } from '@jest/globals';
import { openRig } from './harness.ts';

const root = dirname(dirname(import.meta.dirname));

test('the client talks to a supervisor, and loads nothing but node', async () => {
  const rig = await openRig();
  try {
    const program = `
      import { createClient } from 'prx-supervisor/client';
      const client = createClient({ socketPath: ${JSON.stringify(rig.socketPath)} });
      const { view } = await client.createSession({ name: 'from-a-package' });
      console.log(view.name, (await client.listSessions()).length);
    `;
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const { execFile } = await import('node:child_process');
    const args = ['--input-type=module', '-e', program];
    execFile(process.execPath, args, { cwd: root }, (error, stdout) =>
      error === null ? resolve(stdout) : reject(error),
    );
    expect(await promise).toBe('from-a-package 1\n');
    const code = readFileSync(join(root, 'dist/client.mjs'), 'utf8');
    const loaded = [...code.matchAll(/^import .* from "([^"]+)"/gm)].map(([, name]) => name);
    expect(loaded.filter((name) => !name?.startsWith('node:'))).toEqual([]);
  } finally {
    await rig.close();
  }
});

test('its declarations are made from the source, and are where the package says', () => {
  const folder = mkdtempSync(join(tmpdir(), 'prx-types-'));
  try {
    const tsc = join(root, 'node_modules/.bin/tsc');
    const outDir = join(folder, 'dist/types');
    execFileSync(process.execPath, [tsc, '-p', join(root, 'api'), '--outDir', outDir]);
    const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
    expect(existsSync(join(folder, exports['./client'].types))).toBe(true);
    expect(existsSync(join(folder, exports['./tools'].types))).toBe(true);
    // A program of somebody else's is checked against them.
    const own = { type: 'module', imports: { '#client': exports['./client'].types } };
    writeFileSync(join(folder, 'package.json'), JSON.stringify(own));
    const use = "import type { ApiClient } from '#client';\nexport const go = (c: ApiClient) =>";
    writeFileSync(join(folder, 'good.ts'), `${use} c.getStatus();\n`);
    writeFileSync(join(folder, 'bad.ts'), `${use} c.noSuchMethod();\n`);
    const check = (file: string) => {
      const flags = ['--noEmit', '--strict', '--module', 'nodenext', '--skipLibCheck'];
      execFileSync(process.execPath, [tsc, ...flags, file], { cwd: folder, stdio: 'pipe' });
    };
    expect(() => check('good.ts')).not.toThrow();
    expect(() => check('bad.ts')).toThrow();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('a tool file is checked against its own schema', () => {
  const folder = mkdtempSync(join(tmpdir(), 'prx-tool-types-'));
  try {
    const tsc = join(root, 'node_modules/.bin/tsc');
    const source = join(root, 'protocol/define-tool.ts');
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
    const paths = { 'prx-supervisor/tools': [source] };
    const compilerOptions = {
      ...{ noEmit: true, strict: true, module: 'nodenext', types: ['node'], skipLibCheck: true },
      ...{ allowImportingTsExtensions: true, lib: ['esnext'], paths },
    };
    const write = (body: string): void =>
      writeFileSync(
        join(folder, 'tool.ts'),
        `import { defineTool, z } from 'prx-supervisor/tools';
         export default defineTool({ name: 'x', description: 'x', effect: 'read',
           schema: z.object({ text: z.string() }), run: (input) => ${body} });`,
      );
    writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
    writeFileSync(
      join(folder, 'tsconfig.json'),
      JSON.stringify({ compilerOptions, files: ['tool.ts'] }),
    );
    const check = () => execFileSync(process.execPath, [tsc, '-p', folder], { stdio: 'pipe' });
    write('input.text.length');
    expect(check).not.toThrow();
    write('input.txet.length');
    expect(check).toThrow();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
