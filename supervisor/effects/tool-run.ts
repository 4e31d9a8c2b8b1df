/** A reserved tool call in the hands of its host: what it says is journaled as it comes, and its
 *  end is the host's answer or, where the host or we died, what stands in its spool. */
import { toPrxError } from '../../base/errors.ts';
import type { ToolOutcome } from '../../protocol/content.ts';
import type { EffectId } from '../../protocol/ids.ts';
import { type ToolSpoolRecord, toolSpoolRecordSchema } from '../../protocol/sandbox-methods.ts';
import { type Draft, draft } from '../sessions/journal.ts';
import { createLiveFeed, type LiveFeed } from './live-feed.ts';
import { plainOutcome } from './plain-outcomes.ts';
import type { GateDeps } from './ports.ts';
import { tailSpool, toSpoolPath } from './spool.ts';

/** A call as its run needs it. */
export interface RunningCall {
  readonly deps: GateDeps;
  readonly ask: { readonly turn: number; readonly name: string };
  readonly effect: EffectId;
  readonly signal: AbortSignal;
}

type Said = Exclude<ToolSpoolRecord, { readonly kind: 'end' }>;

/** What the host says while the call runs, and where the spool stands behind it. */
interface Piece {
  readonly record: Said;
  readonly offset: number;
}

/** Runs it to its end. Where some of what it said could not be written, the rest is read from its
 *  spool before anybody has the end. @throws what the journal throws when it still cannot be. */
export async function runInHost(
  call: RunningCall,
  value: unknown,
  attempt: number,
): Promise<ToolOutcome> {
  const { deps } = call;
  const feed = createLiveFeed((pieces: readonly Piece[]) =>
    deps.journal.append(...pieces.map((piece) => toDraft(call, attempt, piece))),
  );
  const outcome = await runToEnd(call, { value, attempt, feed });
  if (await feed.settle()) return outcome;
  const end = await tailEnd(call, attempt);
  return end ?? outcome;
}

interface Run {
  readonly value: unknown;
  readonly attempt: number;
  readonly feed: LiveFeed<Piece>;
}

async function runToEnd(call: RunningCall, { value, attempt, feed }: Run): Promise<ToolOutcome> {
  const { deps, ask, effect } = call;
  const { stateDir, session } = deps;
  const spoolPath = toSpoolPath({ stateDir, session, effect, attempt });
  const onAbort = (): void => deps.host.cancel(effect);
  call.signal.addEventListener('abort', onAbort, { once: true });
  try {
    const run = { effect, tool: ask.name, arguments: value, attempt, spoolPath };
    return await deps.host.run(run, {
      onOutput: ({ stream, text, offset }) =>
        feed.push({ record: { kind: 'output', stream, text }, offset }),
      onRequest: (request) =>
        feed.push({ record: { kind: 'network', request }, offset: request.offset ?? 0 }),
    });
  } catch (error) {
    // The spool is read from behind the last journaled output: first let those under way land.
    await feed.settle();
    deps.logger.warn('tool.host_failed', { effect, error: toPrxError(error).message });
    return readEnd(call, attempt);
  } finally {
    call.signal.removeEventListener('abort', onAbort);
  }
}

/** What the spool of a call says that nobody waits for any more: its end, once all before it is
 *  journaled, or that there is none. */
export async function readEnd(call: RunningCall, attempt: number): Promise<ToolOutcome> {
  const end = await tailEnd(call, attempt);
  if (end !== undefined) return end;
  return plainOutcome(
    'indeterminate',
    'the process that ran this call died before it could say how the call ended: it may have had its effect, fully, partly or not at all. Look at the present state before you decide whether to repeat it.',
  );
}

async function tailEnd(call: RunningCall, attempt: number): Promise<ToolOutcome | undefined> {
  const { deps, effect, signal } = call;
  const { session, stateDir, clock, journal } = deps;
  return await tailSpool({
    files: deps.spools,
    path: toSpoolPath({ stateDir, session, effect, attempt }),
    offset: await deps.store.readSpoolOffset(session, effect, attempt),
    classify(value) {
      const parsed = toolSpoolRecordSchema.safeParse(value);
      if (!parsed.success) return undefined;
      return parsed.data.kind === 'end' ? { end: parsed.data.outcome } : { progress: parsed.data };
    },
    onProgress: (batch) => journal.append(...batch.map((piece) => toDraft(call, attempt, piece))),
    isWriterAlive: () => deps.hasOrphanWriter(effect),
    cancel: () => deps.cancelOrphan(effect),
    clock,
    signal,
  });
}

function toDraft({ ask, effect }: RunningCall, attempt: number, { record, offset }: Piece): Draft {
  const at = { turn: ask.turn, effect };
  if (record.kind === 'network') {
    return draft('network.request', { ...record.request, offset, attempt }, at);
  }
  const { stream, text } = record;
  return draft('tool.output', { call_id: effect, stream, text, offset, attempt }, at);
}
