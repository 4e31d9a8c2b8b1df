/** What the scripted model does in one turn. The script travels in the prompt as JSON, so the model
 *  server has no state of a turn to lose, and whoever reads the journal knows what must come out of
 *  it. Every counted tool call appends its own token to a file: the world's count of its runs. */
import { z } from 'zod';
import type { Random } from '../base/random.ts';
import { drawBoolean, drawInt, drawWeighted } from './choice.ts';

export const providerFaultSchema = z.enum(['rate_limit', 'overload', 'cut', 'stall']);
/** How the model server fails a request: 429, 500, a stream that is cut, or that falls silent. */
export type ProviderFault = z.infer<typeof providerFaultSchema>;

const callSchema = z.object({
  tool: z.string(),
  arguments: z.record(z.string(), z.unknown()),
  /** Its mark in the world; absent: the call leaves none. */
  token: z.string().optional(),
});

const stepSchema = z.object({
  /** The words of the answer, streamed one by one. */
  say: z.string(),
  pauseMs: z.number(),
  calls: z.array(callSchema),
  /** The n-th request for this step fails like the n-th of these; later ones succeed. */
  faults: z.array(providerFaultSchema),
});

export const turnScriptSchema = z.object({ chaos: z.string(), steps: z.array(stepSchema) });

export type CallScript = z.infer<typeof callSchema>;
export type StepScript = z.infer<typeof stepSchema>;
/** `chaos` is the script's key, which is the idempotency key of its input as well. */
export type TurnScript = z.infer<typeof turnScriptSchema>;

/** Where a counted call leaves its token, relative to the workspace. */
export const EFFECTS_FILE = 'effects';
export const OUTPUT_FOLDER = 'written';

export interface ScriptOptions {
  readonly key: string;
  readonly random: Random;
  /** Argument of `sleep` in what a call leaves running: by it a survivor is recognised. */
  readonly sleepMark: string;
}

/** One turn of one to four model steps; the last one only speaks. */
export function createTurnScript({ key, random, sleepMark }: ScriptOptions): TurnScript {
  const callSteps = drawWeighted(random, { '0': 35, '1': 45, '2': 15, '3': 5 });
  const steps: StepScript[] = [];
  for (let index = 0; index < Number(callSteps); index += 1) {
    const count = drawInt(random, 1, 3);
    const calls = Array.from({ length: count }, (_, call) =>
      createCall({ token: `${key}.${index}.${call}`, random, sleepMark }),
    );
    const words = drawBoolean(random, 0.3) ? drawInt(random, 1, 4) : 0;
    steps.push(createStep({ name: `${key}.${index}`, words, calls, random }));
  }
  const words = drawInt(random, 2, 14);
  steps.push(createStep({ name: `${key}.${callSteps}`, words, calls: [], random }));
  return { chaos: key, steps };
}

/** A turn without tools, faults or pauses: proof that a session is alive. */
export function createEchoScript(key: string): TurnScript {
  return { chaos: key, steps: [{ say: `echo ${key}`, pauseMs: 0, calls: [], faults: [] }] };
}

interface StepOptions {
  readonly name: string;
  readonly words: number;
  readonly calls: CallScript[];
  readonly random: Random;
}

function createStep({ name, words, calls, random }: StepOptions): StepScript {
  const say = Array.from({ length: words }, (_, at) => `${name}:${at}`).join(' ');
  const pauseMs = drawWeighted(random, { '0': 3, '10': 4, '40': 3 });
  const faults: ProviderFault[] = [];
  while (faults.length < 2 && drawBoolean(random, 0.1)) {
    faults.push(drawWeighted(random, { rate_limit: 4, overload: 3, cut: 4, stall: 1 }));
  }
  return { say, pauseMs: Number(pauseMs), calls, faults };
}

interface CallOptions {
  readonly token: string;
  readonly random: Random;
  readonly sleepMark: string;
}

function createCall({ token, random, sleepMark }: CallOptions): CallScript {
  const count = `echo ${token} >> ${EFFECTS_FILE}`;
  const shell = (command: string): CallScript => ({ tool: 'shell', arguments: { command }, token });
  switch (drawWeighted(random, callWeights)) {
    case 'quick':
      return shell(count);
    case 'slow':
      return shell(`${count}; sleep 0.${drawInt(random, 1, 8)}; echo done`);
    case 'late':
      return shell(`sleep 0.${drawInt(random, 1, 5)}; ${count}`);
    case 'fork':
      return shell(`${count}; (setsid sleep ${sleepMark} > /dev/null 2>&1 &); echo done`);
    case 'hold':
      return shell(`sleep ${sleepMark} & ${count}; echo done`);
    case 'large':
      return shell(`${count}; head -c ${drawInt(random, 1, 150)}000 /dev/zero | tr '\\0' x`);
    case 'write':
      return {
        tool: 'write_file',
        arguments: { path: `${OUTPUT_FOLDER}/${token}`, content: `${token}\n` },
        token,
      };
    case 'read':
      return { tool: 'read_file', arguments: { path: EFFECTS_FILE } };
  }
}

const callWeights = {
  quick: 30,
  slow: 20,
  late: 8,
  fork: 8,
  hold: 4,
  large: 8,
  write: 12,
  read: 10,
};

/** The script in a message's text, or undefined where the text is something else. */
export function parseTurnScript(text: string): TurnScript | undefined {
  if (!text.startsWith('{"chaos"')) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined; // Not one of ours after all.
  }
  const parsed = turnScriptSchema.safeParse(value);
  return parsed.success ? parsed.data : undefined;
}
