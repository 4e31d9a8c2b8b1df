/** The tours of README.md and docs/tour.md, run: each command of the blocks marked `sh tour`, in
 *  order, in one shell each, with the real programs and the offline model. A `text` block right
 *  behind a command's block is what it prints: its lines must come in this order, with … for
 *  anything. */
import { copyFileSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LLMock } from '@copilotkit/aimock';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { findBlocks, readText, root } from './markdown.ts';
import { type Clone, type CommandResult, createClone } from './shell.ts';

interface Step {
  readonly command: string;
  /** Lines that the output must have; empty: any output. */
  readonly shown: readonly string[];
}

const steps = findSteps(readText('README.md'));
const longSteps = findSteps(readText('docs/tour.md'));
let clone: Clone;

beforeAll(async () => {
  clone = await createClone();
});

afterAll(() => {
  clone.remove();
});

describe('README.md', () => {
  test('has a tour', () => {
    expect(steps.length).toBeGreaterThan(10);
    expect(steps.filter((step) => step.shown.length > 0).length).toBeGreaterThan(3);
  });

  test('each command of the tour does what is shown', async () => {
    const results = await clone.run(steps.map((step) => step.command));
    expect(results.map(toFailure)).toEqual(results.map(() => undefined));
    expect(results.map((result, index) => toDifference(result, steps[index]?.shown))).toEqual(
      results.map(() => undefined),
    );
    const journal = results.find(({ command }) => command.includes('--type model.started'));
    expect(journal?.output.match(/"model\.\w+"/g)).toEqual([
      '"model.started"',
      '"model.completed"',
    ]);
    await untilNothingRuns();
    expect(clone.leftovers()).toEqual([]);
  });
});

describe('docs/tour.md', () => {
  test('each command of the ten minutes does what is shown', async () => {
    // A home of its own: both tours call their session demo.
    const own = await createClone();
    try {
      const results = await own.run(longSteps.map((step) => step.command));
      expect(results.map(toFailure)).toEqual(results.map(() => undefined));
      expect(results.map((result, at) => toDifference(result, longSteps[at]?.shown))).toEqual(
        results.map(() => undefined),
      );
    } finally {
      own.remove();
    }
  });

  test('its pictures are there, light enough, and none is left over', () => {
    const folder = join(root, 'docs', 'images');
    const shown = [...readText('docs/tour.md').matchAll(/\(images\/([\w-]+\.png)\)/g)].map(
      ([, name = '']) => name,
    );
    expect(shown.length).toBeGreaterThan(5);
    expect(readdirSync(folder).sort()).toEqual([...shown].sort());
    const sizes = shown.map((name) => statSync(join(folder, name)).size);
    expect(sizes.filter((size) => size > 100_000)).toEqual([]);
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(1_000_000);
  });
});

describe('examples/', () => {
  test('curl.sh talks to a session from its creation to its removal', async () => {
    const results = await clone.run([
      'export PATH="$PWD/bin:$PATH"',
      'prx-supervisor start --detach',
      `examples/curl.sh '!echo "from curl"'`,
      'prx-supervisor ps --all',
      'prx-supervisor stop',
    ]);
    expect(results.map(toFailure)).toEqual(results.map(() => undefined));
    const [, , talk, sessions] = results;
    expect(talk?.output).toContain('from curl\\n');
    expect(talk?.output).toMatch(/^removed s_[0-9a-f]{16}$/m);
    expect(sessions?.output).not.toContain('curl-example');
  });

  test('openai-compatible.toml connects to a server of that API', async () => {
    const mock = await LLMock.create({ port: 0 });
    mock.on({ userMessage: 'hello' }, { content: 'Hello from the model server.' });
    const file = join(clone.dir, 'with-port.toml');
    const { port } = new URL(mock.url);
    copyFileSync(join(clone.dir, 'examples', 'openai-compatible.toml'), file);
    writeFileSync(file, readFileSync(file, 'utf8').replace(':8080/', `:${port}/`));
    try {
      const results = await clone.run([
        'export PATH="$PWD/bin:$PATH"',
        'prx-supervisor config check --config examples/openai-compatible.toml',
        'prx-supervisor start --detach --config with-port.toml',
        'mkdir work && cd work && prx-supervisor run hello',
        'prx-supervisor stop',
      ]);
      expect(results.map(toFailure)).toEqual(results.map(() => undefined));
      expect(results[2]?.output).toContain('model local-model');
      expect(results[3]?.output).toContain('Hello from the model server.');
    } finally {
      await mock.stop();
    }
  });
});

describe('examples/custom-tools.toml', () => {
  test('has a tool of its own, called without a network or a key', async () => {
    const results = await clone.run([
      'export PATH="$PWD/bin:$PATH"',
      'prx-supervisor start --detach --config examples/custom-tools.toml',
      'prx-supervisor status',
      'mkdir -p counted && cd counted && echo "one two three" > a.txt',
      `prx-supervisor run '@custom__word_count {"path":"a.txt","longest":true}'`,
      `prx-supervisor run '@custom__word_count {"file":"a.txt"}'`,
      'prx-supervisor stop',
    ]);
    expect(results.map(toFailure)).toEqual(results.map(() => undefined));
    expect(results[2]?.output).toMatch(/^tool file: +custom__word_count \(read\) from /m);
    expect(results[4]?.output).toContain('{"lines":1,"words":3,"longest":"three"}');
    expect(results[5]?.output).toContain('Unrecognized key: "file"');
  });
});

/** The programs outlive `stop` by a moment: a look at the outside world is polled, with a bound. */
async function untilNothingRuns(): Promise<void> {
  for (let left = 300; left > 0 && clone.leftovers().length > 0; left -= 1) {
    await new Promise((resolve) => {
      setTimeout(resolve, 10);
    });
  }
}

function findSteps(text: string): Step[] {
  const blocks = findBlocks(text);
  return blocks.flatMap((block, index) => {
    if (block.info !== 'sh tour') return [];
    const commands = toCommands(block.lines);
    const next = blocks[index + 1];
    const isOutput = next?.info === 'text' && next.line <= block.line + block.lines.length + 3;
    const shown = isOutput ? next.lines : [];
    return commands.map((command, at) => ({
      command,
      shown: at === commands.length - 1 ? shown : [],
    }));
  });
}

/** One command a line; a backslash at its end goes on in the next. */
function toCommands(lines: readonly string[]): string[] {
  const joined = lines.join('\n').replaceAll('\\\n', '');
  return joined.split('\n').filter((line) => line.trim() !== '');
}

function toFailure({ command, exitCode, output }: CommandResult): string | undefined {
  return exitCode === 0 ? undefined : `${command} → ${exitCode}\n${output}`;
}

/** What is shown and not printed, or undefined. */
function toDifference(result: CommandResult, shown: readonly string[] = []): string | undefined {
  let left = result.output.split('\n');
  for (const line of shown) {
    const pattern = new RegExp(`^${line.split('…').map(escapePattern).join('.*')}$`);
    const at = left.findIndex((printed) => pattern.test(printed.trimEnd()));
    if (at < 0) return `${result.command} does not print: ${line}\nit prints:\n${result.output}`;
    left = left.slice(at + 1);
  }
  return undefined;
}

function escapePattern(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
