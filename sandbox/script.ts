/** Runs one shell script in a sandbox to whatever end it comes to: by itself, by the clock, by a
 *  cancel, by its own flood. The first cause wins. The run is over when the first process is gone
 *  and what stood in the pipes was read, not when everybody has closed them. */
import type { Readable } from 'node:stream';
import type { Clock } from '../base/clock.ts';
import type { Backend, CommandEnd, CommandUse } from './launch/backend.ts';
import type { GuardWatch, Withheld } from './launch/guards.ts';
import { PARKED_COUNT } from './launch/one-shot.ts';
import type { StreamName } from './streamer.ts';
import { type Breach, type TreeLimits, watchTree } from './watch.ts';

export type StopCause = 'timeout' | 'cancelled' | 'flood' | 'enough';

export type ScriptEnd = (
  | CommandEnd
  | { readonly kind: StopCause }
  | { readonly kind: 'limit'; readonly breach: Breach }
) & {
  /** The most memory that was seen; absent: nobody looked. */
  readonly peakBytes?: number;
  /** What appeared in the workspace under a guarded name, and what it is called now. */
  readonly withheld?: readonly Withheld[];
};

export interface ScriptSpec {
  readonly backend: Pick<Backend, 'run'>;
  readonly clock: Clock;
  readonly script: string;
  readonly use?: CommandUse;
  readonly timeoutMs: number;
  readonly limits: TreeLimits;
  /** As TreeWatchSpec has it. */
  readonly growthSince?: (() => number | undefined) | undefined;
  /** Absent: nothing is guarded. */
  readonly guard?: GuardWatch | undefined;
  /** Aborted: the call was cancelled. */
  readonly signal: AbortSignal;
  /** Takes a piece of output; its promise holds the reading. `stop` ends the run. */
  readonly onOutput: (
    stream: StreamName,
    bytes: Buffer,
    stop: (cause: StopCause) => void,
  ) => Promise<void>;
}

/** After the end, how long a pipe that somebody still holds is read. */
const DRAIN_MS = 60;
/** A kill is one signal to one process; asked again only if it was not there yet. */
const KILL_AGAIN_MS = 250;
const KILLS_MAX = 40;

/** Of a sandbox that was killed while it waited for its script nothing ran: another one takes it.
 *  Throws SANDBOX_UNAVAILABLE when there is no sandbox to run it in. */
export async function runScript(spec: ScriptSpec): Promise<ScriptEnd> {
  for (let count = 0; count < PARKED_COUNT; count += 1) {
    const end = await runOnce(spec);
    if (end.kind !== 'unstarted') return end;
  }
  // All that waited were killed; this one is new.
  return await runOnce(spec);
}

async function runOnce(spec: ScriptSpec): Promise<ScriptEnd> {
  const { backend, clock, script, timeoutMs, limits, guard, signal, onOutput } = spec;
  if (signal.aborted) return { kind: 'cancelled' };
  const command = await backend.run(script, spec.use);
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  let cause: StopCause | 'limit' | undefined;
  let over = false;

  function kill(count: number): void {
    if (over || count > KILLS_MAX) return;
    command.kill();
    clock.setTimer(KILL_AGAIN_MS, () => kill(count + 1));
  }
  function stop(reason: StopCause | 'limit'): void {
    if (over || cause !== undefined) return;
    cause = reason;
    kill(1);
  }
  const cancel = (): void => stop('cancelled');
  signal.addEventListener('abort', cancel, { once: true });
  if (signal.aborted) cancel();
  const { tree } = command;
  const withheld: Withheld[] = [];
  const sweep = (): void => void withheld.push(...(guard?.sweep() ?? []));
  const onBreach = (): void => stop('limit');
  const { growthSince } = spec;
  const watch = watchTree({ clock, tree, limits, onBreach, onLook: sweep, growthSince });
  const timer = clock.setTimer(timeoutMs, () => stop('timeout'));
  const pump = (stream: Readable, name: StreamName): Promise<void> =>
    readInto(stream, (bytes) => onOutput(name, bytes, stop), released);
  const readers = Promise.all([pump(command.stdout, 'stdout'), pump(command.stderr, 'stderr')]);
  const end = await command.ended;
  const { breach, peakBytes } = watch.finish();
  sweep();
  over = true;
  timer.cancel();
  signal.removeEventListener('abort', cancel);
  release();
  await Promise.race([readers, clock.sleep(DRAIN_MS)]);
  command.stdout.destroy();
  command.stderr.destroy();
  await readers;
  const seen = {
    ...(peakBytes === undefined ? {} : { peakBytes }),
    ...(withheld.length === 0 ? {} : { withheld }),
  };
  // The kernel may have killed before anybody looked.
  if (breach !== undefined && (cause ?? 'limit') === 'limit') {
    return { kind: 'limit', breach, ...seen };
  }
  return cause === undefined || cause === 'limit' ? { ...end, ...seen } : { kind: cause, ...seen };
}

/** Reads to the end; waits for the taker of each piece, until it is `released` from that. */
async function readInto(
  stream: Readable,
  take: (bytes: Buffer) => Promise<void>,
  released: Promise<void>,
): Promise<void> {
  try {
    for await (const chunk of stream) await Promise.race([take(chunk as Buffer), released]);
  } catch {
    // Destroyed after the drain, or reset: either way there is no more.
  }
}
