/** Answers approvals while a turn is followed: always yes, always no, or by asking the person at
 *  the terminal, one at a time. An approval that somebody else resolved is not asked any more. */
import type { ApiClient } from '../../api/client.ts';
import { isPrxError } from '../../base/errors.ts';
import type { ApproveMode } from '../../protocol/resources.ts';
import type { Context } from '../command.ts';
import type { PendingApproval } from './pieces.ts';
import { toApprovalLines } from './plain.ts';

export interface ApprovalAnswerer {
  onApproval(approval: PendingApproval): void;
  onResolved(callId: string): void;
  close(): void;
}

export interface AnswererDeps {
  readonly context: Context;
  readonly client: Pick<ApiClient, 'resolveApproval'>;
  readonly sessionId: string;
  /** Absent: approvals are left to others. */
  readonly mode: ApproveMode | undefined;
  /** Ctrl-C at the question. */
  readonly onInterrupt: () => void;
}

export function createAnswerer(deps: AnswererDeps): ApprovalAnswerer {
  const waiting = new Map<string, PendingApproval>();
  let asking: { readonly callId: string; readonly abort: AbortController } | undefined;
  const next = (): void => {
    const approval = waiting.values().next().value;
    if (asking !== undefined || approval === undefined) return;
    waiting.delete(approval.callId);
    const abort = new AbortController();
    asking = { callId: approval.callId, abort };
    void ask(deps, approval, abort.signal).finally(() => {
      asking = undefined;
      next();
    });
  };
  return {
    onApproval: (approval) => {
      if (deps.mode === undefined) return;
      if (deps.mode !== 'ask') {
        void resolve(deps, approval.callId, deps.mode === 'all' ? 'y' : 'n');
        return;
      }
      waiting.set(approval.callId, approval);
      next();
    },
    onResolved: (callId) => {
      waiting.delete(callId);
      if (asking?.callId === callId) asking.abort.abort();
    },
    close: () => {
      waiting.clear();
      asking?.abort.abort();
    },
  };
}

async function ask(deps: AnswererDeps, approval: PendingApproval, signal: AbortSignal) {
  const { context } = deps;
  for (const line of toApprovalLines(approval, context.errorStyle)) context.say(line);
  context.say('  y allow once · a allow for this session · n deny');
  const key = await readKey(context, ['y', 'a', 'n', '\u0003'], signal);
  if (key === undefined) return;
  if (key === '\u0003') return deps.onInterrupt();
  await resolve(deps, approval.callId, key);
}

async function resolve(deps: AnswererDeps, callId: string, key: string): Promise<void> {
  const decision = key === 'n' ? 'deny' : 'approve';
  const by = deps.mode === 'ask' ? 'the person at the terminal' : `--approve ${deps.mode}`;
  try {
    await deps.client.resolveApproval(deps.sessionId, callId, {
      decision,
      scope: key === 'a' ? 'session' : 'once',
      reason: by,
    });
  } catch (error) {
    // Somebody was faster, or it timed out: the stream tells what was decided.
    if (isPrxError(error, 'APPROVAL_RESOLVED') || isPrxError(error, 'APPROVAL_NOT_FOUND')) return;
    const message = error instanceof Error ? error.message : String(error);
    deps.context.say(`the answer to ${callId} was not taken: ${message}`);
  }
}

/** One of `keys`, pressed without Enter; undefined when the signal aborts. */
function readKey(
  context: Context,
  keys: readonly string[],
  signal: AbortSignal,
): Promise<string | undefined> {
  const { stdin } = context.machine;
  return new Promise((done) => {
    const finish = (key: string | undefined): void => {
      stdin.off('data', onData);
      signal.removeEventListener('abort', onAbort);
      stdin.setRawMode?.(false);
      stdin.pause();
      done(key);
    };
    const onAbort = (): void => finish(undefined);
    const onData = (chunk: Buffer | string): void => {
      const key = Array.from(String(chunk).toLowerCase()).find((char) => keys.includes(char));
      if (key !== undefined) finish(key);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    stdin.setRawMode?.(true);
    stdin.on('data', onData);
    stdin.resume();
  });
}
