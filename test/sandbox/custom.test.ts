/** The user's own tools, with real files in real sandboxes: what is taken from a file, what a call
 *  is given, and that one that misbehaves costs nobody else anything. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { realClock } from '../../base/clock.ts';
import type { SandboxPolicy } from '../../protocol/sandbox-methods.ts';
import { openToolFolder, type ToolFolder, toTool } from './custom-harness.ts';
import { hasBubblewrap, isRoot, startTestHost, type TestHost } from './harness.ts';

// Threads are started and filled while other work runs beside.

const OTHER_UID = 61_015;
const MIB = 2 ** 20;
const users = isRoot ? [undefined, OTHER_UID] : [undefined];
const on = hasBubblewrap ? describe : describe.skip;

const spin = 'for (;;);';
const fill = 'const all = []; for (;;) all.push(new Array(1e6).fill(input));';
const untilFile = (name: string): string =>
  `while (!existsSync(join(workspace, '${name}'))) await new Promise((go) => setTimeout(go, 5));`;
const paths = `import { existsSync } from 'node:fs'; import { join } from 'node:path';`;

const good = {
  'count.ts': `
    import type { Words } from './_words.ts';
    import { split } from './_words.ts';
    import { z } from 'zod';
    import { defineTool } from 'prx-supervisor/tools';
    export default defineTool({
      name: 'count', description: 'Counts words.', effect: 'idempotent',
      schema: z.strictObject({ text: z.string().min(3), times: z.number().int().default(1) }),
      run: ({ text, times }): Words => ({ words: split(text).length * times }),
    });`,
  '_words.ts': `
    export interface Words { words: number }
    export const split = (text: string): string[] => text.split(' ');`,
  'echo.ts': toTool('echo', 'return input.text;'),
  'place.ts': toTool(
    'place',
    `writeFileSync(workspace + '/made', 'x'); log('one'); console.log('two %d', 2);
     let own = 'writable'; try { writeFileSync(new URL(import.meta.url), ''); } catch (error) { own = error.code; }
     return { cwd: process.cwd() === workspace, own };`,
  ),
  'throw.ts': toTool('throw', `throw new Error('no such word');`),
  'cycle.ts': toTool('cycle', 'const a = {}; a.a = a; return a;'),
  'exit.ts': toTool('exit', 'process.exit(0);'),
  'stray.ts': toTool(
    'stray',
    `setTimeout(() => { throw new Error('stray'); }); await new Promise(() => setInterval(() => {}, 1000));`,
  ),
  'spin.ts': toTool('spin', `writeFileSync(workspace + '/spins', ''); ${spin}`),
  'fill.ts': toTool('fill', `writeFileSync(workspace + '/fills', ''); ${fill}`),
  'buffers.ts': toTool('buffers', 'const all = []; for (;;) all.push(Buffer.alloc(8 << 20, 1));'),
  'large.ts': toTool('large', 'const map = new Map(); for (let i = 0; ; i += 1) map.set(i, {});'),
  'wait.ts': toTool('wait', `${untilFile('go')} return 'waited';`, paths),
  'polite.ts': toTool(
    'polite',
    `writeFileSync(workspace + '/waits', '');
     await new Promise((stop) => signal.addEventListener('abort', stop));
     writeFileSync(workspace + '/stopped', signal.reason.message); return 'stopped';`,
  ),
  'kill.ts': toTool('kill', `process.kill(process.pid, 'SIGKILL'); ${spin}`),
  'forge.ts': toTool(
    'forge',
    `(await import('node:fs')).writeSync(1, 'Content-Length: 2\\r\\n\\r\\n{}'); ${spin}`,
  ),
  'long.ts': toTool('long', `return 'x'.repeat(200_000) + 'end';`),
  'pollute.ts': toTool(
    'pollute',
    `const seen = globalThis.seen ?? 0; globalThis.seen = 1; Array.prototype.map = () => ['poison']; return String(seen);`,
  ),
  'leave.ts': toTool(
    'leave',
    `spawn('sleep', ['1000'], { detached: true, stdio: 'ignore' }).unref(); return 'left';`,
    `import { spawn } from 'node:child_process';`,
  ),
  'list.ts': toTool(
    'list',
    `return readdirSync('/proc').filter((name) => /^[0-9]+$/.test(name)).map((pid) => readFileSync('/proc/' + pid + '/cmdline', 'latin1')).join(' ');`,
    `import { readdirSync } from 'node:fs';`,
  ),
  'hook.ts': toTool('hook', `writeFileSync(workspace + '/.envrc', 'echo hi'); return 'written';`),
};

const bad: readonly (readonly [name: string, text: string, problem: RegExp])[] = [
  ['syntax.ts', 'export default {', /Expression expected|Unexpected/],
  ['empty.ts', 'export const x = 1;', /no default export; write: export default defineTool/],
  ['name.ts', toTool('a b', ''), /its tool: name: a letter, then letters/],
  ['shape.ts', 'export default { name: "x" };', /description: .*; effect: .*; run: is no function/],
  [
    'schema.ts',
    'export default { name: "x", description: "x", effect: "read", schema: {}, run() {} };',
    /its tool: schema: is no object schema of zod 4/,
  ],
  [
    'effect.ts',
    toTool('effect', '').replace(`effect: 'read'`, `effect: 'none'`),
    /effect: Invalid option: expected one of "read"\|"idempotent"\|"write"/,
  ],
  [
    'date.ts',
    toTool('date', '').replace(`z.string().default('')`, 'z.date()'),
    /Date cannot be represented in JSON Schema/,
  ],
  [
    'huge.ts',
    toTool('huge', '').replace('z.string()', `z.string().describe('x'.repeat(40_000))`),
    /its schema has \d+ bytes as JSON, limit 32768/,
  ],
  ['throws.ts', 'throw new Error("at once");', /^at once$/],
  ['import.ts', 'import "nowhere-at-all"; export default 1;', /nowhere-at-all/],
  ['loop.ts', spin, /did not end within 4 s and was stopped/],
  ['bomb.ts', `const input = 1; ${fill}`, /more than 64 MiB of heap/],
  ['exits.ts', 'process.exit(1)', /ended without a result/],
  ['kills.ts', 'process.kill(process.pid, "SIGKILL")', /its process ended while it was read/],
];

on.each(users)('the file of a custom tool (uid %s)', (uid) => {
  let tools: ToolFolder;
  const own = uid === undefined ? {} : { uid };
  beforeAll(async () => {
    const texts = Object.fromEntries(bad.map(([name, text]) => [name, text]));
    const last = toTool('zz', `return 'fine'`);
    tools = await openToolFolder({ ...texts, 'zz.ts': last }, { ...own, timeoutMs: 4_000 });
  });
  afterAll(() => tools.close());

  test.each(bad)('%s is refused with the reason', (name, _, problem) => {
    expect(tools.said.get(name)).toEqual({
      kind: 'refused',
      problem: expect.stringMatching(problem),
    });
  });

  test('does not suffer from its neighbours', () => {
    expect(tools.said.get('zz.ts')).toEqual({
      kind: 'tool',
      name: 'zz',
      description: 'A tool of a test.',
      effect: 'read',
      parameters: {
        type: 'object',
        properties: { text: { type: 'string', default: '' } },
      },
      digest: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
  });
});

on.each(users)('a call of a custom tool (uid %s)', (uid) => {
  let tools: ToolFolder;
  let host: TestHost;
  const own = uid === undefined ? {} : { uid };
  beforeAll(async () => {
    tools = await openToolFolder(good, own);
  });
  afterAll(() => tools.close());
  afterEach(() => host.close());

  async function start(policy: Partial<SandboxPolicy> = {}): Promise<TestHost> {
    host = await startTestHost({ policy: { custom: tools.custom, ...policy }, ...own });
    await host.initialize();
    return host;
  }
  const call = (name: string, args: unknown = {}, effect?: string) =>
    host.run(`custom__${name}`, args, effect);

  /** Written by a tool. */
  async function appears(name: string): Promise<void> {
    while (!existsSync(join(host.workspace, name))) await realClock.sleep(5);
  }

  test('has its input as its schema makes it, and gives JSON', async () => {
    await start();
    const outcome = await call('count', { text: 'one two three' });
    expect(outcome).toMatchObject({ status: 'ok', output: '{"words":3}', truncated: false });
    expect(outcome.level).toBe('bubblewrap');
    expect(host.readSpool('1.1.1').at(-1)?.value).toMatchObject({ kind: 'end' });
  });

  test('with arguments that do not fit is told what to do, before anything runs', async () => {
    await start();
    const output =
      'The arguments do not fit: text: Too small: expected string to have >=3 characters; times: Invalid input: expected number, received string; arguments: Unrecognized key: "more". Correct them and call again.';
    const args = { text: 'a', times: 'b', more: 1 };
    expect(await call('count', args)).toMatchObject({ status: 'error', output });
    const params = { tool: 'custom__count', arguments: args };
    const options = { timeoutMs: 120_000 };
    const asked = await host.connection.request('tool/check', params, options);
    expect(asked).toEqual({ problem: output });
    const fit = { ...params, arguments: { text: 'abc' } };
    expect(await host.connection.request('tool/check', fit, options)).toEqual({});
  });

  test('works in the workspace, logs to who watches, and cannot write its own file', async () => {
    await start();
    const outcome = await call('place');
    expect(outcome).toMatchObject({ status: 'ok', output: '{"cwd":true,"own":"EROFS"}' });
    expect(readFileSync(join(host.workspace, 'made'), 'utf8')).toBe('x');
    expect(host.outputs.map(({ text }) => text).join('')).toBe('one\ntwo 2\n');
  });

  test.each([
    ['throw', 'The tool failed: no such word'],
    ['cycle', 'The tool ran, and returned what is no JSON: a object.'],
    ['exit', 'It ended without a result: worker exited with code: 0. Whether'],
    ['stray', 'It ended without a result: stray. Whether'],
  ])('that ends badly (%s) says how', async (name, output) => {
    await start();
    const outcome = await call(name);
    expect(outcome).toMatchObject({ status: 'error', output: expect.stringContaining(output) });
    expect(await call('echo', { text: 'next' })).toMatchObject({ status: 'ok', output: 'next' });
  });

  test('that spins is ended at its time, and another one goes on beside it', async () => {
    await start({ timeoutMs: 5000 });
    const spinning = call('spin');
    await appears('spins');
    expect(await call('echo', { text: 'beside' })).toMatchObject({ output: 'beside' });
    expect(await spinning).toMatchObject({
      status: 'timeout',
      output: expect.stringContaining('did not end within 5 s and was stopped'),
      exceeded: { limit: 'timeout_secs', value: 5, max: 5 },
    });
  });

  test('that asks for more than its heap at once is ended alone, with its process', async () => {
    await start({ timeoutMs: 120_000 });
    const waiting = call('wait');
    // A table that doubles: the thread cannot answer, so the runtime ends the process.
    expect(await call('large')).toMatchObject({ status: 'memory' });
    writeFileSync(join(host.workspace, 'go'), '');
    expect(await waiting).toMatchObject({ status: 'ok', output: 'waited' });
  });

  test('that fills its heap is ended alone', async () => {
    await start({ timeoutMs: 120_000 });
    const waiting = call('wait');
    expect(await call('fill')).toMatchObject({
      status: 'memory',
      output: expect.stringContaining('more than 64 MiB of heap (custom_tools.memory_limit_mb)'),
      exceeded: { limit: 'custom_tools.memory_limit_mb', value: 64, max: 64 },
    });
    writeFileSync(join(host.workspace, 'go'), '');
    expect(await waiting).toMatchObject({ status: 'ok', output: 'waited' });
  });

  test('that uses memory beyond its heap is ended with its process, by name', async () => {
    await start({ memoryLimitBytes: 320 * MIB, timeoutMs: 120_000 });
    expect(await call('buffers')).toMatchObject({
      status: 'memory',
      output: expect.stringMatching(/MiB of memory; the limit is 320 MiB/),
      exceeded: { limit: 'memory_limit_mb', max: 320 },
    });
    expect(await call('echo', { text: 'again' })).toMatchObject({ output: 'again' });
  });

  test('that is cancelled hears it, and can put things in order', async () => {
    await start();
    const running = call('polite', {}, '1.1.7');
    await appears('waits');
    await host.cancel('1.1.7');
    expect(await running).toMatchObject({ status: 'cancelled' });
    expect(readFileSync(join(host.workspace, 'stopped'), 'utf8')).toBe('the call was cancelled');
  });

  test('that is cancelled and does not hear is ended', async () => {
    await start({ timeoutMs: 600_000 });
    const running = call('spin', {}, '1.1.7');
    await appears('spins');
    await host.cancel('1.1.7');
    expect(await running).toMatchObject({ status: 'cancelled' });
  });

  test.each(['kill', 'forge'])(
    'whose process ends under it (%s) is indeterminate, and the next one has another',
    async (name) => {
      await start();
      const beside = call('wait');
      expect(await call(name)).toMatchObject({
        status: 'indeterminate',
        output: expect.stringContaining('whether it had its effect is not known'),
      });
      writeFileSync(join(host.workspace, 'go'), '');
      expect(await beside).toMatchObject({ status: 'ok', output: 'waited' });
      expect(await call('echo', { text: 'next' })).toMatchObject({ status: 'ok', output: 'next' });
    },
  );

  test('with a long answer keeps the whole of it as an artifact', async () => {
    await start({ maxOutputBytes: 4096 });
    const outcome = await call('long');
    expect(outcome).toMatchObject({ status: 'ok', truncated: true, artifact: 'tool-1.1.1' });
    expect(outcome.output.length).toBeLessThan(5000);
    expect(readFileSync(join(host.artifactDir, 'tool-1.1.1'), 'utf8')).toHaveLength(200_003);
  });

  test('finds nothing of the call before it', async () => {
    await start();
    expect(await call('pollute')).toMatchObject({ output: '0' });
    expect(await call('pollute')).toMatchObject({ output: '0' });
  });

  test('leaves no process behind', async () => {
    await start();
    expect(await call('leave')).toMatchObject({ status: 'ok', output: 'left' });
    const { output } = await call('list');
    expect(output).toMatch(/run\/prx\/.*custom/);
    expect(output).not.toContain('1000');
  });

  test('cannot plant what somebody else would start', async () => {
    await start();
    const outcome = await call('hook');
    expect(outcome.output).toMatch(/written\n\[Put aside, .*\.envrc is now \.envrc\.withheld-/);
    expect(existsSync(join(host.workspace, '.envrc'))).toBe(false);
  });

  test('of a tool that the session has not is refused', async () => {
    await start({ custom: { ...tools.custom, tools: tools.custom.tools.slice(0, 1) } });
    expect(await call('echo')).toMatchObject({
      status: 'error',
      output: 'There is no custom tool "custom__echo" here any more; there are: custom__buffers.',
    });
  });
});

