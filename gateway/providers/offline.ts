/** `offline`: a small built-in stand-in model. It is no language model and says so; it is there to
 *  try and test everything else without a network or a key. Deterministic: the same transcript
 *  gives the same answer.
 *
 *  Lines of the last user message that it understands:
 *    !CMD              calls the shell tool with CMD; several such lines are parallel calls
 *    @tool {json}      calls any tool by name, e.g. @write_file {"path":"a.txt","content":"hi"}
 *    ~slow N           says N words, 20 a second
 *  With tool results it answers with what they said. Where no tools are offered it calls none,
 *  and a request for a summary gets a plain one. Usage is an estimate: words, not tokens. */
import type { Clock } from '../../base/clock.ts';
import { decideOffline, type OfflineAnswer } from './offline-script.ts';
import type { Chunk, GenerateRequest, Provider } from './provider.ts';

const OFFLINE_MODEL = 'offline';

/** Pause between words, ms; a long answer is said faster, in about SAYING_MS_MAX altogether. */
const WORD_MS = 5;
const SAYING_MS_MAX = 300;

export interface OfflineDeps {
  readonly clock: Clock;
  /** 0: everything at once (tests). Absent: 5 ms. */
  readonly wordMs?: number;
}

export function createOfflineProvider(deps: OfflineDeps): Provider {
  return {
    target: 'the built-in offline model',
    listModels: async () => [OFFLINE_MODEL],
    generate: (request, signal) => say(deps, request, signal),
  };
}

async function* say(
  deps: OfflineDeps,
  request: GenerateRequest,
  signal: AbortSignal,
): AsyncIterable<Chunk> {
  const answer = decideOffline(request);
  yield [{ kind: 'model', model: OFFLINE_MODEL }];
  // Each word with the white space before it, so that nothing is lost.
  const words = answer.text.match(/\s*\S+\s*$|\s*\S+/g) ?? [];
  const pauseMs = answer.wordMs ?? toPauseMs(words.length, deps.wordMs ?? WORD_MS);
  for (const [index, text] of words.entries()) {
    if (index > 0 && pauseMs > 0) await deps.clock.sleep(pauseMs, signal);
    if (signal.aborted) return;
    yield [{ kind: 'text', text }];
  }
  yield toEnd(request, answer, words.length);
}

function toPauseMs(wordCount: number, wordMs: number): number {
  return Math.min(wordMs, SAYING_MS_MAX / Math.max(1, wordCount));
}

function toEnd(request: GenerateRequest, answer: OfflineAnswer, wordCount: number): Chunk {
  const calls = answer.calls.map(({ name, args }, index) => ({
    kind: 'tool_call' as const,
    index,
    name,
    arguments: args,
  }));
  const usage = {
    input_tokens: countWords(JSON.stringify(request.messages)),
    output_tokens: wordCount + countWords(JSON.stringify(answer.calls)),
  };
  return [
    ...calls,
    { kind: 'usage', usage },
    { kind: 'finish', reason: calls.length > 0 ? 'tool_calls' : 'stop' },
  ];
}

function countWords(text: string): number {
  return text.match(/[\p{L}\p{N}]+/gu)?.length ?? 0;
}
