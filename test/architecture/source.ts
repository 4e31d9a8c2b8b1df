/** The source tree as the rules see it: each file parsed once, its imports resolved by path alone.
 *  Works on a map of texts, so that a rule is tested on a snippet as it is used on the tree. */
import { readdirSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import ts from 'typescript';

export interface Import {
  readonly specifier: string;
  /** Path of the imported file from the root; undefined for a package. */
  readonly target: string | undefined;
  readonly line: number;
}

export interface Source {
  /** From the root, with slashes: `worker/loop.ts`. */
  readonly path: string;
  /** First folder; '' for a file of the root. */
  readonly folder: string;
  readonly text: string;
  readonly tree: ts.SourceFile;
  readonly imports: readonly Import[];
  /** Files named by `new URL('./x.ts', import.meta.url)`: started, not imported. */
  readonly startedFiles: readonly string[];
}

/** `worker/loop.ts:12 message`, or without a line. */
export type Violation = string;

export interface Rule {
  readonly name: string;
  readonly check: (sources: readonly Source[]) => readonly Violation[];
}

const skippedFolders = new Set(['node_modules', 'dist', 'coverage']);

export function readTree(root: string): Source[] {
  const paths = readdirSync(root, { withFileTypes: true }).flatMap((entry) => {
    if (entry.name.startsWith('.') || skippedFolders.has(entry.name)) return [];
    if (!entry.isDirectory()) return [entry.name];
    const names = readdirSync(join(root, entry.name), { recursive: true, encoding: 'utf8' });
    return names.map((name) => posix.join(entry.name, name));
  });
  const sources = paths.filter((path) => /\.tsx?$/.test(path)).sort();
  return sources.map((path) => parse(path, readFileSync(join(root, path), 'utf8')));
}

export function parse(path: string, text: string): Source {
  const tree = ts.createSourceFile(path, text, ts.ScriptTarget.ESNext, true);
  const imports: Import[] = [];
  const startedFiles: string[] = [];
  walk(tree, (node) => {
    const specifier = findSpecifier(node);
    if (specifier !== undefined) {
      const target = specifier.startsWith('.') ? resolve(path, specifier) : undefined;
      imports.push({ specifier, target, line: lineOf(tree, node) });
    }
    const started = findStartedFile(node);
    if (started !== undefined) startedFiles.push(resolve(path, started));
  });
  const folder = path.includes('/') ? path.slice(0, path.indexOf('/')) : '';
  return { path, folder, text, tree, imports, startedFiles };
}

/** Calls `visit` on each node, parents first. */
export function walk(node: ts.Node, visit: (node: ts.Node) => void): void {
  visit(node);
  ts.forEachChild(node, (child) => walk(child, visit));
}

/** Calls `visit` on each node of each source and collects what it finds wrong, with its place. */
export function flagNodes(
  sources: readonly Source[],
  find: (node: ts.Node, source: Source) => string | undefined,
): Violation[] {
  const violations: Violation[] = [];
  for (const source of sources) {
    walk(source.tree, (node) => {
      const message = find(node, source);
      if (message !== undefined) {
        violations.push(`${source.path}:${lineOf(source.tree, node)} ${message}`);
      }
    });
  }
  return violations;
}

function lineOf(tree: ts.SourceFile, node: ts.Node): number {
  return tree.getLineAndCharacterOfPosition(node.getStart(tree)).line + 1;
}

/** A process starts here: `main.ts`, or `writer-main.ts` where a folder holds several. */
export function isMain(path: string): boolean {
  return /(^|\/)([a-z0-9-]+-)?main\.tsx?$/.test(path);
}

/** Shipped code; the rest (tests, benchmarks, proofs, examples, configuration) serves it. */
export function isShipped(source: Source): boolean {
  return !['', 'test', 'bench', 'prove', 'examples', 'docs'].includes(source.folder);
}

function resolve(path: string, specifier: string): string {
  return posix.join(posix.dirname(path), specifier);
}

function findSpecifier(node: ts.Node): string | undefined {
  if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) {
    return literal(node.moduleSpecifier);
  }
  if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
    return literal(node.arguments[0]);
  }
  if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
    return literal(node.argument.literal);
  }
  return undefined;
}

function findStartedFile(node: ts.Node): string | undefined {
  if (!ts.isNewExpression(node) || node.expression.getText() !== 'URL') return undefined;
  const name = literal(node.arguments?.[0]);
  return name?.startsWith('.') && name.endsWith('.ts') ? name : undefined;
}

function literal(node: ts.Node | undefined): string | undefined {
  return node !== undefined && ts.isStringLiteralLike(node) ? node.text : undefined;
}
