/** Kills our own processes at random under a scripted load, in a scratch folder of its own, and
 *  checks every invariant. This process becomes the chaos program, so that Ctrl-C reaches it. */
import { PrxError } from '../../base/errors.ts';
import { defineCommand } from '../command.ts';
import { becomeOwnProgram } from '../own-programs.ts';

const SECONDS_DEFAULT = 30;
const SECONDS_MIN = 5;
const SECONDS_MAX = 86_400;
const SEED_CHARS_MAX = 64;

export const command = defineCommand({
  build: (yargs) =>
    yargs
      .option('seconds', {
        type: 'number',
        requiresArg: true,
        default: SECONDS_DEFAULT,
        describe: 'How long faults are injected; the checks come after',
      })
      .option('seed', {
        type: 'string',
        requiresArg: true,
        describe: 'Repeat the plan of an earlier run; default: a fresh one, which is printed',
      })
      .example('prx-supervisor chaos --seconds 300', 'five minutes of faults')
      .example('prx-supervisor chaos --seed 4711 --json', 'that plan again, the report as JSON'),
  run: async (context, args) => {
    if (args.stateDir !== undefined) {
      const message = 'chaos works in a scratch folder of its own; leave out --state-dir';
      throw new PrxError('INVALID_REQUEST', message);
    }
    const { seconds, seed } = args;
    if (!Number.isInteger(seconds) || seconds < SECONDS_MIN || seconds > SECONDS_MAX) {
      const message = `--seconds ${seconds} is not a whole number from ${SECONDS_MIN} to ${SECONDS_MAX}`;
      throw new PrxError('INVALID_REQUEST', message);
    }
    if ((seed?.length ?? 0) > SEED_CHARS_MAX) {
      const message = `--seed is longer than ${SEED_CHARS_MAX} characters`;
      throw new PrxError('INVALID_REQUEST', message);
    }
    const options = { seconds, json: context.json, ...(seed === undefined ? {} : { seed }) };
    return becomeOwnProgram(context.machine, 'chaos', [JSON.stringify(options)]);
  },
});
