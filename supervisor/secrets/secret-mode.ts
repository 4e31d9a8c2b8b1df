/** The supervisor's program as the keeper of the vault: set, ls, rm, rotate. It needs no running
 *  supervisor, which reads the vault anew when it has changed. A value comes on standard input:
 *  arguments and the environment of a process can be read by others. */
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import type { Clock } from '../../base/clock.ts';
import { errorTable, toPrxError } from '../../base/errors.ts';
import type { Random } from '../../base/random.ts';
import { type Environment, findAgent, loadConfig } from '../config.ts';
import { type KeeperDeps, listSecrets, removeSecret, rotateKey, setSecret } from './keeper.ts';

const MODE = 'secret';

const optionsSchema = z.strictObject({
  mode: z.literal(MODE),
  action: z.enum(['set', 'ls', 'rm', 'rotate']),
  config: z.string().optional(),
  stateDir: z.string().optional(),
  name: z.string().default(''),
  agents: z.array(z.string()).default([]),
  ttlMs: z.number().positive().optional(),
});
type Options = z.infer<typeof optionsSchema>;

export interface SecretModeDeps {
  readonly env: Environment;
  readonly clock: Clock;
  readonly random: Random;
}

/** True when the program was started for this. */
export function isSecretMode(argument: unknown): boolean {
  return typeof argument === 'object' && argument !== null && 'mode' in argument
    ? argument.mode === MODE
    : false;
}

/** @returns the answer, one JSON line, and the exit code. */
export function runSecretMode(
  argument: unknown,
  deps: SecretModeDeps,
): { readonly answer: string; readonly exit: number } {
  try {
    const options = optionsSchema.parse(argument);
    const { config } = loadConfig(options, deps.env);
    for (const agent of options.agents) findAgent(config, agent);
    const keeper = { ...deps, stateDir: config.stateDir, settings: config.raw.secrets };
    return { answer: JSON.stringify({ ok: true, ...act(options, keeper) }), exit: 0 };
  } catch (error) {
    const { code, message, data } = toPrxError(error);
    const answer = JSON.stringify({ ok: false, error: { code, message, data } });
    return { answer, exit: errorTable[code].exit };
  }
}

function act({ action, name, agents, ttlMs }: Options, deps: KeeperDeps): object {
  switch (action) {
    case 'set':
      return { secret: setSecret(deps, { name, value: readValue(), agents, ttlMs }) };
    case 'ls':
      return { secrets: listSecrets(deps) };
    case 'rm':
      removeSecret(deps, name);
      return {};
    case 'rotate':
      return { rotated: rotateKey(deps) };
  }
}

const STDIN = 0;

/** Without the line end that most programs put behind what they print. */
function readValue(): Buffer {
  const bytes = readFileSync(STDIN);
  const end = bytes.at(-1) === 0x0a ? (bytes.at(-2) === 0x0d ? -2 : -1) : undefined;
  return bytes.subarray(0, end);
}
