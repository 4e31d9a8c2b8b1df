/** What yargs finds wrong with a command line, in sentences that name what is meant: it counts
 *  arguments and lays its values out over lines. A sentence that is not known here stays its own.
 *  Pure. */

export interface Declared {
  /** How the command is written, as in `rename <id> <name>`. */
  readonly usage: string;
  readonly choices: Readonly<Record<string, readonly unknown[]>>;
}

export function toUsageSentence(message: string, declared: Declared): string {
  const [, got] = /^Not enough non-option arguments: got (\d+)/.exec(message) ?? [];
  if (got !== undefined) return toMissing(Number(got), declared) ?? message;
  const [, option] = /^Not enough arguments following: (\S+)/.exec(message) ?? [];
  if (option !== undefined) return `${toFlag(option)} needs a value`;
  const [, name, given] = /^ *Argument: (\S+), Given: (.*), Choices: /m.exec(message) ?? [];
  if (name === undefined) return message;
  return `${toArgument(name, declared.usage)} is ${given}; it takes ${toList(declared.choices[name] ?? [])}`;
}

function toMissing(gotCount: number, { usage, choices }: Declared): string | undefined {
  const required = usage.match(/<[^>]+>/g)?.slice(gotCount) ?? [];
  if (required.length === 0) return undefined;
  const verb = required.length === 1 ? 'is' : 'are';
  const [first = ''] = required;
  const known = choices[first.slice(1, -1)] ?? [];
  const may = known.length === 0 ? '' : ` (it takes ${toList(known)})`;
  return `${required.join(' and ')} ${verb} missing${may}`;
}

/** As a person writes it: `<id>`, `-n`, `--since`. */
export function toArgument(name: string, usage: string): string {
  const isPositional = new RegExp(`[<[]${name}(\\.\\.)?[>\\]]`).test(usage);
  return isPositional ? `<${name}>` : toFlag(name);
}

function toFlag(name: string): string {
  return name.length === 1 ? `-${name}` : `--${name}`;
}

/** a, b or c */
function toList(values: readonly unknown[]): string {
  const words = values.map(String);
  const last = words.at(-1) ?? '';
  return words.length < 2 ? last : `${words.slice(0, -1).join(', ')} or ${last}`;
}
