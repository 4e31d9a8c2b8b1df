/** What the offline model says: a pure function of the transcript. See offline.ts. */
import type { ModelToolCall, ProviderMessage } from '../../protocol/content.ts';
import type { GenerateRequest } from './provider.ts';

export interface OfflineCall {
  readonly name: string;
  /** JSON text; as the user wrote it for an @tool line, valid or not. */
  readonly args: string;
}

export interface OfflineAnswer {
  readonly text: string;
  readonly calls: readonly OfflineCall[];
  /** Pause between words, when the answer asks for one of its own, ms. */
  readonly wordMs?: number;
}

/** Of one tool result and of an echoed prompt, characters. */
const RESULT_CHARS_MAX = 8_000;
const ECHO_CHARS_MAX = 200;
/** The same bound as real answers have. */
const CALLS_MAX = 128;
const SLOW_WORD_MS = 50;
const SLOW_WORDS_MAX = 100_000;

export function decideOffline(request: GenerateRequest): OfflineAnswer {
  const { messages, tools } = request;
  const asked = messages.findLastIndex(({ role }) => role === 'user');
  const prompt = toUserText(messages[asked]);
  const since = messages.slice(asked + 1);
  const resultCount = since.filter(({ role }) => role === 'tool').length;
  if (tools.length === 0 && isSummaryRequest(messages)) return toText(toSummary(messages));
  const wanted = parseCalls(prompt);
  const calls = tools.length === 0 ? [] : pickCalls(wanted, request.parallelToolCalls, resultCount);
  if (calls.length > 0) return { text: toAnnouncement(calls), calls };
  if (resultCount > 0) return toText(toReport(since));
  const slow = /^~slow\s+(\d{1,6})\s*$/m.exec(prompt);
  if (slow !== null) return toSlow(Number(slow[1]));
  return toText(wanted.length > 0 ? noTools(wanted) : toIntroduction(prompt));
}

function toText(text: string): OfflineAnswer {
  return { text, calls: [] };
}

/** The calls that the lines of a prompt ask for, in order. */
export function parseCalls(prompt: string): readonly OfflineCall[] {
  return prompt.split('\n').flatMap(parseLine).slice(0, CALLS_MAX);
}

function parseLine(line: string): readonly OfflineCall[] {
  const command = /^!\s*(\S.*?)\s*$/.exec(line)?.[1];
  if (command !== undefined) return [{ name: 'shell', args: JSON.stringify({ command }) }];
  const [, name, args] = /^@([\w.-]{1,64})\s+(\{.*)$/.exec(line) ?? [];
  return name === undefined || args === undefined ? [] : [{ name, args: args.trim() }];
}

/** All at once, or one a step where calls are not to be parallel. */
function pickCalls(
  wanted: readonly OfflineCall[],
  parallel: boolean,
  resultCount: number,
): readonly OfflineCall[] {
  if (parallel) return resultCount === 0 ? wanted : [];
  return wanted.slice(resultCount, resultCount + 1);
}

function toAnnouncement(calls: readonly OfflineCall[]): string {
  return `I call ${calls.map(({ name, args }) => toLabel(name, args)).join(' and ')}`;
}

/** A shell call by its command, another by its arguments. */
function toLabel(name: string, args: string): string {
  const command = name === 'shell' ? /^\{"command":(".*")\}$/.exec(args)?.[1] : undefined;
  const what = command === undefined ? args : String(JSON.parse(command));
  return `${name}: ${toShort(what)}`;
}

function toReport(since: readonly ProviderMessage[]): string {
  const calls = since.flatMap((message) =>
    message.role === 'assistant' ? message.message.tool_calls : [],
  );
  const parts = since.flatMap((message) =>
    message.role === 'tool' ? [toResultText(message, calls)] : [],
  );
  return parts.join('\n\n');
}

function toResultText(
  result: Extract<ProviderMessage, { role: 'tool' }>,
  calls: readonly ModelToolCall[],
): string {
  const call = calls.find(({ id }) => id === result.call_id);
  const what = call === undefined ? result.name : toLabel(call.name, call.arguments);
  const text = result.text.trimEnd();
  if (text === '') return `${what} gave no output.`;
  const cut = text.length > RESULT_CHARS_MAX ? '\n[the rest is left out]' : '';
  return `${what} gave:\n${text.slice(0, RESULT_CHARS_MAX)}${cut}`;
}

function toSlow(count: number): OfflineAnswer {
  const words = Array.from({ length: Math.min(count, SLOW_WORDS_MAX) }, (_, n) => `word${n + 1}`);
  return { text: words.join(' '), calls: [], wordMs: SLOW_WORD_MS };
}

function noTools(wanted: readonly OfflineCall[]): string {
  const names = wanted.map(({ name }) => name).join(', ');
  return `I cannot call ${names}: no tools are offered to me here.`;
}

function toIntroduction(prompt: string): string {
  const echo = toShort(prompt);
  return `I am offline, the built-in stand-in of prx-supervisor, not a language model. \
${echo === '' ? '' : `You said: "${echo}". `}I cannot answer that, but I can try out the rest: a \
line "!ls -la" runs a shell command in the sandbox, a line '@read_file {"path":"README.md"}' calls \
any tool, and "~slow 100" talks slowly. To connect a real model, set OPENAI_API_KEY, or put \
base_url and api_key_env under [provider] in config.toml, and restart.`;
}

function isSummaryRequest(messages: readonly ProviderMessage[]): boolean {
  const last = toUserText(messages.findLast(({ role }) => role === 'user'));
  const system = messages.map((message) => (message.role === 'system' ? message.text : ''));
  return /\b(summar|compact)/i.test(`${last}\n${system.join('\n')}`);
}

function toSummary(messages: readonly ProviderMessage[]): string {
  const prompts = messages
    .flatMap((message) => (message.role === 'user' ? [toShort(toUserText(message))] : []))
    .slice(0, -1);
  const results = messages.filter(({ role }) => role === 'tool').length;
  const said = prompts.slice(-20).map((prompt) => `- ${prompt}`);
  return [
    `Summary by the offline stand-in: ${prompts.length} user messages, ${results} tool results.`,
    ...said,
  ].join('\n');
}

function toUserText(message: ProviderMessage | undefined): string {
  if (message?.role !== 'user') return '';
  return message.content.map((part) => (part.type === 'text' ? part.text : '[image]')).join('\n');
}

function toShort(text: string): string {
  const line = text.replace(/\s+/g, ' ').trim();
  return line.length <= ECHO_CHARS_MAX ? line : `${line.slice(0, ECHO_CHARS_MAX)} …`;
}
