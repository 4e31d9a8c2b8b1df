/** `[[security.rules]]`: ordered, the first that matches decides. Each command, path and domain of
 *  a call is decided by itself and the strictest decision is the call's, so an allow must cover
 *  every part, and a deny or ask needs one. What may match and cannot be known for sure matches
 *  what forbids, and not what allows. Pure. */
import { isForeignToolName } from '../../../protocol/custom-names.ts';
import { judgedAs } from '../../../protocol/tools.ts';
import type { RawConfig } from '../../config-schema.ts';
import { matchesName } from './glob.ts';
import {
  type Match,
  matchCommand,
  matchDomain,
  matchPath,
  matchTree,
  strongest,
} from './pattern.ts';
import type { Part, PathPart } from './subject.ts';

export type RuleText = RawConfig['security']['rules'][number];

export interface Rule {
  /** `security.rules[1]`: numbered from 1, as a person counts them. */
  readonly name: string;
  readonly action: 'allow' | 'deny' | 'ask';
  readonly reason: string | undefined;
  readonly tools: readonly string[];
  readonly paths: readonly string[];
  readonly commands: readonly string[];
  readonly domains: readonly string[];
}

/** Validated when the configuration was read. */
export function toRules(texts: readonly RuleText[]): readonly Rule[] {
  return texts.map((text, index) => ({
    name: `security.rules[${index + 1}]`,
    action: text.action,
    reason: text.reason,
    tools: toList(text.tool),
    paths: toList(text.path),
    commands: toList(text.command),
    domains: toList(text.domain),
  }));
}

/** True when some rule looks further than at the tool: only then the call is taken apart. */
export function looksInside(rules: readonly Rule[]): boolean {
  return rules.some((rule) => rule.paths.length + rule.commands.length + rule.domains.length > 0);
}

/** The first rule that decides this part of a call. */
export function findRule(rules: readonly Rule[], tool: string, part: Part): Rule | undefined {
  return rules.find((rule) => {
    const match = matchRule(rule, tool, part);
    return rule.action === 'allow' ? match === 'yes' : match !== 'no';
  });
}

function matchRule(rule: Rule, tool: string, part: Part): Match {
  const { paths, commands, domains, action } = rule;
  if (!namesTool(rule, tool)) return 'no';
  if (commands.length > 0) return matchCommands(commands, part, action !== 'allow');
  if (paths.length > 0) return part.kind === 'path' ? matchPaths(paths, part) : 'no';
  if (domains.length === 0) return 'yes';
  if (part.kind !== 'domain') return 'no';
  return strongest(domains.map((pattern) => matchDomain(pattern, part)));
}

/** Does the rule speak of this tool? What an argument means to a tool that is not ours is
 *  its author's affair, so that an allow that only looks at arguments does not speak of it. */
export function namesTool({ tools, action }: Rule, tool: string): boolean {
  if (tools.length === 0) return action !== 'allow' || !isForeignToolName(tool);
  const names = [tool, judgedAs(tool)];
  return tools.some((pattern) => names.some((name) => matchesName(pattern, name)));
}

function matchCommands(patterns: readonly string[], part: Part, isWide: boolean): Match {
  if (part.kind !== 'command' && part.kind !== 'unknown') return 'no';
  // A variable before it or a redirection makes another command of it.
  if (!isWide && part.kind === 'command' && !part.isPlain) return 'no';
  return strongest(patterns.map((pattern) => matchCommand(pattern, part, isWide)));
}

/** The name and what it leads to behind links: an allow needs both, what forbids needs either. */
function matchPaths(patterns: readonly string[], part: PathPart): Match {
  const { path, realPath, isTree, holdsWorkspace } = part;
  const [name, target] = [path, realPath].map((each): Match => {
    if (each === undefined) return 'maybe';
    const match = (pattern: string): Match =>
      isTree ? matchTree(pattern, each, holdsWorkspace) : matchPath(pattern, each);
    return strongest(patterns.map(match));
  });
  return name === target ? (name ?? 'no') : 'maybe';
}

/** What a rule says, in one line. */
export function describeRule(rule: Rule): string {
  const keys = [
    ['tool', rule.tools],
    ['path', rule.paths],
    ['command', rule.commands],
    ['domain', rule.domains],
  ] as const;
  const given = keys.filter(([, values]) => values.length > 0);
  const words = given.map(([key, values]) => `${key} ${values.map(quote).join(' or ')}`);
  return `${rule.name}: ${rule.action} ${words.join(', ')}`;
}

function quote(text: string): string {
  return `"${text}"`;
}

function toList(value: string | readonly string[] | undefined): readonly string[] {
  if (value === undefined) return [];
  return typeof value === 'string' ? [value] : value;
}
