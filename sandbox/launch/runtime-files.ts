/** Our own files that are shown inside: the Node that runs us, the file host's program, the search
 *  program. They may lie where the tools' user cannot go, so they are staged like the workspace. */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
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
  /** Node and the program of the file host. */
  readonly fileHost: readonly RuntimeFile[];
  /** The file host's command line inside. */
  readonly fileHostCommand: readonly string[];
  /** The same command line for the host itself, outside any sandbox. */
  readonly bareFileHostCommand: readonly string[];
}

export interface RuntimeInput {
  /** The running program: sandbox/main.ts from sources, sandbox.js from a build. */
  readonly mainPath: string;
  readonly nodePath: string;
}

export const NODE = `${RUNTIME_DIR}/node`;
/** A small helper: young objects in 2 MB halves, old ones in at most 256 MB. */
const NODE_FLAGS = ['--max-semi-space-size=2', '--max-old-space-size=256', '--disable-sigusr1'];
const SOURCE_FOLDERS = ['package.json', 'base', 'protocol', 'sandbox', 'node_modules'];

export function findRuntimeFiles(input: RuntimeInput): RuntimeFiles {
  const { nodePath } = input;
  // A command in a bin folder may be a link into the package.
  const mainPath = findPath(input.mainPath)?.realPath ?? input.mainPath;
  const fromSource = mainPath.endsWith('.ts');
  const root = fromSource ? dirname(dirname(mainPath)) : dirname(mainPath);
  const program = fromSource ? 'sandbox/inside/files-main.ts' : 'files.js';
  const inside = fromSource ? `${RUNTIME_DIR}/source` : RUNTIME_DIR;
  const parts = fromSource ? SOURCE_FOLDERS : ['files.js'];
  const found = findSearch(mainPath);
  return {
    search: found === undefined ? undefined : { path: found, target: `${RUNTIME_DIR}/bin/rg` },
    interpreter: { path: nodePath, target: `${RUNTIME_DIR}/bin/node` },
    fileHost: [
      { path: nodePath, target: NODE },
      ...parts.map((name) => ({ path: join(root, name), target: `${inside}/${name}` })),
    ],
    fileHostCommand: [NODE, ...NODE_FLAGS, `${inside}/${program}`],
    bareFileHostCommand: [nodePath, ...NODE_FLAGS, join(root, program)],
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
