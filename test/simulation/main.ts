/** `npm run simulate -- --runs N --seed S --jobs J`: many simulated runs. Prints each violation
 *  with its seed, then what was done, and exits with 1 when a promise was broken. `--strike FAULT`:
 *  the runs are calm, and each is run again for every instant in which this fault can strike.
 *  `--trace SEED` shows one run, fact by fact. Without --seed the seeds are fresh. */
import { writeSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { realClock } from '../../base/clock.ts';
import { realRandom } from '../../base/random.ts';
import { orUsage, toCount } from '../../bench/usage.ts';
import { type CampaignLine, type RunEnd, runCampaign, runShare } from './campaign.ts';
import type { Fact } from './facts.ts';
import { faultKinds } from './faults.ts';
import { runSeed, type Strike } from './run.ts';

const TEXT_CHARS_MAX = 600;

const print = (line: string): void => void writeSync(1, `${line}\n`);

const USAGE =
  'npm run simulate -- [--runs N] [--seed S] [--jobs J] [--strike FAULT], ' +
  'or --trace SEED [--strike FAULT --at FACT.PROMISES]';

const values = orUsage(USAGE, () => {
  const { values: read } = parseArgs({
    options: {
      runs: { type: 'string', default: '1000' },
      seed: { type: 'string', default: realRandom.hex(4) },
      jobs: { type: 'string', default: '2' },
      strike: { type: 'string' },
      trace: { type: 'string' },
      at: { type: 'string', default: '1.0' },
      /** Of a campaign's own process: first:step:runs. */
      share: { type: 'string' },
    },
  });
  const fault = faultKinds.find((kind) => kind === read.strike);
  if (fault === undefined && read.strike !== undefined) {
    throw new RangeError(`there is no fault '${read.strike}': ${faultKinds.join(', ')}`);
  }
  if (!/^\d+(\.\d+)?$/.test(read.at)) {
    throw new RangeError(`--at is '${read.at}'; it takes FACT.PROMISES, such as 17.1`);
  }
  const counts = { runs: toCount('--runs', read.runs), jobs: toCount('--jobs', read.jobs) };
  const { strike: _, ...others } = read;
  return { ...others, ...counts, ...(fault === undefined ? {} : { strike: fault }) };
});

function readStrike(): Strike | undefined {
  if (values.strike === undefined) return undefined;
  const [fact = 1, promises = 0] = values.at.split('.').map(Number);
  return { fault: values.strike, fact, promises };
}

async function trace(seed: string): Promise<number> {
  // Written as it happens: a run that hangs shows where.
  const onFact = (fact: Fact): void => {
    const line = JSON.stringify(fact, (key, value: unknown) =>
      key === 'messages' ? undefined : value,
    );
    print(line.slice(0, TEXT_CHARS_MAX));
  };
  const strike = readStrike();
  const options = { onFact, ...(strike === undefined ? {} : { strike }) };
  const { violations, hash, virtualMs } = await runSeed(seed, options);
  for (const { check, message } of violations) print(`SEED=${seed} ${check}: ${message}`);
  print(`hash ${hash}, ${Math.round(virtualMs)} virtual ms`);
  return violations.length;
}

async function share(range: string): Promise<number> {
  // Nobody reads them here, and to make them costs a tenth of the time.
  Error.stackTraceLimit = 0;
  const [first = 0, step = 1, runs = 0] = range.split(':').map(Number);
  const say = (line: CampaignLine): void => print(JSON.stringify(line));
  const { seed, strike } = values;
  await runShare({ seed, first, step, runs, ...(strike ? { strike } : {}) }, say);
  return 0;
}

async function campaign(): Promise<number> {
  const startedMs = realClock.nowMs();
  const { seed: own, runs, jobs, strike } = values;
  const spec = { seed: own, runs, jobs, ...(strike ? { strike } : {}) };
  const onRun = ({ seed, violations }: RunEnd): void => {
    for (const { check, message } of violations) {
      print(`SEED=${seed} ${check}: ${message.slice(0, TEXT_CHARS_MAX)}`);
    }
  };
  const totals = await runCampaign(spec, import.meta.filename, onRun);
  const seconds = (realClock.nowMs() - startedMs) / 1000;
  const rate = (totals.runs / seconds).toFixed(1);
  for (const [what, count] of [...totals.counts].sort())
    print(`${String(count).padStart(9)} ${what}`);
  print(
    `${totals.runs} runs from ${spec.seed}-0 on, ${totals.failed} broke a promise; ${rate} runs/s`,
  );
  return totals.failed;
}

async function main(): Promise<void> {
  const broken =
    values.trace !== undefined
      ? await trace(values.trace)
      : values.share !== undefined
        ? await share(values.share)
        : await campaign();
  process.exitCode = broken > 0 ? 1 : 0;
}

void main();
