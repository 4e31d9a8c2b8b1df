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
  /** The call whose approval this answer goes on behind; absent: it begins with an input. */
  readonly approved?: Activity | undefined;
  readonly agent: string;
  /** Seconds since 1970, of the input. */
  readonly createdAt: number;
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
    const approved = await findRequest(supervisor, address, callId);
    return { ...turn, of: { turn: parseEffectId(callId).turn }, approved };
  }
  throw new PrxError('NOT_FOUND', `no answer of session ${session} begins at ${seq}`);
}

/** The call that waited for this approval. */
async function findRequest(
  supervisor: Supervisor,
  { session, seq }: Address,
  callId: EffectId,
): Promise<Activity | undefined> {
  const types = ['approval.requested'];
  const start = await findStart((since) => supervisor.readEvents(session, { since, limit: 1 }));
  for (let since = start; since < seq; ) {
    const page = await supervisor.readEvents(session, { since, limit: PAGE_EVENTS, types });
    for (const envelope of page.events) {
      const event = parseEvent(envelope);
      if (event?.type !== 'approval.requested' || event.data.call_id !== callId) continue;
      const { tool } = event.data;
      return { kind: 'tool-requested', callId, tool, arguments: toJson(event.data.arguments) };
    }
    if (page.events.length === 0 || page.next === since) return undefined;
    since = page.next;
  }
  return undefined;
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
  const read = createTurnReader(turn.of);
  if (turn.approved !== undefined) yield turn.approved;
  for await (const event of events) {
    for (const activity of read(event)) {
      yield activity;
      if (activity.kind === 'ended' || activity.kind === 'lost') return;
    }
  }
}

/** What is there of the turn now, without waiting. */
export async function readTurn(supervisor: Supervisor, turn: Turn): Promise<readonly Activity[]> {
  const read = createTurnReader(turn.of);
  const activities: Activity[] = turn.approved === undefined ? [] : [turn.approved];
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
