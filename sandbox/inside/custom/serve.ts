/** Custom tools in the tool host: each request is one thread, and each end has its words for the
 *  model, or for the user where a file is described. */
import { readdirSync } from 'node:fs';
import type { Clock } from '../../../base/clock.ts';
import { type Description, descriptionSchema } from '../../../protocol/custom-tools.ts';
import type { CallParams, CallResult } from './methods.ts';
import type { Answer } from './tasks.ts';
import { runInThread, type ThreadEnd } from './threads.ts';

export interface CustomServer {
  describe(params: Bounded): Promise<Description>;
  check(params: Bounded): Promise<{ problem?: string }>;
  call(params: CallParams): Promise<CallResult>;
  /** The call that runs. */
  cancel(): void;
}

interface Bounded {
  readonly file: string;
  readonly root: string;
  readonly heapBytes: number;
  readonly timeoutMs: number;
}

export interface CustomServerSpec {
  readonly clock: Clock;
  /** Of the threads. */
  readonly program: string;
  readonly onLog: (text: string) => void;
}

const UNKNOWN = ' Whether it had its effect is not known.';
const never = new AbortController().signal;
const ignore = (_: string): void => undefined;

export function createCustomServer({ clock, program, onLog }: CustomServerSpec): CustomServer {
  let running: AbortController | undefined;

  const run = (name: string, params: Bounded, signal = never, onText = ignore) => {
    const { heapBytes, timeoutMs, ...task } = params;
    const bounds = { heapBytes, timeoutMs, signal, clock };
    return runInThread({ program, name, task: { ...task }, ...bounds, onLog: onText });
  };

  return {
    async describe(params) {
      const end = await run('describe', params);
      if (end.kind !== 'answer') return { kind: 'refused', problem: toSentence(end, params) };
      const parsed = descriptionSchema.safeParse(end.answer);
      return parsed.success ? parsed.data : { kind: 'refused', problem: 'it said nothing of use' };
    },
    async check(params) {
      const end = await run('check', params);
      if (end.kind !== 'answer') return { problem: toSentence(end, params) };
      return typeof end.answer === 'string' ? { problem: end.answer } : {};
    },
    async call(params) {
      running = new AbortController();
      const end = await run('call', params, running.signal, onLog);
      return { ...toResult(end, params), isSpent: end.isStuck || hasLeftovers() };
    },
    cancel: () => running?.abort(),
  };
}

function toResult(end: ThreadEnd, params: Bounded): Pick<CallResult, 'status' | 'output'> {
  // Of our own program, by structured clone.
  if (end.kind === 'answer') return end.answer as Answer;
  const status = end.kind === 'died' ? 'error' : end.kind;
  return { status, output: `${toSentence(end, params)}${UNKNOWN}` };
}

function toSentence(
  end: Exclude<ThreadEnd, { kind: 'answer' }>,
  { heapBytes, timeoutMs }: Bounded,
): string {
  switch (end.kind) {
    case 'timeout':
      return `It did not end within ${timeoutMs / 1000} s and was stopped.`;
    case 'cancelled':
      return 'The call was cancelled.';
    case 'memory':
      return `It was ended because its thread needed more than ${heapBytes / 2 ** 20} MiB of heap (custom_tools.memory_limit_mb). Ask for less at once.`;
    case 'died':
      return `It ended without a result: ${end.reason}.`;
  }
}

/** Processes that a call started and left behind: all in our namespace but its first
 *  process and us. Elsewhere (level none) those of others are seen as well: there nobody looks. */
function hasLeftovers(): boolean {
  if (process.ppid !== 1) return false;
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.some((name) => name !== '1' && Number(name) !== process.pid);
}
