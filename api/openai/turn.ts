/** From a request to the running turn: which session, which input, and how its events are read. */
import type { IncomingHttpHeaders } from 'node:http';
import { PrxError } from '../../base/errors.ts';
import type { ContentPart } from '../../protocol/content.ts';
import { type EventEnvelope, parseEvent } from '../../protocol/events.ts';
import { type EffectId, parseEffectId } from '../../protocol/ids.ts';
import { findStart } from '../../protocol/retained.ts';
import type { Supervisor } from '../../supervisor/index.ts';
import { type Activity, createTurnReader, type TurnOf, toJson } from './activity.ts';
import type { Address } from './address.ts';

export interface Turn extends Address {
  readonly of: TurnOf;
  /** The approval that this answer goes on behind; absent: it begins with an input. */
  readonly approved?: Approved | undefined;
  readonly agent: string;
  /** Seconds since 1970, of the input. */
  readonly createdAt: number;
}

type Requested = Extract<Activity, { kind: 'tool-requested' | 'approval-requested' }>;

interface Approved {
  readonly call: Requested;
  /** Calls of its turn that waited for an answer, too, when it had its own. */
  readonly pending: readonly Requested[];
}

export interface Asking {
  readonly supervisor: Supervisor;
  readonly by: string;
  readonly headers: IncomingHttpHeaders;
}

export interface TurnRequest {
  readonly agent: string;
  /** Id, name, or part of an id of the session to go on with; absent: a new one. */
  readonly session: string | undefined;
  readonly content: ContentPart[];
}

/** The header names a session, as every other door does. */
export function sessionHeader(headers: IncomingHttpHeaders): string | undefined {
  return oneHeader(headers, 'x-prx-session');
}

function oneHeader(headers: IncomingHttpHeaders, name: string): string | undefined {
  const value = headers[name];
  if (value === undefined || value === '') return undefined;
  if (Array.isArray(value) || value.length > 255) {
    throw new PrxError('INVALID_REQUEST', `the header ${name} is given twice, or is too long`);
  }
  return value;
}

/** A header beside a response names the session of that response: which of two is meant would be
 *  a guess. @throws INVALID_REQUEST. */
export async function assertNamed(
  { supervisor, headers }: Asking,
  { session }: Address,
): Promise<void> {
  const ref = sessionHeader(headers);
  if (ref === undefined) return;
  const { id } = await supervisor.getSession(ref);
  if (id === session) return;
  throw new PrxError(
    'INVALID_REQUEST',
    `the previous response is of session ${session}, the header X-Prx-Session names ${id}; ` +
      'send one of them',
    { data: { param: 'previous_response_id' } },
  );
}

/** @throws NOT_FOUND with the code that OpenAI clients know, when no agent has this name. */
export function assertAgent(supervisor: Supervisor, agent: string): void {
  const known = supervisor.listAgents().map(({ name }) => name);
  if (known.includes(agent)) return;
  throw new PrxError(
    'NOT_FOUND',
    `the model '${agent}' does not exist: a model here is an agent; known: ${known.join(', ')}`,
    { data: { param: 'model', code: 'model_not_found' } },
  );
}

/** Makes the session if none is named, and hands in the input: durable when this resolves. An
 *  Idempotency-Key makes both happen once. */
export async function startTurn(asking: Asking, request: TurnRequest): Promise<Turn> {
  const { supervisor, by, headers } = asking;
  assertAgent(supervisor, request.agent);
  const key = oneHeader(headers, 'idempotency-key');
  const keyed = key === undefined ? {} : { idempotency_key: key };
  const view =
    request.session === undefined
      ? (await supervisor.createSession({ agent: request.agent, ...keyed }, by)).view
      : await supervisor.getSession(request.session);
  if (view.agent !== request.agent) {
    throw new PrxError(
      'INVALID_REQUEST',
      `session ${view.id} belongs to the agent '${view.agent}', not to '${request.agent}'`,
      { data: { param: 'model' } },
    );
  }
  const { content } = request;
  const accepted = await supervisor.acceptInput(view.id, { content, ...keyed }, by);
  return findTurn(supervisor, { session: view.id, seq: accepted.seq });
}

/** The turn that goes on there: behind its input, or behind an approval.
 *  @throws NOT_FOUND, CURSOR_GONE. */
export async function findTurn(supervisor: Supervisor, address: Address): Promise<Turn> {
  const { session, seq } = address;
  const view = await supervisor.getSession(session);
  const page =
    seq < 1 || seq > view.last_seq
      ? undefined
      : await supervisor.readEvents(session, { since: seq - 1, limit: 1 });
  const envelope = page?.events[0];
  const event = envelope === undefined ? undefined : parseEvent(envelope);
  const createdAt = Math.floor(Date.parse(event?.time ?? '') / 1000);
  const turn = { session, seq, agent: view.agent, createdAt };
  if (event?.type === 'input.accepted') return { ...turn, of: { inputId: event.data.input_id } };
  if (event?.type === 'approval.resolved') {
    const { call_id: callId } = event.data;
    const approved = await findApproved(supervisor, address, callId);
    return { ...turn, of: { turn: parseEffectId(callId).turn }, approved };
  }
  throw new PrxError('NOT_FOUND', `no answer of session ${session} begins at ${seq}`);
}

