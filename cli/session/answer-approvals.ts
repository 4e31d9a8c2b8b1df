/** Answers approvals while a turn is followed: always yes, always no, or by asking the person at
 *  the terminal, one at a time. An approval that somebody else resolved is not asked any more. */
import { createInterface } from 'node:readline';
import type { ApiClient } from '../../api/client.ts';
import { isPrxError } from '../../base/errors.ts';
import { findQuestion } from '../../protocol/approval-words.ts';
import type { ApproveMode, ResolveApproval } from '../../protocol/resources.ts';
import type { Context } from '../command.ts';
import { findAnswer, findReply, toApprovalLines, toScopeLines } from './approval-lines.ts';
import type { PendingApproval } from './pieces.ts';

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
      if (deps.mode === undefined) return sayWhoDecides(deps, approval);
      if (deps.mode !== 'ask') {
        void resolve(deps, approval.callId, decideByMode(deps.mode, approval));
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

/** A question has no answer that a mode could give: the agent is told so, and decides. */
function decideByMode(mode: 'all' | 'never', approval: PendingApproval): ResolveApproval {
  const isAllowed = mode === 'all' && findQuestion(approval) === undefined;
  const reason = `--approve ${mode}`;
  if (isAllowed) return { decision: 'approve', scope: 'once', reason };
  return { decision: 'deny', reason: mode === 'all' ? `nobody is asked: ${reason}` : reason };
}

/** Without it a turn that waits would look like one that hangs. */
function sayWhoDecides({ context, sessionId }: AnswererDeps, approval: PendingApproval): void {
  if (context.json || context.quiet) return;
  for (const line of toApprovalLines(approval, context.errorStyle)) context.say(line);
  const answer = findQuestion(approval) === undefined ? '' : ' --answer TEXT';
  context.say(`  ${context.self} approve ${sessionId} ${approval.callId}${answer}, or deny`);
}

async function ask(deps: AnswererDeps, approval: PendingApproval, signal: AbortSignal) {
  const { context } = deps;
  for (const line of toApprovalLines(approval, context.errorStyle)) context.say(line);
  const answer =
    findQuestion(approval) === undefined
      ? await askKey(context, approval, signal)
      : await askLine(context, approval, signal);
  if (answer === undefined) return;
  if (answer === 'interrupt') return deps.onInterrupt();
  const reason = 'the person at the terminal';
  await resolve(deps, approval.callId, { ...answer, reason });
}

type Answered = ResolveApproval | 'interrupt' | undefined;

async function askKey(
  context: Context,
  approval: PendingApproval,
  signal: AbortSignal,
): Promise<Answered> {
  const rule = approval.keeps === undefined ? '' : 'r allow by a rule · ';
  context.say(`  y allow once · a allow for this session · ${rule}n deny`);
  for (const line of toScopeLines(approval, context.errorStyle)) context.say(line);
  const keys = ['y', 'a', 'r', 'n'].filter((key) => findAnswer(approval, key) !== undefined);
  const key = await readKey(context, [...keys, '\u0003'], signal);
  if (key === '\u0003') return 'interrupt';
  return key === undefined ? undefined : findAnswer(approval, key);
}

async function resolve(deps: AnswererDeps, callId: string, answer: ResolveApproval): Promise<void> {
  try {
    await deps.client.resolveApproval(deps.sessionId, callId, answer);
  } catch (error) {
    // Somebody was faster, or it timed out: the stream tells what was decided.
    if (isPrxError(error, 'APPROVAL_RESOLVED') || isPrxError(error, 'APPROVAL_NOT_FOUND')) return;
    const message = error instanceof Error ? error.message : String(error);
    deps.context.say(`the answer to ${callId} was not taken: ${message}`);
  }
}

/** The answer to a question, ended by Enter; an empty one declines. */
function askLine(
  context: Context,
  approval: PendingApproval,
  signal: AbortSignal,
): Promise<Answered> {
  const { stdin, stderr } = context.machine;
  // The machine's streams are the terminal's: node:readline types ask for the concrete classes.
  const output = stderr as unknown as NodeJS.WritableStream;
  const input = createInterface({ input: stdin, output, terminal: true });
  return new Promise<Answered>((done) => {
    signal.addEventListener('abort', () => done(undefined), { once: true });
    input.once('SIGINT', () => done('interrupt'));
    input.once('close', () => done(undefined));
    input.question('  answer (Enter alone declines)> ', (typed) =>
      done(typed.trim() === '' ? { decision: 'deny' } : findReply(approval, typed)),
    );
  }).finally(() => input.close());
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
