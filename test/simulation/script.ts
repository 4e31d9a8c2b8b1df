/** What the scripted model does in one turn. The script travels in the prompt, so the simulated
 *  provider has no state to lose, and what must come out of a turn is known from its input. */
import type { Random } from '../../base/random.ts';
import type { ModelToolCall, ProviderMessage } from '../../protocol/content.ts';

export interface CallScript {
  readonly tool: 'shell' | 'write_file' | 'read_file';
  /** How long it takes, virtual ms. */
  readonly ms: number;
}

export interface StepScript {
  readonly words: number;
  readonly calls: readonly CallScript[];
}

export interface TurnScript {
  readonly key: string;
  readonly steps: readonly StepScript[];
}

export const drawInt = (random: Random, from: number, to: number): number =>
  from + Math.floor(random.next() * (to - from + 1));

export function drawOne<T>(random: Random, items: readonly T[]): T {
  const item = items[Math.floor(random.next() * items.length)];
  if (item === undefined) throw new RangeError('there is something to choose from');
  return item;
}

export function createScript(key: string, random: Random): TurnScript {
  const steps: StepScript[] = [];
  while (random.next() < 0.5 && steps.length < 3) {
    const calls: CallScript[] = [];
    for (let count = drawInt(random, 1, 3); count > 0; count -= 1) {
      const tool = drawOne(random, ['shell', 'shell', 'write_file', 'read_file'] as const);
      calls.push({ tool, ms: drawOne(random, [1, 5, 50, 500, 3000]) });
    }
    steps.push({ words: drawInt(random, 0, 3), calls });
  }
  return { key, steps: [...steps, { words: drawInt(random, 1, 6), calls: [] }] };
}

export const echoScript = (key: string): TurnScript => ({ key, steps: [{ words: 1, calls: [] }] });

export const toText = (script: TurnScript): string => JSON.stringify({ script });

export interface Answer {
  readonly text: readonly string[];
  readonly calls: readonly ModelToolCall[];
}

/** The answer the script has for this transcript. */
export function toAnswer(messages: readonly ProviderMessage[], effect: string): Answer {
  // Whoever asks for a summary asks last, and not by a script.
  const asked = messages.at(-1);
  if (asked?.role === 'user' && readScript(asked) === undefined) return SUMMARY;
  const at = messages.findLastIndex((message) => readScript(message) !== undefined);
  const found = messages[at];
  const script = found === undefined ? undefined : readScript(found);
  const index = findIndex(messages.slice(at));
  const step = script?.steps[index];
  const name = `${script?.key ?? 'none'}.${index}`;
  if (step === undefined) return { text: [`${name} end`], calls: [] };
  const text = Array.from({ length: step.words }, (_, word) => `${name}:${word} `);
  const calls = step.calls.map(({ tool, ms }, call) => {
    const id = `call_${effect.replaceAll('.', '_')}_${call}_of_${index}`;
    return { id, name: tool, arguments: JSON.stringify(toArguments(tool, ms, name)) };
  });
  return { text, calls };
}

const SUMMARY: Answer = { text: ['so far, so good'], calls: [] };

/** Which step comes next. Of those before it a compaction may have left the last one only. */
function findIndex(messages: readonly ProviderMessage[]): number {
  const last = messages.findLast(({ role }) => role === 'assistant');
  if (last?.role !== 'assistant') return 0;
  const [call] = last.message.tool_calls;
  const said = call === undefined ? /\.(\d+)[: ]/.exec(last.message.text) : /_(\d+)$/.exec(call.id);
  return Number(said?.[1] ?? 0) + 1;
}

function toArguments(tool: CallScript['tool'], ms: number, name: string): object {
  if (tool === 'shell') return { command: `work ${ms}` };
  if (tool === 'write_file') return { path: `file-${ms}`, content: name };
  return { path: `file-${ms}` };
}

/** How long a call takes, from its arguments. */
export function toDurationMs(args: unknown): number {
  const found = /(?:work |file-)(\d+)/.exec(JSON.stringify(args));
  return Number(found?.[1] ?? 1);
}

function readScript(message: ProviderMessage): TurnScript | undefined {
  if (message.role !== 'user') return undefined;
  const [part] = message.content;
  if (part?.type !== 'text' || !part.text.startsWith('{"script"')) return undefined;
  return (JSON.parse(part.text) as { script: TurnScript }).script;
}
