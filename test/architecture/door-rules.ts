/** One door each to the machine (processes, time, chance, environment, terminal), and the parts of
 *  the language that this code does without. */
import ts from 'typescript';
import { flagNodes, isMain, isShipped, type Rule, type Source, type Violation } from './source.ts';

/** Named by a call or a value; the same name as a property of something else is not meant. */
const clockAndChance = [
  'setTimeout',
  'setInterval',
  'randomUUID',
  'randomBytes',
  'randomInt',
  'Date.now',
  'performance.now',
  'process.hrtime',
  'Math.random',
  'AbortSignal.timeout',
  'crypto.randomUUID',
  'crypto.getRandomValues',
  'globalThis.setTimeout',
  'globalThis.setInterval',
];
const timerModules = ['node:timers', 'node:timers/promises', 'timers', 'timers/promises'];
const processModules = ['node:child_process', 'child_process', 'node:cluster', 'execa'];

export const doorRules: readonly Rule[] = [
  { name: 'only base/process.ts starts processes', check: checkProcesses },
  { name: 'time and chance come only through base/clock.ts and base/random.ts', check: checkClock },
  { name: 'process.env is read only in main.ts and supervisor/config*.ts', check: checkEnv },
  { name: 'console is only for cli/', check: checkConsole },
  { name: 'exports have names, one by one', check: checkExports },
  { name: 'there is no any', check: checkAny },
  { name: 'shipped code has no top-level await (bundles are CommonJS)', check: checkAwait },
];

function checkProcesses(sources: readonly Source[]): Violation[] {
  return sources
    .filter((source) => isShipped(source) && source.path !== 'base/process.ts')
    .flatMap(({ path, imports }) =>
      imports
        .filter(({ specifier }) => processModules.includes(specifier))
        .map(({ specifier, line }) => `${path}:${line} imports ${specifier}`),
    );
}

function checkClock(sources: readonly Source[]): Violation[] {
  const bound = sources.filter(
    (source) =>
      isShipped(source) &&
      source.folder !== 'dashboard' &&
      !['base/clock.ts', 'base/random.ts'].includes(source.path),
  );
  const imported = bound.flatMap(({ path, imports }) =>
    imports
      .filter(({ specifier }) => timerModules.includes(specifier))
      .map(({ specifier, line }) => `${path}:${line} imports ${specifier}`),
  );
  const used = flagNodes(bound, (node) => {
    if (ts.isNewExpression(node) && node.expression.getText() === 'Date') {
      return node.arguments?.length ? undefined : 'new Date() reads the clock';
    }
    const name = nameOfValue(node);
    return name !== undefined && clockAndChance.includes(name) ? `uses ${name}` : undefined;
  });
  return [...imported, ...used];
}

function checkEnv(sources: readonly Source[]): Violation[] {
  const bound = sources.filter(
    ({ path, ...source }) =>
      isShipped({ path, ...source }) &&
      source.folder !== 'dashboard' &&
      !isMain(path) &&
      !/^supervisor\/config[a-z-]*\.ts$/.test(path),
  );
  return flagNodes(bound, (node) => {
    if (nameOfValue(node) === 'process.env') return 'uses process.env';
    const isImport = ts.isImportDeclaration(node) && /['"](node:)?process['"]/.test(node.getText());
    return isImport && /\benv\b/.test(node.getText()) ? 'imports env' : undefined;
  });
}

function checkConsole(sources: readonly Source[]): Violation[] {
  const bound = sources.filter((source) => isShipped(source) && source.folder !== 'cli');
  return flagNodes(bound, (node) => (nameOfValue(node) === 'console' ? 'uses console' : undefined));
}

/** The tools of the root read their configuration from a default export; a custom tool is one. */
function checkExports(sources: readonly Source[]): Violation[] {
  const bound = sources.filter(
    ({ folder, path }) => folder !== '' && !path.startsWith('examples/tools/'),
  );
  return flagNodes(bound, (node) => {
    if (ts.isExportAssignment(node)) return 'default export';
    if (ts.isExportDeclaration(node)) {
      if (node.exportClause === undefined) return 'export *';
      return ts.isNamedExports(node.exportClause) ? undefined : 'export * as';
    }
    if (ts.isExportSpecifier(node))
      return node.name.text === 'default' ? 'default export' : undefined;
    return node.kind === ts.SyntaxKind.DefaultKeyword && !ts.isDefaultClause(node.parent)
      ? 'default export'
      : undefined;
  });
}

function checkAny(sources: readonly Source[]): Violation[] {
  return flagNodes(sources, (node) =>
    node.kind === ts.SyntaxKind.AnyKeyword ? 'uses any' : undefined,
  );
}

function checkAwait(sources: readonly Source[]): Violation[] {
  const bound = sources.filter((source) => isShipped(source) && source.folder !== 'dashboard');
  return flagNodes(bound, (node) => (isAwait(node) && !isInFunction(node) ? 'awaits' : undefined));
}

function isAwait(node: ts.Node): boolean {
  if (ts.isAwaitExpression(node)) return true;
  if (ts.isForOfStatement(node)) return node.awaitModifier !== undefined;
  const usesAwait = (node.flags & ts.NodeFlags.AwaitUsing) === ts.NodeFlags.AwaitUsing;
  return ts.isVariableDeclarationList(node) && usesAwait;
}

function isInFunction(node: ts.Node): boolean {
  return ts.findAncestor(node, (ancestor) => ts.isFunctionLike(ancestor)) !== undefined;
}

/** `name` or `object.name` where it stands for a value; undefined in types, declarations, keys. */
function nameOfValue(node: ts.Node): string | undefined {
  if (ts.isPropertyAccessExpression(node) && ts.isIdentifier(node.expression)) {
    return `${node.expression.text}.${node.name.text}`;
  }
  if (!ts.isIdentifier(node)) return undefined;
  const { parent } = node;
  if (ts.isPropertyAccessExpression(parent)) {
    return parent.expression === node ? node.text : undefined;
  }
  const names = 'name' in parent && parent.name === node;
  if (ts.isImportSpecifier(parent) || ts.isShorthandPropertyAssignment(parent)) return node.text;
  return names || ts.isTypeNode(parent) || ts.isTypeQueryNode(parent) ? undefined : node.text;
}