/** The call that waited for this approval, and those that wait still. */
async function findApproved(
  supervisor: Supervisor,
  { session, seq }: Address,
  callId: EffectId,
): Promise<Approved | undefined> {
  const types = ['approval.requested', 'approval.resolved'];
  const requested = new Map<EffectId, Requested>();
  const start = await findStart((since) => supervisor.readEvents(session, { since, limit: 1 }));
  for (let since = start; since < seq; ) {
    const page = await supervisor.readEvents(session, { since, limit: PAGE_EVENTS, types });
    for (const event of page.events.filter((each) => each.seq < seq).map(parseEvent)) {
      if (event?.type === 'approval.resolved') requested.delete(event.data.call_id);
      if (event?.type !== 'approval.requested') continue;
      const { call_id: id, tool } = event.data;
      const args = toJson(event.data.arguments);
      requested.set(id, { kind: 'approval-requested', callId: id, tool, arguments: args });
    }
    if (page.events.length === 0 || page.next === since) break;
    since = page.next;
  }
  const call = requested.get(callId);
  if (call === undefined) return undefined;
  const { turn } = parseEffectId(callId);
  const pending = [...requested.values()].filter(
    (each) => each !== call && parseEffectId(each.callId).turn === turn,
  );
  return { call: { ...call, kind: 'tool-requested' }, pending };
}

/** Calls that wait at once are of one step. */
function toPlace(callId: EffectId): number {
  return parseEffectId(callId).call ?? 0;
}

/** What happens in the turn, from there on; live until the turn ends. Ends early, without `ended`
 *  or `lost`, only when the signal aborts or the session is deleted. */
export async function followTurn(
  supervisor: Supervisor,
  turn: Turn,
  signal: AbortSignal,
): Promise<AsyncIterable<Activity>> {
  const events = await supervisor.followEvents(turn.session, { since: turn.seq, signal });
  return readActivities(events, turn);
}

async function* readActivities(
  events: AsyncIterable<EventEnvelope>,
  turn: Turn,
): AsyncGenerator<Activity> {
  const { first, read } = openReader(turn);
  yield* first;
  for await (const event of events) {
    for (const activity of read(event)) {
      yield activity;
      if (activity.kind === 'ended' || activity.kind === 'lost') return;
    }
  }
}

/** Several calls of a step may wait for an answer at once, and an answer of ours asks for one. The
 *  next one is asked for when the call that was answered has ended, so that its outcome is shown;
 *  at once when the next one stands before it, since then that is what it waits for. */
function openReader({ of, approved }: Turn) {
  const read = createTurnReader(of);
  if (approved === undefined) return { first: [], read };
  const { call, pending } = approved;
  const waiting = new Map(pending.map((each) => [each.callId, each]));
  let isOver = false;
  const next = (): Requested[] => {
    const ordered = [...waiting.values()].toSorted((a, b) => toPlace(a.callId) - toPlace(b.callId));
    return ordered.slice(0, 1);
  };
  const isBlocked = pending.some((each) => toPlace(each.callId) < toPlace(call.callId));
  return {
    first: isBlocked ? [call, ...next()] : [call],
    read: (event: EventEnvelope): readonly Activity[] =>
      read(event).flatMap((activity): Activity[] => {
        if (activity.kind === 'approval-resolved') waiting.delete(activity.callId);
        if (activity.kind === 'approval-requested' && !isOver) {
          waiting.set(activity.callId, activity);
          return toPlace(activity.callId) < toPlace(call.callId) ? next() : [];
        }
        if (activity.kind !== 'tool-ended' || activity.callId !== call.callId) return [activity];
        isOver = true;
        return [activity, ...next()];
      }),
  };
}

/** What is there of the turn now, without waiting. */
export async function readTurn(supervisor: Supervisor, turn: Turn): Promise<readonly Activity[]> {
  const { first, read } = openReader(turn);
  const activities: Activity[] = [...first];
  for (let since = turn.seq; ; ) {
    const page = await supervisor.readEvents(turn.session, { since, limit: PAGE_EVENTS });
    for (const event of page.events) {
      const found = read(event);
      activities.push(...found);
      // A session that was lost may have been restarted, and the turn gone on.
      if (found.some(({ kind }) => kind === 'ended')) return activities;
    }
    if (page.events.length === 0 || page.next === since) return activities;
    since = page.next;
  }
}

const PAGE_EVENTS = 1000;
