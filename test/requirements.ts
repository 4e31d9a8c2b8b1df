/** What the project promises, each with an id that a test cites as `[id]` in its name. Keys,
 *  commands, endpoints and events are read from the code that serves them, so that a new one is
 *  uncited from its first minute; the promises of docs/guarantees.md are listed here by hand. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

export type RequirementSource = 'config' | 'command' | 'endpoint' | 'event' | 'promise';

export interface Requirement {
  /** `source:name`, for example `config:agent.max_turns`. */
  readonly id: string;
  readonly what: string;
  readonly source: RequirementSource;
}

const promises: Readonly<Record<string, string>> = {
  'durable-before-visible': 'What a client has seen is in the journal; no death takes it back',
  'gapless-sequence': 'Replay from any retained sequence, then live: no gap, no duplicate',
  'input-exactly-once': 'An accepted input is processed exactly once, whatever dies',
  'tool-at-most-once': 'A tool call runs at most once; what cannot be known is indeterminate',
  'model-not-paid-twice': 'A model call whose outcome is in the spool is not requested again',
  'one-worker-per-session': 'One worker a session; messages of an older generation are ignored',
  'nothing-outlives': 'After any kills and one start, nothing of ours runs that is not listed',
  'transcript-well-formed': 'A transcript sent to a provider has one result for each tool call',
  'everything-bounded': 'Every buffer, queue, line, loop, retry and wait has a bound',
  'deny-by-default': 'What is unknown, or a sandbox below the minimum, is refused by name',
  'no-secret-leaves': 'No secret in a worker, journal, log, event, error or tool environment',
  'sessions-isolated': 'One session cannot slow, starve or read another',
  'worker-dies': 'A new generation resumes the same turn; running effects go on and are joined',
  'gateway-dies': 'The unfinished request is retried by policy; a finished one is read back',
  'sandbox-dies': 'Its tree dies with it; the call is resolved by the effect of its tool',
  'supervisor-dies': 'The next start adopts finished and running effects and resumes turns',
  'power-fails': 'Synced facts stand; tools never re-run silently',
  'client-dies': 'Nothing happens; it attaches again from its last sequence',
  simulation: 'Ten thousand simulated runs, none of which breaks an invariant',
  'resource-runs-out': 'A named degraded state, no corruption, recovery when it clears',
};

/** The key is the id of the requirement; a source that is not written yet gives undefined. */
type Loader = (root: string) => Promise<Readonly<Record<string, string>> | undefined>;

const loaders: Readonly<Record<RequirementSource, Loader>> = {
  config: async (root) => {
    const module = await load(root, 'supervisor/config-schema.ts');
    return module && Object.fromEntries(configKeys(module.configSchema).map((key) => [key, key]));
  },
  command: async (root) => {
    const module = await load(root, 'cli/commands/index.ts');
    const names = module && asArray(module.commandNames, 'cli/commands: commandNames');
    return names && Object.fromEntries(names.map((name) => [String(name), `prx ${name}`]));
  },
  endpoint: async (root) => {
    const module = await load(root, 'api/routes/index.ts');
    const routes = module && asArray(module.routeTable, 'api/routes: routeTable');
    return routes && Object.fromEntries(routes.map((route) => describeRoute(route)));
  },
  event: async (root) => {
    const module = await load(root, 'protocol/events.ts');
    return module && Object.fromEntries(keysOf(module.eventTable).map((type) => [type, type]));
  },
  promise: async () => promises,
};

/** @returns all requirements, and the sources that do not exist yet. */
export async function loadRequirements(
  root: string,
): Promise<{ requirements: Requirement[]; missingSources: RequirementSource[] }> {
  const requirements: Requirement[] = [];
  const missingSources: RequirementSource[] = [];
  for (const [name, loader] of Object.entries(loaders)) {
    const source = name as RequirementSource; // the keys of `loaders`, which the type closes
    const found = await loader(root);
    if (found === undefined) missingSources.push(source);
    for (const [key, what] of Object.entries(found ?? {})) {
      requirements.push({ id: `${source}:${key}`, what, source });
    }
  }
  return { requirements, missingSources };
}

