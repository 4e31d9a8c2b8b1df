/** The OpenAI-compatible door: a model is an agent, a completion is a turn. Any client of that API
 *  works unmodified; a session goes on by the header X-Prx-Session or by previous_response_id, and
 *  each answer names its session in the same header. Errors have the shape of that API. */
import type { IncomingHttpHeaders } from 'node:http';
import { z } from 'zod';
import { PrxError, toPrxError } from '../../base/errors.ts';
import { parseEvent } from '../../protocol/events.ts';
import { effectIdSchema } from '../../protocol/ids.ts';
import type { Supervisor } from '../../supervisor/index.ts';
import type { Activity } from '../openai/activity.ts';
import { type Address, parseResponseId, toId } from '../openai/address.ts';
import { toChatCompletion, toChatFrames } from '../openai/chat.ts';
import {
  type ApprovalItem,
  chatRequestSchema,
  type Message,
  type ResponseRequest,
  responseRequestSchema,
  toContent,
  toMessage,
} from '../openai/request.ts';
import {
  createResponseBuilder,
  type ResponseOptions,
  toResponseFrames,
  toWholeResponse,
} from '../openai/responses.ts';
import {
  type Asking,
  assertAgent,
  assertNamed,
  findTurn,
  followTurn,
  readTurn,
  sessionHeader,
  startTurn,
  type Turn,
} from '../openai/turn.ts';
import { type Answer, defineRoute, type Route, toJsonAnswer } from '../route.ts';
import { flagSchema, naturalSchema } from './params.ts';

const responseParams = z.strictObject({ id: z.string().min(1).max(128) });
const modelParams = z.strictObject({ id: z.string().min(1).max(128) });

/** What is in one is that API's to say. */
const objectSchema = z.looseObject({ id: z.string(), object: z.string() });

