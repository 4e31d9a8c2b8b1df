/** Prints the figures, all or the named ones: `npm run bench -- token tool`. `--quick`: few rounds,
 *  to see that it works. `--markdown`: the table of docs/benchmarks.md. */
import { approvals } from './approvals.ts';
import { boot } from './boot.ts';
import { call } from './call.ts';
import { create } from './create.ts';
import type { Figure } from './figure.ts';
import { hibernate } from './hibernate.ts';
import { http } from './http.ts';
import { createLab } from './lab.ts';
import { load } from './load.ts';
import { describeLoad, describeMachine } from './machine.ts';
import { memory } from './memory.ts';
import { page } from './page.ts';
import { prompt } from './prompt.ts';
import { ps } from './ps.ts';
import { type Section, toMarkdown, toText } from './report.ts';
import { restarts } from './restarts.ts';
import { revive } from './revive.ts';
import { sseMany } from './sse-many.ts';
import { sseMemory } from './sse-memory.ts';
import { start } from './start.ts';
import { storm } from './storm.ts';
import { token } from './token.ts';
import { tool } from './tool.ts';
import { orUsage } from './usage.ts';
import { wake } from './wake.ts';
import { websockets } from './websockets.ts';
import { workerStart } from './worker-start.ts';

const FIGURES: readonly Figure[] = [
  ...[workerStart, prompt, token, tool, call, start, memory, ps, load],
  ...[create, revive, wake, hibernate, approvals, boot, storm, restarts, sseMany, http, page],
  ...[sseMemory, websockets],
];
const FLAGS = ['--quick', '--markdown'];

const NAMES = FIGURES.map(({ name }) => name).join(' ');
const USAGE = `npm run bench -- [NAME…] [${FLAGS.join('] [')}]; names: ${NAMES}`;

function readNames(args: readonly string[]): readonly string[] {
  const names = args.filter((arg) => !FLAGS.includes(arg));
  const unknown = names.find((name) => FIGURES.every((figure) => figure.name !== name));
  if (unknown !== undefined) throw new RangeError(`there is no figure or option '${unknown}'`);
  return names;
}

async function main(args: readonly string[]): Promise<void> {
  const names = orUsage(USAGE, () => readNames(args));
  const isMarkdown = args.includes('--markdown');
  const say = (text: string): void => {
    (isMarkdown ? process.stderr : process.stdout).write(text);
  };
  const machine = `${describeMachine()}\n${describeLoad()} at the start`;
  say(`${machine}\n`);
  const lab = createLab(args.includes('--quick'));
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => void lab.close().then(() => process.exit(130)));
  }
  const sections: Section[] = [];
  try {
    for (const figure of FIGURES) {
      if (names.length > 0 && !names.includes(figure.name)) continue;
      const section = await figure.run(lab);
      sections.push(section);
      say(`\n${toText(section)}`);
    }
  } finally {
    await lab.close();
  }
  say(`\n${describeLoad()} at the end\n`);
  if (!isMarkdown) return;
  const lines = `${machine}; ${describeLoad()} at the end`.replace('\n', '; ');
  process.stdout.write(`${lines}\n\n${toMarkdown(sections)}`);
}

main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`bench: ${error instanceof Error ? error.stack : String(error)}\n`);
  process.exitCode = 1;
});
