/** The chaos program: reads its one argument (JSON, from the CLI), runs, prints the report. Exit 0
 *  when every invariant held, 1 when one did not or too little was done, 130 at Ctrl-C. */
import { z } from 'zod';
import { realClock } from '../base/clock.ts';
import { toPrxError } from '../base/errors.ts';
import { realRandom } from '../base/random.ts';
import { renderReport } from './report.ts';
import { runChaos } from './run.ts';

const optionsSchema = z.strictObject({
  seconds: z.number().int().min(5).max(86_400).default(30),
  /** Absent: a fresh one. */
  seed: z.string().min(1).max(64).optional(),
  json: z.boolean().default(false),
});

const EXIT_INTERRUPTED = 130;

async function main(): Promise<number> {
  const options = optionsSchema.parse(JSON.parse(process.argv[2] ?? '{}'));
  const seed = options.seed ?? String(Number.parseInt(realRandom.hex(4), 16));
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stop.abort());
  // Said before anything can go wrong: with it the same run can be had again.
  say(`chaos: seed ${seed}, ${options.seconds} s of faults, then a check of every invariant`);
  const isLive = process.stderr.isTTY === true;
  const report = await runChaos({
    seed,
    seconds: options.seconds,
    clock: realClock,
    random: realRandom,
    here: import.meta.dirname,
    path: process.env['PATH'] ?? '/usr/bin:/bin',
    signal: stop.signal,
    onProgress: (line) => {
      if (isLive) process.stderr.write(`\r\x1b[K${line}`);
    },
  });
  if (isLive) process.stderr.write('\r\x1b[K');
  if (report === undefined) {
    say('chaos: interrupted; everything it made is removed');
    return EXIT_INTERRUPTED;
  }
  process.stdout.write(`${options.json ? JSON.stringify(report) : renderReport(report)}\n`);
  return report.ok ? 0 : 1;
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    const { message, stack } = toPrxError(error);
    say(`chaos: ${message}\n${stack ?? ''}`);
    process.exitCode = 1;
  },
);
