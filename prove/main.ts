/** Proofs by campaign: `npm run prove -- NAME… [--runs N] [--seed S] [--as-user]`; without a name
 *  all of them. Prints counts and figures; exit 1 when anything promised did not hold. */
import { parseArgs } from 'node:util';
import { realRandom } from '../base/random.ts';
import { describeLoad, describeMachine } from '../bench/machine.ts';
import { orUsage, toCount } from '../bench/usage.ts';
import { bombs } from './bombs.ts';
import { interrupt } from './interrupt.ts';
import { killsBelowHost } from './kills-below-host.ts';
import type { Proof } from './proof.ts';
import { isHeld, toText } from './report.ts';
import { stop } from './stop.ts';
import { supervisorKills } from './supervisor-kills.ts';

const PROOFS: readonly Proof[] = [killsBelowHost, supervisorKills, interrupt, stop, bombs];

const NAMES = PROOFS.map(({ name }) => name).join(' ');
const USAGE = `npm run prove -- [NAME…] [--runs N] [--seed S] [--as-user]; names: ${NAMES}`;

function readArguments(args: readonly string[]) {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      runs: { type: 'string' },
      seed: { type: 'string' },
      'as-user': { type: 'boolean', default: false },
    },
  });
  const unknown = positionals.find((name) => PROOFS.every((proof) => proof.name !== name));
  if (unknown !== undefined) throw new RangeError(`there is no proof '${unknown}'`);
  const runs = values.runs === undefined ? undefined : toCount('--runs', values.runs);
  return { values, positionals, runs };
}

async function main(args: readonly string[]): Promise<void> {
  const { values, positionals, runs } = orUsage(USAGE, () => readArguments(args));
  // Whatever is open clears up when the process exits.
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => process.exit(130));
  const seed = values.seed ?? realRandom.hex(6);
  const user = values['as-user'] ? ', supervisor as an unprivileged user' : '';
  say(`${describeMachine()}${user}\nseed ${seed}\n${describeLoad()} at the start\n`);
  for (const proof of PROOFS) {
    if (positionals.length > 0 && !positionals.includes(proof.name)) continue;
    const outcome = await proof.run({
      runs: runs ?? proof.runs,
      seed,
      asUser: values['as-user'],
      onProgress: (line) => process.stderr.write(`  … ${line}\n`),
    });
    say(`\n${toText(proof, outcome)}`);
    if (!isHeld(outcome)) process.exitCode = 1;
  }
  say(`\n${describeLoad()} at the end\n`);
}

function say(text: string): void {
  process.stdout.write(text);
}

main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`prove: ${error instanceof Error ? error.stack : String(error)}\n`);
  process.exitCode = 1;
});
