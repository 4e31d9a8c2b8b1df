/** What a person who is asked should know, in words: the same at every door (run, attach, top, the
 *  page). Pure, and without a schema, so that the page stays small. Its texts come from a model, a
 *  configuration or a path: a terminal sanitizes them. */
import type { KeptRuleBody } from './kept-rules.ts';

export interface AskedCall {
  readonly tool: string;
  readonly arguments: unknown;
  /** What scope `session` approves; absent: the tool. */
  readonly covers?: readonly string[] | undefined;
  /** What scope `rule` would keep; absent: it cannot. */
  readonly keeps?: KeptRuleBody | undefined;
}

export interface Question {
  readonly question: string;
  /** Empty: any answer. */
  readonly options: readonly string[];
}

/** What reorders text, or cannot be seen in it. */
const HIDDEN = /[\p{Cf}\p{Zl}\p{Zp}\u007f-\u009f]/gu;

/** Arguments as a person is asked about them: JSON of the same value in which nothing is hidden. */
export function toShownJson(value: unknown): string {
  const text = JSON.stringify(value, null, 2) ?? 'null';
  const toEscape = (unit: string): string =>
    `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return text.replace(HIDDEN, (char) => char.split('').map(toEscape).join(''));
}

/** The question of an `ask_user` call; undefined for every other call: those are allowed or not. */
export function findQuestion({ tool, arguments: args }: AskedCall): Question | undefined {
  if (tool !== 'ask_user') return undefined;
  const given = typeof args === 'object' && args !== null ? args : {};
  const question = 'question' in given ? String(given.question) : '';
  const options = 'options' in given && Array.isArray(given.options) ? given.options : [];
  return { question, options: options.map(String) };
}

/** What was typed, or the option whose number was; an option itself stays what it is, also where
 *  it looks like the number of another one. */
export function toAnswer({ options }: Question, typed: string): string {
  const text = typed.trim();
  if (options.includes(text)) return text;
  return (/^\d+$/.test(text) ? options[Number(text) - 1] : undefined) ?? text;
}

/** What scope `session` allows from then on. */
export function describeSession({ tool, covers = [tool] }: AskedCall): string {
  return covers.map((each) => (each === tool ? `every call of ${tool}` : each)).join(', ');
}

/** What a kept rule allows, in one line. */
export function describeKeptRule(rule: KeptRuleBody): string {
  const what =
    rule.command ?? rule.paths?.join(', ') ?? (rule.arguments === '{}' ? '' : rule.arguments) ?? '';
  const quoted = what === '' ? '' : ` ${toShownJson(what)}`;
  return `${rule.tool}${quoted} in ${rule.workspace} for agent ${rule.agent}`;
}
