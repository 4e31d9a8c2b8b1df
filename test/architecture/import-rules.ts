/** Who may import whom: the table of docs/architecture.md, no cycles, no file that nothing uses. */
import { isMain, isShipped, type Rule, type Source, type Violation } from './source.ts';

interface Allowance {
  readonly folders: readonly string[];
  /** Single files of other folders. */
  readonly files?: readonly string[];
  /** Packages; absent: any. Node built-ins are always allowed. */
  readonly packages?: readonly string[];
}

const allowances: Readonly<Record<string, Allowance>> = {
  base: { folders: [], packages: ['pino', 'execa', 'pidusage'] },
  protocol: { folders: ['base'] },
  store: { folders: ['base', 'protocol'] },
  worker: { folders: ['base', 'protocol'] },
  gateway: { folders: ['base', 'protocol'] },
  sandbox: { folders: ['base', 'protocol'] },
  supervisor: { folders: ['base', 'protocol', 'store'] },
  api: { folders: ['base', 'protocol'], files: ['supervisor/index.ts'] },
  cli: { folders: ['base', 'protocol'], files: ['api/client.ts'] },
  chaos: { folders: ['base', 'protocol'], files: ['api/client.ts'] },
  dashboard: { folders: ['base', 'protocol'], files: ['api/client/sse-parser.ts'] },
  cluster: { folders: ['base', 'protocol', 'store'] },
};

/** Processes that the supervisor starts as commands: it runs without their code. */
const startedFolders = ['worker', 'gateway', 'sandbox'];

export const importRules: readonly Rule[] = [
  { name: 'a folder imports only what the table allows', check: checkTable },
  { name: 'nobody imports a main.ts', check: checkMains },
  { name: 'there are no import cycles', check: checkCycles },
  { name: 'every file is reached from an entry point or a test', check: checkDeadFiles },
];

function checkTable(sources: readonly Source[]): Violation[] {
  return sources.filter(isShipped).flatMap((source) =>
    source.imports.flatMap(({ specifier, target, line }) => {
      const allowed =
        target === undefined
          ? isPackageAllowed(source, specifier)
          : isFileAllowed(source, target) || !target.endsWith('.ts');
      return allowed ? [] : [`${source.path}:${line} imports ${target ?? specifier}`];
    }),
  );
}

function isFileAllowed(source: Source, target: string): boolean {
  const folder = target.slice(0, target.indexOf('/'));
  if (folder === source.folder) return true;
  if (isMain(source.path))
    return source.folder !== 'supervisor' || !startedFolders.includes(folder);
  const allowance = allowances[source.folder];
  if (allowance === undefined) return false;
  return allowance.folders.includes(folder) || (allowance.files ?? []).includes(target);
}

function isPackageAllowed(source: Source, specifier: string): boolean {
  const packages = allowances[source.folder]?.packages;
  if (specifier.startsWith('node:') || packages === undefined) return true;
  return packages.includes(specifier);
}

function checkMains(sources: readonly Source[]): Violation[] {
  return sources.flatMap(({ path, imports }) =>
    imports
      .filter(({ target }) => target !== undefined && isMain(target))
      .map(({ target, line }) => `${path}:${line} imports ${target}`),
  );
}

/** Depth-first; each cycle is reported once, at the import that closes it. */
function checkCycles(sources: readonly Source[]): Violation[] {
  const byPath = indexByPath(sources);
  const state = new Map<string, 'open' | 'done'>();
  const trail: string[] = [];
  const violations: Violation[] = [];
  const visit = (path: string): void => {
    state.set(path, 'open');
    trail.push(path);
    for (const { target } of byPath.get(path)?.imports ?? []) {
      if (target === undefined || !byPath.has(target)) continue;
      if (state.get(target) === 'open') {
        violations.push([...trail.slice(trail.indexOf(target)), target].join(' → '));
      } else if (!state.has(target)) visit(target);
    }
    trail.pop();
    state.set(path, 'done');
  };
  for (const { path } of sources) if (!state.has(path)) visit(path);
  return violations;
}

function checkDeadFiles(sources: readonly Source[]): Violation[] {
  const byPath = indexByPath(sources);
  const reached = new Set<string>();
  const queue = sources.filter(isEntry).map(({ path }) => path);
  for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
    if (reached.has(path)) continue;
    reached.add(path);
    const source = byPath.get(path);
    if (source === undefined) continue;
    for (const { target } of source.imports) if (target !== undefined) queue.push(target);
    queue.push(...source.startedFiles);
  }
  return sources.filter(({ path }) => !reached.has(path)).map(({ path }) => path);
}

/** Fixture programs are started by the tests, by a path that is often computed; what each test
 *  file begins with is named in jest's configuration. */
function isEntry({ path, folder }: Source): boolean {
  return (
    isMain(path) ||
    path.endsWith('.test.ts') ||
    path.startsWith('test/fixtures/') ||
    ['test/second-try.ts', 'test/addressed-signals.ts'].includes(path) ||
    ['', 'bench', 'examples'].includes(folder)
  );
}

function indexByPath(sources: readonly Source[]): ReadonlyMap<string, Source> {
  return new Map(sources.map((source) => [source.path, source]));
}
