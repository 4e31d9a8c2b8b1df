/** Where in the configuration file a rule is written, so that a person finds it. TOML parsers keep
 *  no places; this reads headers and keys line by line and says nothing where it is not sure. */

/** The 1-based line of `security.rules[2]` or of `security.tool_policy.tools.shell`; undefined:
 *  it is not in this text, or written in a way that is not followed here. */
export function findRuleLine(toml: string, rule: string): number | undefined {
  const [, numbered] = /^security\.rules\[(\d+)\]/.exec(rule) ?? [];
  const wanted = rule.split(/[,;:]/)[0] ?? '';
  let table = '';
  let count = 0;
  for (const [index, line] of toml.split('\n').entries()) {
    const [, list] = /^\s*\[\[\s*([^\]]+?)\s*\]\]/.exec(line) ?? [];
    const [, header] = /^\s*\[\s*([^[\]]+?)\s*\]/.exec(line) ?? [];
    if (list !== undefined || header !== undefined) table = toPath(list ?? header ?? '');
    if (list !== undefined && table === 'security.rules') count += 1;
    if (numbered !== undefined) {
      if (list !== undefined && count === Number(numbered)) return index + 1;
      continue;
    }
    const [, key] = /^\s*([\w."'-][\w."' -]*?)\s*=/.exec(line) ?? [];
    if (key !== undefined && [table, toPath(key)].join('.') === wanted) return index + 1;
  }
  return undefined;
}

/** `a . "b"` as `a.b`. */
function toPath(key: string): string {
  return key.replaceAll(/["'\s]/g, '');
}
