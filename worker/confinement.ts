/** What a worker can tell of its own confinement: what its starter says it put around it, and
 *  what the runtime itself refuses it. */

/** The part of `process` this needs. */
export interface Confined {
  readonly argv: readonly string[];
  readonly permission?: { has(scope: string): boolean } | undefined;
}

const STARTER_FLAG = '--confinement=';
const NAME = /^[a-z0-9-]{1,40}$/;
/** `permission-model` is claimed only if all of these are denied. */
const DENIED_SCOPES = ['fs.write', 'child', 'worker', 'net'] as const;

/** Names, sorted, without doubles: `--confinement=a,b` and, when true, `permission-model`. */
export function readConfinement({ argv, permission }: Confined): readonly string[] {
  const told = argv
    .filter((argument) => argument.startsWith(STARTER_FLAG))
    .flatMap((argument) => argument.slice(STARTER_FLAG.length).split(','))
    .filter((name) => NAME.test(name) && name !== 'permission-model');
  const isDenied = permission !== undefined && !DENIED_SCOPES.some((s) => permission.has(s));
  return [...new Set([...told, ...(isDenied ? ['permission-model'] : [])])].sort();
}
