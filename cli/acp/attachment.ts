/** One session that an editor has open: its events become updates, in order and each once; its
 *  approvals become permission requests; its prompts wait for the end of their turn. It lives as
 *  long as the connection; the session itself does not end with it. */
import type {
  AgentContext,
  PermissionOption,
  RequestPermissionRequest,
} from '@agentclientprotocol/sdk';
import { methods, RequestError } from '@agentclientprotocol/sdk';
import type { ApiClient } from '../../api/client.ts';
import { background } from '../../base/background.ts';
import { isPrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { EventData, KnownEvent } from '../../protocol/events.ts';
import { toKnownEvent } from '../session/follow-turn.ts';
import { createOwnInputs } from './own-inputs.ts';
import { createUpdateReader, toRecord, toTitle } from './updates.ts';

/** Who answers what needs approval: the editor's user, or this mode for them. */
export type Mode = 'ask' | 'allow' | 'deny';

export interface AttachmentDeps {
  readonly api: ApiClient;
  readonly client: AgentContext;
  readonly logger: Logger;
  readonly sessionId: string;
  readonly workspace: string;
}

export interface Attachment {
  mode: Mode;
  /** Resolves once the past has been passed on, and what follows is live. */
  readonly live: Promise<void>;
  /** An input of this editor, which shows it itself. Called before the input is sent. */
  expectInput(key: string): void;
  /** Interrupts the turn; of an input of this editor whose turn has not begun, once it does. */
  cancel(): Promise<void>;
  /** Resolves with the end of the input's turn. Rejects when the session is lost. */
  turnEnd(inputId: string): Promise<EventData<'turn.completed'>>;
  /** The number of the last event that was passed on. */
  seen(): number;
  /** No more come. */
  isLost(): boolean;
  close(): void;
}

interface Waiter<T> {
  resolve(value: T): void;
  reject(error: unknown): void;
}

type End = EventData<'turn.completed'>;

const options: PermissionOption[] = [
  { optionId: 'once', name: 'Allow', kind: 'allow_once' },
  { optionId: 'session', name: 'Allow for this session', kind: 'allow_always' },
  { optionId: 'deny', name: 'Deny', kind: 'reject_once' },
];

/** Ends of turns that nobody waited for yet: a turn may end before its prompt's 202 is read. */
const ENDS_MAX = 32;

/** @param since  where the updates begin.
 *  @param liveAt  up to here it is the past: its approvals are not put to anybody, unless they
 *  still wait when it ends. */
export function openAttachment(
  deps: AttachmentDeps,
  { since, liveAt }: { since: number; liveAt: number },
): Attachment {
  const stop = new AbortController();
  const read = createUpdateReader(deps.workspace);
  const own = createOwnInputs();
  const ends = new Map<string, End>();
  const endWaiters = new Map<string, Waiter<End>>();
  const live = Promise.withResolvers<void>();
  const pending = new Map<string, { requested: Requested; asking: AbortController | undefined }>();
  const { api, client, logger, sessionId } = deps;
  let isLive = false;
  let seen = since;
  let failure: { readonly error: unknown } | undefined;

  const attachment: Attachment = {
    mode: 'ask',
    live: live.promise,
    expectInput: own.expect,
    async cancel() {
      own.cancel();
      await api.interrupt(sessionId);
    },
    turnEnd: (inputId) =>
      new Promise((resolve, reject) => {
        const end = ends.get(inputId);
        if (end !== undefined) return resolve(end);
        if (failure !== undefined) return reject(failure.error);
        endWaiters.set(inputId, { resolve, reject });
      }),
    seen: () => seen,
    isLost: () => failure !== undefined,
    close: () => stop.abort(),
  };

  function goLive(): void {
    isLive = true;
    for (const entry of pending.values()) ask(entry);
    live.resolve();
  }

  function fail(error: unknown): void {
    failure = { error };
    live.reject(error);
    for (const waiter of endWaiters.values()) waiter.reject(error);
    endWaiters.clear();
  }

  async function onEvent(event: KnownEvent): Promise<void> {
    const isShown = event.type === 'input.accepted' && own.accept(event.data);
    if (!isShown) {
      for (const update of read(event)) {
        await client.notify(methods.client.session.update, { sessionId, update });
      }
    }
    if (event.type === 'approval.requested') {
      const entry = { requested: event.data, asking: undefined };
      pending.set(event.data.call_id, entry);
      if (isLive) ask(entry);
    }
    if (event.type === 'approval.resolved') {
      pending.get(event.data.call_id)?.asking?.abort();
      pending.delete(event.data.call_id);
    }
    if (event.type === 'turn.started' && own.begin(event.data.input_id)) {
      await interruptTurn(event.data.turn);
    }
    if (event.type === 'turn.completed') settle(event.data);
    if (event.type === 'session.state') lose(event.data);
  }

  /** Nothing, when that turn has ended meanwhile. */
  async function interruptTurn(turn: number): Promise<void> {
    const { turn: newest } = await api.getSession(sessionId);
    if (newest === turn) await api.interrupt(sessionId);
  }

  function settle(end: End): void {
    const waiter = endWaiters.get(end.input_id);
    endWaiters.delete(end.input_id);
    if (waiter !== undefined) {
      waiter.resolve(end);
      return;
    }
    ends.set(end.input_id, end);
    const [oldest] = ends.keys();
    if (ends.size > ENDS_MAX && oldest !== undefined) ends.delete(oldest);
  }

  function lose({ to, reason }: { to: string; reason: string }): void {
    if (to !== 'stopped' && to !== 'failed') return;
    const error = RequestError.internalError(undefined, `the session is ${to}: ${reason}`);
    for (const waiter of endWaiters.values()) waiter.reject(error);
    endWaiters.clear();
  }

  function ask(entry: { requested: Requested; asking: AbortController | undefined }): void {
    const asking = new AbortController();
    entry.asking = asking;
    const answered = answer(attachment.mode, entry.requested, asking.signal);
    background(answered, 'acp.permission', logger);
  }

  async function answer(mode: Mode, requested: Requested, signal: AbortSignal): Promise<void> {
    const chosen = mode === 'ask' ? await request(requested, signal) : answers[mode];
    if (chosen === undefined || signal.aborted) return;
    try {
      await api.resolveApproval(sessionId, requested.call_id, chosen);
    } catch (error) {
      // Somebody else was first, or the turn is over: the events say which.
      if (isPrxError(error, 'APPROVAL_RESOLVED') || isPrxError(error, 'APPROVAL_NOT_FOUND')) return;
      throw error;
    }
  }

  async function request(requested: Requested, signal: AbortSignal) {
    const { call_id: toolCallId, tool } = requested;
    const title = toTitle(tool, toRecord(requested.arguments));
    const rawInput = requested.arguments;
    const asked: RequestPermissionRequest = {
      sessionId,
      options,
      toolCall: { toolCallId, title, status: 'pending', rawInput },
    };
    const { outcome } = await client.request(methods.client.session.requestPermission, asked, {
      cancellationSignal: signal,
    });
    // Cancelled: the editor interrupts the turn, which resolves the approval.
    return outcome.outcome === 'selected' ? answers[outcome.optionId] : undefined;
  }

  async function follow(): Promise<void> {
    if (since >= liveAt) goLive();
    for await (const event of api.followEvents(sessionId, { since, signal: stop.signal })) {
      await onEvent(toKnownEvent(event));
      seen = event.seq;
      if (!isLive && event.seq >= liveAt) goLive();
    }
  }

  // Whoever waits for it is told; a session that is only resumed has nobody who waits.
  live.promise.catch(() => undefined);
  follow().then(
    () => fail(RequestError.requestCancelled()),
    (error: unknown) => fail(error),
  );
  return attachment;
}

type Requested = EventData<'approval.requested'>;

type Answer = Parameters<ApiClient['resolveApproval']>[2];

const approve: Answer = { decision: 'approve' };
const deny: Answer = { decision: 'deny' };
const answers: Readonly<Record<string, Answer>> = {
  once: approve,
  session: { ...approve, scope: 'session' },
  deny,
  allow: approve,
};