export const openaiRoutes: readonly Route[] = [
  defineRoute({
    id: 'createChatCompletion',
    method: 'POST',
    path: '/v1/chat/completions',
    scope: 'operate',
    status: 200,
    summary: 'OpenAI chat completion: one turn of an agent, streamed or whole',
    body: chatRequestSchema,
    response: objectSchema,
    canStream: true,
    handle: async ({ supervisor, by, headers, body, signal }) => {
      const session = sessionHeader(headers);
      const content = toContent(body.messages, {
        isContinued: session !== undefined,
        param: 'messages',
      });
      const turn = await startTurn(
        { supervisor, by, headers },
        { agent: body.model, session, content },
      );
      const watch = createWatch({ supervisor, by, headers }, turn);
      if (body.stream === true) {
        const includeUsage = body.stream_options?.include_usage === true;
        const open = async (ended: AbortSignal) =>
          toChatFrames(turn, await watch(ended), { includeUsage });
        return { kind: 'stream', headers: toHeaders(turn), refusedHeaders: toFinal(turn), open };
      }
      const result = await toChatCompletion(turn, await watch(signal));
      if (result.kind === 'failure') return toFailure(turn, { error: result.error });
      return toJsonAnswer(result.completion, { headers: toHeaders(turn) });
    },
  }),
  defineRoute({
    id: 'createResponse',
    method: 'POST',
    path: '/v1/responses',
    scope: 'operate',
    status: 200,
    summary: 'OpenAI response: one turn of an agent, streamed, whole, or in the background',
    body: responseRequestSchema,
    response: objectSchema,
    canStream: true,
    handle: async ({ supervisor, by, headers, body, signal }) => {
      const asking = { supervisor, by, headers };
      const turn = await startResponse(asking, body);
      const options = {
        previousResponseId: body.previous_response_id ?? undefined,
        metadata: body.metadata ?? undefined,
        background: body.background ?? undefined,
        instructions: body.instructions ?? undefined,
      };
      if (body.stream === true) {
        return toStream(asking, { turn, options, after: -1, refusedHeaders: toFinal(turn) });
      }
      if (body.background === true) {
        const view = createResponseBuilder(turn, options, 'replace').view();
        return toJsonAnswer(view, { headers: toHeaders(turn) });
      }
      const activities = await createWatch(asking, turn)(signal);
      const builder = createResponseBuilder(turn, options, 'replace');
      return toJsonAnswer(await toWholeResponse(builder, activities), { headers: toHeaders(turn) });
    },
  }),
  defineRoute({
    id: 'getResponse',
    method: 'GET',
    path: '/v1/responses/{id}',
    scope: 'read',
    status: 200,
    summary:
      'A response as it stands; with stream=true its events from the first, or from behind ' +
      'starting_after, and then live',
    params: responseParams,
    query: z.looseObject({
      stream: flagSchema.optional(),
      starting_after: naturalSchema.optional(),
    }),
    response: objectSchema,
    canStream: true,
    handle: async ({ supervisor, by, headers, params, query }) => {
      const turn = await findTurn(supervisor, parseResponseId(params.id));
      if (query.stream === true) {
        const after = query.starting_after ?? -1;
        return toStream({ supervisor, by, headers }, { turn, options: {}, after });
      }
      return toJsonAnswer(await toView(supervisor, turn), { headers: toHeaders(turn) });
    },
  }),
  defineRoute({
    id: 'cancelResponse',
    method: 'POST',
    path: '/v1/responses/{id}/cancel',
    scope: 'operate',
    status: 200,
    summary: 'Interrupt the turn of a response; one that has ended stays as it is',
    params: responseParams,
    response: objectSchema,
    handle: async ({ supervisor, by, params, signal }) => {
      const turn = await findTurn(supervisor, parseResponseId(params.id));
      const activities = await readTurn(supervisor, turn);
      if (activities.some(({ kind }) => kind === 'ended')) {
        return toJsonAnswer(await toView(supervisor, turn), { headers: toHeaders(turn) });
      }
      if (isWaiting(turn, activities)) await checkNext(supervisor, turn);
      await supervisor.interrupt(turn.session, by);
      const builder = createResponseBuilder(turn, {}, 'replace');
      const ending = await followTurn(supervisor, turn, signal);
      return toJsonAnswer(await toWholeResponse(builder, ending), { headers: toHeaders(turn) });
    },
  }),
  defineRoute({
    id: 'listModels',
    method: 'GET',
    path: '/v1/models',
    scope: 'read',
    status: 200,
    summary: 'The agents, as models',
    response: z.looseObject({ object: z.literal('list'), data: z.array(objectSchema) }),
    handle: async ({ supervisor }) => {
      const data = supervisor.listAgents().map(toModel);
      return toJsonAnswer({ object: 'list', data });
    },
  }),
  defineRoute({
    id: 'getModel',
    method: 'GET',
    path: '/v1/models/{id}',
    scope: 'read',
    status: 200,
    summary: 'One agent, as a model',
    params: modelParams,
    response: objectSchema,
    handle: async ({ supervisor, params }) => {
      assertAgent(supervisor, params.id);
      return toJsonAnswer(toModel({ name: params.id }));
    },
  }),
];

function toModel({ name }: { name: string }): unknown {
  return { id: name, object: 'model', created: 0, owned_by: 'prx-supervisor' };
}

function toHeaders(turn: Turn): Record<string, string> {
  return { 'x-prx-session': turn.session };
}

/** The input is accepted: a client that tried again would ask for another turn. */
function toFinal(turn: Turn): Record<string, string> {
  return { ...toHeaders(turn), 'x-should-retry': 'false' };
}

function toFailure(turn: Turn, body: unknown): Answer {
  return toJsonAnswer(body, { status: 500, headers: toFinal(turn) });
}

interface ResponseStream {
  readonly turn: Turn;
  readonly options: ResponseOptions;
  readonly after: number;
  readonly refusedHeaders?: Record<string, string>;
}

