/** `npm run simulate -- --runs N --seed S`: many runs from consecutive seeds. Prints each violation
 *  with its seed and exits with 1 when there is one. `--trace SEED` prints one run. */

import { randomBytes } from 'node:crypto';
import { parseArgs } from 'node:util';
import { realClock } from '../../base/clock.ts';
import { runSeed } from './run.ts';

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '1000' },
    seed: { type: 'string' },
    trace: { type: 'string' },
    verbose: { type: 'boolean', default: false },
  },
});
const print = (line: string): void => void process.stdout.write(`${line}\n`);
async function main(): Promise<void> {
  if (values.trace !== undefined) {
    const report = await runSeed(values.trace);
    for (const line of report.recent) print(line);
    for (const v of report.violations) print(`VIOLATION ${v.check}: ${v.message}`);
    print(`hash ${report.hash} virtual ${report.virtualMs} facts ${report.facts}`);
    return;
  }
  const first = values.seed ?? randomBytes(4).toString('hex');
  const startMs = realClock.nowMs();
  const total = new Map<string, number>();
  let bad = 0;
  const runs = Number(values.runs);
  for (let i = 0; i < runs; i += 1) {
    const seed = `${first}-${i}`;
    const before = realClock.nowMs();
    const report = await runSeed(seed);
    const tookMs = realClock.nowMs() - before;
    if (tookMs > 2000) print(`SLOW ${seed} ${tookMs | 0} ms`);
    for (const [k, n] of report.counts) total.set(k, (total.get(k) ?? 0) + n);
    if (values.verbose) print(`${seed} ${report.hash} ${report.facts} ${report.virtualMs | 0}`);
    if (report.violations.length > 0) {
      bad += 1;
      for (const v of report.violations.slice(0, 3))
        print(`SEED=${seed} ${v.check}: ${v.message.slice(0, 600)}`);
    }
  }
  const s = (realClock.nowMs() - startMs) / 1000;
  print(`${runs} runs, ${bad} with violations, ${(runs / s).toFixed(1)} runs/s`);
  for (const [k, n] of [...total].sort()) print(`  ${k}: ${n}`);
}
void main();
