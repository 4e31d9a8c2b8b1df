/** `npm run mutate [-- --only ID] [--jobs N]`: takes the lines that carry the invariants away, one
 *  at a time, and looks whether the test that is named for it notices. Exit 1 when one survives,
 *  or when nothing can be said of it. */
import { writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { parseArgs } from 'node:util';
import { orUsage, toCount } from '../../bench/usage.ts';
import { mutations } from './all.ts';
import { describeFinder } from './mutation.ts';
import { type Result, work } from './run.ts';

const values = orUsage('npm run mutate -- [--only ID] [--jobs N]', () => {
  const { values: read } = parseArgs({
    options: {
      /** An id, or the beginning of some: `7.` is all of the seventh invariant. */
      only: { type: 'string', default: '' },
      jobs: { type: 'string', default: '2' },
    },
  });
  const chosen = mutations.filter(({ id }) => id.startsWith(read.only));
  if (chosen.length === 0) throw new RangeError(`no mutation has an id beginning '${read.only}'`);
  return { chosen, jobs: toCount('--jobs', read.jobs) };
});

const print = (line: string): void => void writeSync(1, `${line}\n`);

async function main(): Promise<void> {
  const { chosen } = values;
  const waiting = [...chosen];
  const results: Result[] = [];
  const onResult = (result: Result): void => {
    const { mutation, verdict, detail } = result;
    results.push(result);
    print(`${verdict.padEnd(14)} ${mutation.id}  ${describeFinder(mutation.finder)}`);
    print(`${' '.repeat(15)}${detail.replaceAll('\n', ' ').slice(0, 300)}`);
  };
  const root = dirname(dirname(import.meta.dirname));
  const env = Object.fromEntries(
    Object.entries(process.env).flatMap(([name, value]) =>
      value === undefined ? [] : [[name, value]],
    ),
  );
  const jobs = Array.from({ length: values.jobs }, () =>
    work({ root, env }, () => waiting.shift(), onResult),
  );
  await Promise.all(jobs);
  const found = results.filter(({ verdict }) => verdict === 'found').length;
  print(`${found} of ${chosen.length} found`);
  process.exitCode = found === chosen.length && found > 0 ? 0 : 1;
}

void main();
