/** Names of tests, as documents cite them. */
import ts from 'typescript';

/** First arguments of test, it and their kind, however they are made (`test.each(…)(name, …)`),
 *  without the requirement that a name cites. */
export function findTestNames(source: string): ReadonlySet<string> {
  const names = new Set<string>();
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node)) {
      const name = toText(node.arguments[0]);
      if (name !== undefined && isRunner(node.expression)) {
        names.add(name.replace(/^(\[[a-z]+:[^\]]+\] )+/, ''));
      }
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile('cited.test.ts', source, ts.ScriptTarget.Latest));
  return names;
}

/** Of a template what stands before the first thing put in: a reason to skip it stands behind. */
function toText(name: ts.Expression | undefined): string | undefined {
  if (name === undefined) return undefined;
  if (ts.isStringLiteralLike(name)) return name.text;
  return ts.isTemplateExpression(name) ? name.head.text : undefined;
}

/** `test`, `it`, `test.each(…)`, one of two of them (`(isRoot ? test : test.skip)`), and a name of
 *  the file's own for one of these (`asRoot`). */
function isRunner(callee: ts.Expression): boolean {
  if (ts.isParenthesizedExpression(callee)) return isRunner(callee.expression);
  if (ts.isConditionalExpression(callee)) return isRunner(callee.whenTrue);
  if (ts.isIdentifier(callee)) return !['describe', 'expect'].includes(callee.text);
  if (!ts.isCallExpression(callee) || !ts.isPropertyAccessExpression(callee.expression))
    return false;
  return callee.expression.name.text === 'each' && isRunner(callee.expression.expression);
}
