/** What is heard goes to the spool first and to the supervisor second, in order. Parts that come
 *  faster than they are taken are merged, so that a slow reader costs fewer, longer deltas; when
 *  too much waits, the stream is read no further (push returns a promise).
 *  Invariant: no delta is reported whose record is not in the spool. */
import type { AppendLog } from '../base/append-log.ts';
import type { ModelDelta, ModelSpoolRecord } from '../protocol/gateway-methods.ts';
import { createFailure } from './failures.ts';
import { nextLoopTurn } from './loop-turn.ts';
import type { Part } from './providers/provider.ts';

/** Characters that may wait before the stream is held. */
const PENDING_CHARS_MAX = 64 * 1024;

/** A delta without the key of its attempt. */
export type Delta = Pick<ModelDelta, 'kind' | 'text' | 'offset'>;

/** The parts of which deltas are made. */
export type SaidPart = Extract<Part, { kind: 'text' | 'reasoning' | 'tool_call' }>;

export function isSaid(part: Part): part is SaidPart {
  return part.kind === 'text' || part.kind === 'reasoning' || part.kind === 'tool_call';
}

export interface DeltaSink {
  /** A promise when the caller should wait before it reads on; it never rejects.
   *  Throws STORE_DEGRADED when the spool can no longer be written. */
  push(part: SaidPart): Promise<void> | undefined;
  /** Spools and reports what waits, at once. Throws as push does. */
  finish(): void;
  /** Nothing is spooled or reported any more. @returns characters of text in what was. */
  close(): number;
}

/** `report` resolves when the delta is taken; it never rejects. */
export function createDeltaSink(
  log: AppendLog,
  report: (delta: Delta) => Promise<void>,
): DeltaSink {
  const pending: SaidPart[] = [];
  let pendingChars = 0;
  let flushing: Promise<void> | undefined;
  let failure: Error | undefined;
  let isClosed = false;
  let textChars = 0;

  function spoolNext(part: SaidPart): Delta {
    const text = toDeltaText(part);
    const record: ModelSpoolRecord = { kind: 'delta', delta: part.kind, text };
    try {
      const offset = log.append(record);
      if (part.kind === 'text') textChars += text.length;
      return { kind: part.kind, text, offset };
    } catch (error) {
      failure = toSpoolFailure(error);
      throw failure;
    }
  }

  function takeNext(): SaidPart | undefined {
    const part = isClosed ? undefined : pending.shift();
    if (part !== undefined) pendingChars -= toChars(part);
    return part;
  }

  async function flush(): Promise<void> {
    await nextLoopTurn();
    try {
      for (let part = takeNext(); part !== undefined; part = takeNext()) {
        await report(spoolNext(part));
      }
    } catch {
      // Remembered in `failure`; the next push or finish throws it to the one who must know.
    }
    flushing = undefined;
  }

  return {
    push(part) {
      if (failure !== undefined) throw failure;
      pendingChars += toChars(part);
      const last = pending.at(-1);
      const merged = last === undefined ? undefined : mergeParts(last, part);
      if (merged === undefined) pending.push(part);
      else pending[pending.length - 1] = merged;
      flushing ??= flush();
      return pendingChars > PENDING_CHARS_MAX ? flushing : undefined;
    },
    finish() {
      if (failure !== undefined) throw failure;
      // Not awaited: the answer follows on the same pipe and cannot overtake them.
      for (let part = takeNext(); part !== undefined; part = takeNext()) {
        void report(spoolNext(part));
      }
    },
    close() {
      isClosed = true;
      return textChars;
    },
  };
}

function toChars(part: SaidPart): number {
  return part.kind === 'tool_call' ? part.arguments.length : part.text.length;
}

function mergeParts(last: SaidPart, next: SaidPart): SaidPart | undefined {
  if (last.kind === 'tool_call') {
    const same = next.kind === 'tool_call' && next.index === last.index && !next.name;
    return same ? { ...last, arguments: last.arguments + next.arguments } : undefined;
  }
  return last.kind === next.kind ? { kind: last.kind, text: last.text + next.text } : undefined;
}

/** The text of a tool-call delta is JSON: {index, name?, arguments}, a fragment each. */
function toDeltaText(part: SaidPart): string {
  if (part.kind !== 'tool_call') return part.text;
  return JSON.stringify({ index: part.index, name: part.name, arguments: part.arguments });
}

export function toSpoolFailure(error: unknown): Error {
  const reason = error instanceof Error ? error.message : String(error);
  const message = `could not use the spool of this attempt: ${reason}; free or mend the disk`;
  return createFailure('spool', message, { cause: error });
}