on('a tool file that was changed since it was read', () => {
  test.each([
    ['itself', 'count.ts'],
    ['what it imports', '_words.ts'],
  ])('does not run: %s', async (_, name) => {
    const texts = { 'count.ts': good['count.ts'], '_words.ts': good['_words.ts'] };
    const tools = await openToolFolder(texts);
    const host = await startTestHost({ policy: { custom: tools.custom } });
    try {
      await host.initialize();
      const args = { text: 'one two' };
      expect(await host.run('custom__count', args)).toMatchObject({ status: 'ok' });
      tools.write(name, `${texts[name as keyof typeof texts]}\n// another version\n`);
      expect(await host.run('custom__count', args)).toMatchObject({
        status: 'error',
        output: expect.stringContaining('The file of this tool was changed; nothing ran.'),
      });
    } finally {
      await host.close();
      tools.close();
    }
  });

  test('cannot be changed by an agent in whose workspace it lies', async () => {
    const tools = await openToolFolder({ 'echo.ts': good['echo.ts'] });
    const host = await startTestHost({
      policy: {
        custom: tools.custom,
        workspace: join(tools.folder, '..'),
        protectedPaths: [tools.folder],
      },
    });
    try {
      mkdirSync(join(tools.folder, '..', 'more'));
      await host.initialize();
      const outcome = await host.shell('echo x > more/x && echo x > tools/echo.ts');
      expect(outcome).toMatchObject({ status: 'error' });
      expect(outcome.output).toMatch(/Read-only file system/);
      expect(await host.run('custom__echo', { text: 'same' })).toMatchObject({ output: 'same' });
    } finally {
      await host.close();
      tools.close();
    }
  });
});