function toStream(
  asking: Asking,
  { turn, options, after, refusedHeaders = {} }: ResponseStream,
): Answer {
  const watch = createWatch(asking, turn);
  return {
    kind: 'stream',
    headers: toHeaders(turn),
    refusedHeaders,
    open: async (signal) =>
      toResponseFrames(createResponseBuilder(turn, options, 'fail'), await watch(signal), after),
  };
}

async function toView(supervisor: Supervisor, turn: Turn): Promise<unknown> {
  const builder = createResponseBuilder(turn, {}, 'replace');
  return toWholeResponse(builder, await readTurn(supervisor, turn));
}

function isWaiting({ of }: Turn, activities: readonly Activity[]): boolean {
  return 'inputId' in of && !activities.some(({ kind }) => kind === 'started');
}

/** An interrupt ends the turn that is about to begin. @throws STATE_INVALID: that is another. */
async function checkNext(supervisor: Supervisor, turn: Turn): Promise<void> {
  const { state, activity, queued_inputs: queued } = await supervisor.getSession(turn.session);
  if (state === 'running' && activity === 'idle' && queued <= 1) return;
  if (!isWaiting(turn, await readTurn(supervisor, turn))) return;
  const message = `response ${toId('resp', turn)} waits for its turn; cancel the one before it`;
  throw new PrxError('STATE_INVALID', message);
}

/** @returns false when the turn will not begin, has ended meanwhile, or the signal aborted. */
async function untilStarted(
  supervisor: Supervisor,
  turn: Turn,
  signal: AbortSignal,
): Promise<boolean> {
  for await (const { kind } of await followTurn(supervisor, turn, signal))
    return kind === 'started';
  return false;
}

/** The turn's activities; a client that leaves before the end leaves the turn running, unless it
 *  said that its leaving cancels. */
function createWatch(
  asking: Asking,
  turn: Turn,
): (signal: AbortSignal) => Promise<AsyncIterable<Activity>> {
  const isCancelling = readDisconnect(asking.headers) === 'cancel';
  return async (signal) => {
    const activities = await followTurn(asking.supervisor, turn, signal);
    return isCancelling ? cancelWhenLeft(asking, turn, { activities, signal }) : activities;
  };
}

async function* cancelWhenLeft(
  { supervisor, by }: Asking,
  turn: Turn,
  { activities, signal }: { activities: AsyncIterable<Activity>; signal: AbortSignal },
): AsyncGenerator<Activity> {
  let isStarted = !('inputId' in turn.of);
  let isOver = false;
  try {
    for await (const activity of activities) {
      isStarted ||= activity.kind === 'started';
      isOver = activity.kind === 'ended' || activity.kind === 'lost';
      yield activity;
    }
  } finally {
    // An answer that ended at an approval has ended; its turn goes on.
    if (!isOver && signal.aborted) {
      // Before its turn, what runs is another's. Waits as long as the input does.
      isStarted ||= await untilStarted(supervisor, turn, new AbortController().signal);
      if (isStarted) await supervisor.interrupt(turn.session, by);
    }
  }
}

function readDisconnect(headers: IncomingHttpHeaders): 'cancel' | 'continue' {
  const value = headers['x-prx-on-disconnect'];
  if (value === undefined || value === 'continue') return 'continue';
  if (value === 'cancel') return 'cancel';
  const message = `the header x-prx-on-disconnect is '${value}'; use cancel or continue`;
  throw new PrxError('INVALID_REQUEST', message);
}

