/** One request as the model server got it: is the transcript well formed, and which step of which
 *  script does it ask for? Pure. */
import { z } from 'zod';
import { parseTurnScript, type StepScript, type TurnScript } from './script.ts';

const contentSchema = z
  .union([z.string(), z.array(z.object({ text: z.string().optional() })), z.null()])
  .optional();

const messageSchema = z.object({
  role: z.enum(['system', 'developer', 'user', 'assistant', 'tool']),
  content: contentSchema,
  tool_calls: z
    .array(
      z.object({ id: z.string(), function: z.object({ name: z.string(), arguments: z.string() }) }),
    )
    .optional(),
  tool_call_id: z.string().optional(),
});
type Message = z.infer<typeof messageSchema>;

const requestSchema = z.object({ messages: z.array(messageSchema), stream: z.literal(true) });

export interface StepQuestion {
  readonly script: TurnScript;
  /** Steps of this script that were answered already. */
  readonly index: number;
  readonly step: StepScript;
}

export interface RequestVerdict {
  readonly question: StepQuestion | undefined;
  /** What is wrong with the transcript; empty: nothing. */
  readonly problems: readonly string[];
}

export function judgeRequest(body: string): RequestVerdict {
  const parsed = requestSchema.safeParse(parseJson(body));
  if (!parsed.success) {
    return {
      question: undefined,
      problems: [`not a streamed chat request: ${parsed.error.message}`],
    };
  }
  const { messages } = parsed.data;
  const problems = [...findOrderProblems(messages), ...findTextProblems(messages)];
  const question = findQuestion(messages);
  if (question === undefined) problems.push('it asks for no step of a script of ours');
  return { question, problems };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // The schema refuses it by name.
  }
}

/** Roles and calls: what providers refuse. */
function findOrderProblems(messages: readonly Message[]): string[] {
  const problems: string[] = [];
  const used = new Set<string>();
  let open: string[] = [];
  for (const [at, message] of messages.entries()) {
    const where = `message ${at} (${message.role})`;
    if (message.role === 'tool') {
      const id = message.tool_call_id ?? '';
      if (!open.includes(id)) problems.push(`${where} answers call '${id}', which is not open`);
      open = open.filter((each) => each !== id);
      continue;
    }
    if (open.length > 0) problems.push(`${where} comes before the results of ${open.join(', ')}`);
    open = [];
    if (message.role === 'system' && at > 0) problems.push(`${where} is not the first`);
    if (message.role !== 'assistant') continue;
    const before = messages[at - 1]?.role;
    if (before !== 'user' && before !== 'tool') problems.push(`${where} follows ${before}`);
    for (const { id } of message.tool_calls ?? []) {
      if (used.has(id)) problems.push(`${where} uses call id '${id}' again`);
      used.add(id);
      open.push(id);
    }
    if (open.length === 0 && toText(message) === '') problems.push(`${where} says nothing`);
  }
  if (open.length > 0) problems.push(`the calls ${open.join(', ')} have no result`);
  const last = messages.at(-1)?.role;
  if (last !== 'user' && last !== 'tool') problems.push(`it ends with ${last}`);
  return problems;
}

/** What the model is said to have said is what it said: whole, or cut, never two joined. */
function findTextProblems(messages: readonly Message[]): string[] {
  const problems: string[] = [];
  let script: TurnScript | undefined;
  let isFirst = true;
  let index = 0;
  for (const message of messages) {
    const found = message.role === 'user' ? parseTurnScript(toText(message)) : undefined;
    if (found !== undefined) {
      script = found;
      index = 0;
    }
    if (message.role !== 'assistant' || script === undefined) continue;
    if (isFirst) index = findSaidIndex(message, script) ?? index;
    isFirst = false;
    const expected = script.steps[index]?.say ?? '';
    const text = toText(message);
    if (!expected.startsWith(text)) {
      problems.push(`step ${index} of ${script.chaos} said '${expected}', not '${text}'`);
    }
    index += 1;
  }
  return problems;
}

/** Which step said this, by its own words or its calls. Of the first turn in a transcript a
 *  compaction may have taken the first steps, but never its inputs. */
function findSaidIndex(message: Message, { chaos }: TurnScript): number | undefined {
  const [call] = message.tool_calls ?? [];
  const ids = [
    toText(message).split(`${chaos}.`)[1],
    call?.id.split(`call_${chaos.replaceAll('.', '_')}_`)[1],
  ];
  const digits = ids.flatMap((id) => /^\d+/.exec(id ?? '') ?? [])[0];
  return digits === undefined ? undefined : Number(digits);
}

function findQuestion(messages: readonly Message[]): StepQuestion | undefined {
  const scripts = messages.map((each) =>
    each.role === 'user' ? parseTurnScript(toText(each)) : undefined,
  );
  const at = scripts.findLastIndex((script) => script !== undefined);
  const script = scripts[at];
  if (script === undefined) return undefined;
  const said = messages.slice(at).filter((message) => message.role === 'assistant');
  const isFirst = !messages.slice(0, at).some((message) => message.role === 'assistant');
  const [earliest] = said;
  const cut = isFirst && earliest !== undefined ? (findSaidIndex(earliest, script) ?? 0) : 0;
  const index = cut + said.length;
  const step = script.steps[index];
  return step === undefined ? undefined : { script, index, step };
}

function toText({ content }: Message): string {
  if (typeof content === 'string') return content;
  return (content ?? []).map((part) => part.text ?? '').join('');
}
