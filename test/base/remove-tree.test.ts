import {
  chmodSync,
  existsSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { spawnQuick } from '../../base/process.ts';

/** Root needs no opening: there an ordinary user does it. */
const user = process.getuid?.() === 0 ? { uid: 1500, gid: 1500 } : {};
const source = new URL('../../base/remove-tree.ts', import.meta.url).href;

let base = '';
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'prx-remove-tree-'));
  own(base);
});
afterEach(() => {
  rmSync(base, { recursive: true, force: true });
});

function own(path: string | Buffer): void {
  if (user.uid !== undefined) lchownSync(path, user.uid, user.gid);
}

function makeFolder(path: string, mode: number): void {
  const inner = join(path, 'inner');
  const file = join(inner, 'file');
  mkdirSync(inner, { recursive: true });
  writeFileSync(file, 'x');
  for (const each of [file, inner, path]) own(each);
  for (const each of [inner, path]) chmodSync(each, mode);
}

async function remove(name: string): Promise<number | undefined> {
  const code = `import(${JSON.stringify(source)}).then((m) => m.removeTree(process.argv[1]))`;
  const { exited } = await spawnQuick({
    command: process.execPath,
    args: ['-e', code, join(base, name)],
    ...{ env: {}, ownSession: false, stdio: ['ignore', 'inherit', 'inherit'], ...user },
  });
  return (await exited).code;
}

describe('removing a tree', () => {
  test.each(['755', '555', '311', '000'])(
    'with folders of mode %s in it (regression)',
    async (mode) => {
      const tree = join(base, 'tree');
      mkdirSync(tree);
      own(tree);
      for (const name of ['a', 'b']) makeFolder(join(tree, name), Number.parseInt(mode, 8));
      expect(await remove('tree')).toBe(0);
      expect(existsSync(tree)).toBe(false);
    },
  );

  test('that is closed itself, that is a file, that is not there', async () => {
    makeFolder(join(base, 'tree'), 0);
    writeFileSync(join(base, 'file'), 'x');
    for (const name of ['tree', 'file', 'nothing']) expect(await remove(name)).toBe(0);
    expect(['tree', 'file'].filter((name) => existsSync(join(base, name)))).toEqual([]);
  });

  test('with a closed folder whose name is no text (regression)', async () => {
    const folder = Buffer.concat([Buffer.from(`${base}/tree/`), Buffer.from([0xff])]);
    const inner = Buffer.concat([folder, Buffer.from('/inner')]);
    mkdirSync(inner, { recursive: true });
    for (const path of [join(base, 'tree'), folder, inner]) own(path);
    chmodSync(folder, 0o500);
    expect(await remove('tree')).toBe(0);
    expect(existsSync(join(base, 'tree'))).toBe(false);
  });

  test('leaves what a link in it leads to as it was', async () => {
    const outside = join(base, 'outside');
    makeFolder(outside, 0o500);
    const tree = join(base, 'tree');
    makeFolder(tree, 0o755);
    symlinkSync(outside, join(tree, 'inner', 'link'));
    chmodSync(join(tree, 'inner'), 0o500);
    expect(await remove('tree')).toBe(0);
    expect(existsSync(tree)).toBe(false);
    expect(statSync(outside).mode & 0o777).toBe(0o500);
    expect(existsSync(join(outside, 'inner', 'file'))).toBe(true);
    for (const path of [outside, join(outside, 'inner')]) chmodSync(path, 0o700);
  });
});
