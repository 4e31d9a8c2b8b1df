/** How big and how named: lines, columns, functions, files and folders. */
import ts from 'typescript';
import { flagNodes, type Rule, type Source, type Violation } from './source.ts';

const fileLinesMax = 400;
const functionLinesMax = 70;
const columnsMax = 100;
const bannedFolders = ['utils', 'common', 'helpers', 'services', 'types'];

export const shapeRules: readonly Rule[] = [
  { name: `a file has at most ${fileLinesMax} lines`, check: checkFileLines },
  { name: `a function has at most ${functionLinesMax} lines`, check: checkFunctionLines },
  { name: `a line has at most ${columnsMax} columns`, check: checkColumns },
  { name: 'files are kebab-case, folders named after an idea', check: checkNames },
];

function checkFileLines(sources: readonly Source[]): Violation[] {
  return sources
    .map(({ path, text }) => ({ path, lines: text.trimEnd().split('\n').length }))
    .filter(({ lines }) => lines > fileLinesMax)
    .map(({ path, lines }) => `${path} has ${lines} lines`);
}

function checkFunctionLines(sources: readonly Source[]): Violation[] {
  return flagNodes(sources, (node, { tree }) => {
    if (!ts.isFunctionLike(node) || isTestSuite(node)) return undefined;
    const lines = countLines(node, tree) - countNestedLines(node, tree);
    return lines > functionLinesMax ? `function of ${lines} lines` : undefined;
  });
}

/** A function is measured without the functions inside it: an object made of closures is read one
 *  closure at a time, as a class is read one method at a time. */
function countNestedLines(node: ts.Node, tree: ts.SourceFile): number {
  let lines = 0;
  ts.forEachChild(node, (child) => {
    lines += ts.isFunctionLike(child) ? countLines(child, tree) - 1 : countNestedLines(child, tree);
  });
  return lines;
}

function countLines(node: ts.Node, tree: ts.SourceFile): number {
  const first = tree.getLineAndCharacterOfPosition(node.getStart(tree)).line;
  return tree.getLineAndCharacterOfPosition(node.getEnd()).line - first + 1;
}

/** The callback of `describe` is a heading over tests, not a function that one reads as a whole. */
function isTestSuite(node: ts.Node): boolean {
  if (!ts.isCallExpression(node.parent)) return false;
  return /^describe\b/.test(node.parent.expression.getText());
}

function checkColumns(sources: readonly Source[]): Violation[] {
  return sources.flatMap((source) => {
    const unbreakable = linesWithText(source.tree);
    return source.text.split('\n').flatMap((line, index) => {
      // The name of a test cannot be broken; what opens its function behind it does not count.
      const counted = line.replace(/'\)?, (async )?\([^()]*\) => \{$/, '');
      if ([...counted].length <= columnsMax || unbreakable.has(index)) return [];
      // A single word, such as a link in a comment, has no place to break.
      if (line.replace(/^[\s/*]+/, '').split(/\s+/).length === 1) return [];
      return [`${source.path}:${index + 1} has ${[...line].length} columns`];
    });
  });
}

/** Lines that a string, template or regular expression takes past the limit: breaking those
 *  apart would hide them from a search. */
function linesWithText(tree: ts.SourceFile): ReadonlySet<number> {
  const lines = new Set<number>();
  const visit = (node: ts.Node): void => {
    if (ts.isStringLiteralLike(node) || ts.isTemplateExpression(node) || isRegExp(node)) {
      const last = tree.getLineAndCharacterOfPosition(node.getEnd());
      const first = tree.getLineAndCharacterOfPosition(node.getStart(tree)).line;
      for (let line = first; line < last.line; line += 1) lines.add(line);
      if (last.character > columnsMax) lines.add(last.line);
    }
    ts.forEachChild(node, visit);
  };
  visit(tree);
  return lines;
}

function isRegExp(node: ts.Node): boolean {
  return node.kind === ts.SyntaxKind.RegularExpressionLiteral;
}

function checkNames(sources: readonly Source[]): Violation[] {
  return sources.flatMap(({ path }) => {
    const parts = path.split('/');
    const folder = parts.slice(0, -1).find((part) => bannedFolders.includes(part));
    if (folder !== undefined) return [`${path} is in a folder named ${folder}`];
    const odd = parts.find((part) => !/^[a-z0-9]+([-.][a-z0-9]+)*$/.test(part));
    return odd === undefined ? [] : [`${path} is not kebab-case (${odd})`];
  });
}