export interface Audit {
  /** Neither cited nor pending: write the test. */
  readonly uncited: readonly string[];
  /** Pending although a test cites it, or although it is no requirement: take it off the list. */
  readonly stale: readonly string[];
  /** Cited, but no requirement: a typing error, or the thing is gone. */
  readonly unknown: readonly string[];
}

/** Compares what is promised with what is cited. Pure. */
export function auditRequirements(input: {
  readonly requirements: readonly Requirement[];
  readonly missingSources: readonly RequirementSource[];
  readonly cited: ReadonlySet<string>;
  readonly pending: ReadonlySet<string>;
}): Audit {
  const { missingSources, cited, pending } = input;
  const ids = new Set(input.requirements.map(({ id }) => id));
  // Nothing is known of a source that is not written yet.
  const isKnowable = (id: string) => !missingSources.some((source) => id.startsWith(`${source}:`));
  return {
    uncited: [...ids].filter((id) => !cited.has(id) && !pending.has(id)),
    stale: [...pending].filter((id) => isKnowable(id) && (cited.has(id) || !ids.has(id))),
    unknown: [...cited].filter((id) => isKnowable(id) && !ids.has(id)),
  };
}

/** `[]`, the items of a list, is part of an id. */
const citation = /\[((?:config|command|endpoint|event|promise):(?:\[\]|[^\]\s])+)\]/g;

/** @returns the ids that a text of a test (its name, or a row of its table) cites. */
export function findCitations(text: string): string[] {
  return [...text.matchAll(citation)].flatMap(([, id]) => (id === undefined ? [] : [id]));
}

/** Leaves of a zod object as dotted paths; the free keys of a record are `<name>`, items are `[]`.
 *  Where a record only repeats another table (`agents.<name>` has the keys of `agent`), the path
 *  of the record stands for it. */
export function configKeys(schema: unknown, path = ''): string[] {
  const def = unwrap(schema);
  const join = (key: string) => (path === '' ? key : `${path}.${key}`);
  if (def.type === 'object') {
    const shape = Object.entries(def.shape ?? {});
    return shape.flatMap(([key, value]) => configKeys(value, join(key)));
  }
  if (def.type === 'array' && unwrap(def.element).type === 'object') {
    return configKeys(def.element, `${path}[]`);
  }
  const repeats = path === 'agents';
  if (def.type === 'record' && !repeats) return configKeys(def.valueType, join('<name>'));
  return [path];
}

interface ZodDef {
  readonly type: string;
  readonly innerType?: unknown;
  readonly in?: unknown;
  readonly out?: unknown;
  readonly shape?: Readonly<Record<string, unknown>>;
  readonly element?: unknown;
  readonly valueType?: unknown;
}

/** Through default(), optional(), readonly() and pipes, down to what has keys. A pipe that starts
 *  with a transform (a preprocess) has its schema at its end. */
function unwrap(schema: unknown): ZodDef {
  const def = definitionOf(schema);
  if (def.innerType !== undefined) return unwrap(def.innerType);
  if (def.type !== 'pipe') return def;
  return definitionOf(def.in).type === 'transform' ? unwrap(def.out) : unwrap(def.in);
}

function definitionOf(schema: unknown): ZodDef {
  if (typeof schema === 'object' && schema !== null && 'def' in schema) {
    return schema.def as ZodDef; // zod 4 keeps its definition here; each part of it is optional
  }
  throw new Error(`not a zod schema: ${String(schema)}`);
}

function describeRoute(route: unknown): readonly [string, string] {
  const { id, method, path } = route as { id?: unknown; method?: unknown; path?: unknown };
  if (typeof id !== 'string') throw new Error('api/routes: a row of routeTable has no id');
  return [id, `${String(method)} ${String(path)}`];
}

async function load(
  root: string,
  path: string,
): Promise<Readonly<Record<string, unknown>> | undefined> {
  const file = join(root, path);
  if (!existsSync(file)) return undefined;
  return (await import(pathToFileURL(file).href)) as Record<string, unknown>; // a module is that
}

function asArray(value: unknown, what: string): readonly unknown[] {
  if (!Array.isArray(value)) throw new Error(`${what} is not exported as an array`);
  return value;
}

function keysOf(value: unknown): readonly string[] {
  if (typeof value !== 'object' || value === null) throw new Error('no table of events exported');
  return Object.keys(value);
}