async function startResponse(asking: Asking, body: ResponseRequest): Promise<Turn> {
  const { supervisor, headers } = asking;
  const { previous_response_id: previousId, input, instructions } = body;
  const previous = previousId == null ? undefined : await findPrevious(asking, previousId);
  const items = typeof input === 'string' ? [toUserMessage(input)] : input;
  const approvals = items.filter((item): item is ApprovalItem => 'approve' in item);
  const messages = items.flatMap((item) => toMessage(item) ?? []);
  if (approvals.length > 0) {
    if (previous === undefined || messages.length > 0 || approvals.length > 1) {
      const message =
        'an mcp_approval_response is sent alone, with the previous_response_id that asked for it';
      throw new PrxError('INVALID_REQUEST', message, { data: { param: 'input' } });
    }
    return answerApproval(asking, previous, approvals[0]);
  }
  const session = previous?.session ?? sessionHeader(headers);
  if (previous !== undefined) await assertLatest(asking, previous);
  const told: Message[] =
    instructions == null || instructions === ''
      ? messages
      : [...messages.slice(0, -1), toInstructions(instructions), ...messages.slice(-1)];
  const agent = body.model ?? (await agentOfSession(supervisor, session));
  const content = toContent(told, { isContinued: session !== undefined, param: 'input' });
  return startTurn(asking, { agent, session, content });
}

/** @throws what is wrong with it, naming the parameter. */
async function findPrevious(asking: Asking, id: string): Promise<Address> {
  try {
    const address = parseResponseId(id);
    await assertNamed(asking, address);
    await findTurn(asking.supervisor, address);
    return address;
  } catch (cause) {
    const { code, message, data } = toPrxError(cause);
    throw new PrxError(code, message, { data: { ...data, param: 'previous_response_id' }, cause });
  }
}

function toUserMessage(text: string): Message {
  return { role: 'user', content: text };
}

function toInstructions(text: string): Message {
  return { role: 'developer', content: text };
}

async function agentOfSession(
  supervisor: Supervisor,
  session: string | undefined,
): Promise<string> {
  if (session !== undefined) return (await supervisor.getSession(session)).agent;
  const known = supervisor.listAgents().map(({ name }) => name);
  throw new PrxError('INVALID_REQUEST', `name a model; known: ${known.join(', ')}`, {
    data: { param: 'model' },
  });
}

/** A session has one line of history: only its newest response can be gone on from. The same
 *  request sent again, with its key, is no newer one. */
async function assertLatest({ supervisor, headers }: Asking, previous: Address): Promise<void> {
  const { session, seq } = previous;
  const types = ['input.accepted'];
  const page = await supervisor.readEvents(session, { since: seq, limit: 1, types });
  const event = page.events[0] === undefined ? undefined : parseEvent(page.events[0]);
  if (event?.type !== 'input.accepted') return;
  const key = headers['idempotency-key'];
  if (key !== undefined && event.data.idempotency_key === key) return;
  throw new PrxError(
    'INVALID_REQUEST',
    `the session went on behind ${toId('resp', previous)}: go on from its newest response, ` +
      `or fork session ${session} at an earlier event`,
    { data: { param: 'previous_response_id' } },
  );
}

/** Answers the approval; the response goes on with the turn that waited for it. */
async function answerApproval(
  { supervisor, by }: Asking,
  { session, seq }: Address,
  item: ApprovalItem | undefined,
): Promise<Turn> {
  const callId = effectIdSchema.safeParse(item?.approval_request_id.replace(/^mcpr_/, '')).data;
  if (item === undefined || callId === undefined) {
    throw new PrxError('NOT_FOUND', `there is no approval '${item?.approval_request_id}'`);
  }
  const decision = item.approve ? 'approve' : 'deny';
  const reason = item.reason == null ? {} : { reason: item.reason };
  await supervisor.resolveApproval(session, callId, { decision, ...reason }, by);
  const types = ['approval.resolved'];
  for (let since = seq; ; ) {
    const page = await supervisor.readEvents(session, { since, limit: 100, types });
    for (const envelope of page.events) {
      const event = parseEvent(envelope);
      if (event?.type !== 'approval.resolved' || event.data.call_id !== callId) continue;
      return findTurn(supervisor, { session, seq: event.seq });
    }
    if (page.events.length === 0 || page.next === since) break;
    since = page.next;
  }
  throw new PrxError('NOT_FOUND', `the answer to ${item.approval_request_id} is not there yet`);
}
