/** Our own files that are shown inside: the Node that runs us, the file host's program, the search
 *  program. They may lie where the tools' user cannot go, so they are staged like the workspace. */
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { RUNTIME_DIR } from './arguments.ts';
import { findPath, findProgram } from './survey.ts';

export interface RuntimeFile {
  readonly path: string;
  /** Where it stands inside. */
  readonly target: string;
}

export interface RuntimeFiles {
  /** The search program; undefined: neither ours nor the system's was found. */
  readonly search: RuntimeFile | undefined;
  /** Node as commands find it, for run_code. */
  readonly interpreter: RuntimeFile;
  /** Node and the programs of the file host and the tool host. */
  readonly hosts: readonly RuntimeFile[];
  /** What the runtime looks for beside our programs; inside, there is nothing of the kind. */
  readonly packagePath: string;
  readonly fileHost: HostCommand;
  readonly toolHost: HostCommand;
}

export interface HostCommand {
  /** The command line inside. */
  readonly inside: readonly string[];
  /** The same for the host itself, outside any sandbox. */
  readonly bare: readonly string[];
}

export interface RuntimeInput {
  /** The running program: sandbox/main.ts from sources, sandbox.js from a build. */
  readonly mainPath: string;
  readonly nodePath: string;
}

export const NODE = `${RUNTIME_DIR}/node`;
/** A small helper: young objects in 2 MB halves, old ones in at most 256 MB. */
const NODE_FLAGS = [
  ...['--max-semi-space-size=2', '--no-parallel-scavenge', '--max-old-space-size=256'],
  '--disable-sigusr1',
];
const SOURCE_FOLDERS = ['package.json', 'base', 'protocol', 'sandbox', 'node_modules'];

/** Of a build: the file host; the tool host, its threads and what starts them. */
const BUNDLES = ['files.js', 'custom.js', 'custom-thread.mjs', 'piscina-worker.js'];

/** Where a root of custom tools stands inside: under its own name, because a module's type may
 *  hang on it, and never where the workspace or a hidden folder is. */
export function toToolTarget(root: string, index: number): string {
  return `${RUNTIME_DIR}/tools/${index}/${basename(root)}`;
}

export function findRuntimeFiles(input: RuntimeInput): RuntimeFiles {
  const { nodePath } = input;
  // A command in a bin folder may be a link into the package.
  const mainPath = findPath(input.mainPath)?.realPath ?? input.mainPath;
  const fromSource = mainPath.endsWith('.ts');
  const root = fromSource ? dirname(dirname(mainPath)) : dirname(mainPath);
  const inside = fromSource ? `${RUNTIME_DIR}/source` : RUNTIME_DIR;
  const parts = fromSource ? SOURCE_FOLDERS : BUNDLES;
  const toCommand = (name: string): HostCommand => {
    const program = fromSource ? `sandbox/inside/${name}-main.ts` : `${name}.js`;
    return {
      inside: [NODE, ...NODE_FLAGS, `${inside}/${program}`],
      bare: [nodePath, ...NODE_FLAGS, join(root, program)],
    };
  };
  const found = findSearch(mainPath);
  return {
    search: found === undefined ? undefined : { path: found, target: `${RUNTIME_DIR}/bin/rg` },
    interpreter: { path: nodePath, target: `${RUNTIME_DIR}/bin/node` },
    hosts: [
      { path: nodePath, target: NODE },
      ...parts.map((name) => ({ path: join(root, name), target: `${inside}/${name}` })),
    ],
    packagePath: join(root, 'package.json'),
    fileHost: toCommand('files'),
    toolHost: toCommand('custom'),
  };
}

/** The program of the thread that converts pages; it runs in the host, not inside. */
export function findHtmlProgram(main: string): string {
  const mainPath = findPath(main)?.realPath ?? main;
  const name = mainPath.endsWith('.ts') ? 'tools/html-main.ts' : 'html.js';
  return join(dirname(mainPath), name);
}

/** The packaged binary, else the system's. The package itself throws where its platform part was
 *  not installed, so the part is asked for directly; the names are the package's own. */
function findSearch(mainPath: string): string | undefined {
  try {
    const require = createRequire(mainPath);
    const nested = createRequire(require.resolve('@vscode/ripgrep'));
    return nested.resolve(`@vscode/ripgrep-${process.platform}-${process.arch}/bin/rg`);
  } catch {
    // Not installed for this platform: what the system has will do.
    const system = findProgram('rg');
    return system === undefined ? undefined : findPath(system)?.realPath;
  }
}
