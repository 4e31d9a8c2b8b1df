/** Sessions as tools of an MCP server: what another agent needs to hand out work, look at it, and
 *  answer for it. Every tool is one or two calls of the api. A tool call that waits is bounded; the
 *  turn it waits for is not, and goes on when the caller leaves. */
import { type CallToolResult, McpServer } from '@modelcontextprotocol/server';
import { z } from 'zod';
import type { ApiClient } from '../../api/client.ts';
import type { Clock } from '../../base/clock.ts';
import { isPrxError } from '../../base/errors.ts';
import type { Random } from '../../base/random.ts';
import type { SessionView } from '../../protocol/resources.ts';
import { followTurn } from '../session/follow-turn.ts';
import { pageEvents } from '../session/history.ts';

export interface McpDeps {
  readonly api: ApiClient;
  readonly clock: Clock;
  readonly random: Random;
  readonly version: string;
}

/** Seconds. Clients give up on a tool call after some minutes, whatever it is for. */
const WAIT_SECS_DEFAULT = 50;
const WAIT_SECS_MAX = 600;
/** Characters of an answer; the rest is in the events. */
const ANSWER_CHARS_MAX = 100_000;
const SESSIONS_MAX = 100;

const session = z.string().min(1).max(128).describe('Id, name, part of an id, or @last.');
const waitSecs = z
  .number()
  .min(0)
  .max(WAIT_SECS_MAX)
  .default(WAIT_SECS_DEFAULT)
  .describe('Seconds to wait for the end of the turn. The turn goes on after them.');

const promptInput = z.strictObject({
  prompt: z.string().min(1).max(1_000_000).describe('What the agent is to do.'),
  session: session.optional().describe('A session to go on with. Absent: a new one.'),
  agent: z.string().min(1).max(64).optional().describe('For a new session; see the config.'),
  workspace: z
    .string()
    .max(4096)
    .optional()
    .describe('For a new session: absolute path of its folder. Absent: a private one.'),
  wait_secs: waitSecs,
});
const sessionInput = z.strictObject({ session });
const approvalInput = z.strictObject({
  session,
  call_id: z.string().max(64).describe('As list_approvals shows it.'),
  decision: z.enum(['approve', 'deny']),
  reason: z.string().max(2000).optional().describe('Told to the agent when it is denied.'),
});

const readOnly = { readOnlyHint: true, openWorldHint: false };
const acting = { readOnlyHint: false, destructiveHint: true, openWorldHint: true };

/** Without a schema a tool would take any argument, and heed none. */
const toListing = (description: string) => ({
  description,
  inputSchema: z.strictObject({}),
  annotations: readOnly,
});

/** A server for one connection. */
export function createMcpServer(deps: McpDeps): McpServer {
  const { api } = deps;
  const server = new McpServer(
    { name: 'prx-supervisor', version: deps.version },
    {
      instructions:
        'Each session is a durable conversation with an agent that works on its own: it survives ' +
        'restarts, and so does its work. Start work with prompt_session; while it still runs ' +
        'afterwards, look again with wait_for_session.',
    },
  );
  server.registerTool(
    'prompt_session',
    {
      description:
        'Give an agent work and wait for its answer. Makes a session, or goes on with one.',
      inputSchema: promptInput,
      annotations: acting,
    },
    (args, context) => told(() => promptSession(deps, args, context.mcpReq.signal)),
  );
  server.registerTool(
    'wait_for_session',
    {
      description: 'Wait until the newest input of a session is answered; gives the answer.',
      inputSchema: z.strictObject({ session, wait_secs: waitSecs }),
      annotations: readOnly,
    },
    (args, context) =>
      told(async () => {
        const view = await api.getSession(args.session);
        const input = await findNewestInput(api, view);
        if (input === undefined) return toResult(`session ${view.id} has no input yet`, view);
        return waitForAnswer(deps, { view, ...input, waitSecs: args.wait_secs }, context.mcpReq);
      }),
  );
  server.registerTool('list_sessions', toListing('All sessions, newest first.'), () =>
    told(async () => {
      const views = await api.listSessions();
      const lines = views.slice(0, SESSIONS_MAX).map(toLine);
      const rest = views.length - lines.length;
      const tail = rest > 0 ? [`and ${rest} older ones`] : [];
      return toText([...lines, ...tail].join('\n') || 'there is no session');
    }),
  );
  server.registerTool(
    'get_session',
    {
      description: 'State, usage, cost and workspace of one session.',
      inputSchema: sessionInput,
      annotations: readOnly,
    },
    (args) => told(async () => toText(toJson(await api.getSession(args.session)))),
  );
  server.registerTool(
    'list_approvals',
    toListing('Tool calls that wait for somebody to approve them.'),
    () =>
      told(async () => {
        const approvals = await api.listApprovals();
        return toText(approvals.map(toJson).join('\n') || 'nothing waits for approval');
      }),
  );
  server.registerTool(
    'answer_approval',
    {
      description: 'Approve or deny a tool call that waits.',
      inputSchema: approvalInput,
      annotations: acting,
    },
    (args) =>
      told(async () => {
        const { decision, reason } = args;
        const why = reason === undefined ? {} : { reason };
        await api.resolveApproval(args.session, args.call_id, { decision, ...why });
        return toText(decision === 'approve' ? 'approved' : 'denied');
      }),
  );
  for (const [name, description, act] of [
    ['interrupt_session', 'Stop the running turn; the session goes on.', api.interrupt],
    ['close_session', 'Close a session; its journal stays and it can be restarted.', api.close],
  ] as const) {
    server.registerTool(
      name,
      { description, inputSchema: sessionInput, annotations: acting },
      (args) => told(async () => toText(toLine(await act(args.session)))),
    );
  }
  return server;
}

async function promptSession(
  deps: McpDeps,
  args: z.output<typeof promptInput>,
  signal: AbortSignal,
): Promise<CallToolResult> {
  const { api, random } = deps;
  const { agent, workspace } = args;
  const chosen = {
    ...(agent === undefined ? {} : { agent }),
    ...(workspace === undefined ? {} : { workspace }),
  };
  const view =
    args.session === undefined
      ? (await api.createSession({ ...chosen, idempotency_key: random.uuid() })).view
      : await api.getSession(args.session);
  const key = random.uuid();
  // From here on there is a session, which the caller has to know of.
  return told(async () => {
    const accepted = await api.sendInput(view.id, { text: args.prompt, idempotency_key: key });
    const input = { view, inputId: accepted.input_id, seq: accepted.seq, waitSecs: args.wait_secs };
    return waitForAnswer(deps, input, { signal });
  }, `session ${view.id}\n\n`);
}

interface Waiting {
  readonly view: SessionView;
  readonly inputId: string;
  readonly seq: number;
  readonly waitSecs: number;
}

async function waitForAnswer(
  { api, clock }: McpDeps,
  { view, inputId, seq, waitSecs }: Waiting,
  caller: { readonly signal: AbortSignal },
): Promise<CallToolResult> {
  const stop = new AbortController();
  const timer = clock.setTimer(waitSecs * 1000, () => stop.abort());
  const signal = AbortSignal.any([stop.signal, caller.signal]);
  const parts: string[] = [];
  // Of them, those of steps that have ended.
  let standing = 0;
  try {
    const follow = { client: api, sessionId: view.id, inputId, seq, signal };
    const { end, lost } = await followTurn({
      ...follow,
      onPiece: (piece) => {
        if (piece.kind === 'text') parts.push(piece.text);
        if (piece.kind === 'text-end') standing = parts.push('\n');
        if (piece.kind === 'superseded') parts.length = standing;
      },
    });
    const now = await api.getSession(view.id);
    const said = shorten(parts.join('').trim());
    if (lost !== undefined) return { ...toResult(lost, now), isError: true };
    if (end === undefined) return toResult(toUnfinished(said, now), now);
    if (end.outcome === 'completed') return toResult(said, now);
    const reason = end.error?.message ?? end.reason;
    const why = `the turn ended as ${end.outcome}${reason ? `: ${reason}` : ''}`;
    return { ...toResult([said, why].filter(Boolean).join('\n\n'), now), isError: true };
  } finally {
    timer.cancel();
  }
}

function toUnfinished(said: string, view: SessionView): string {
  const waits = view.pending_approvals > 0;
  const why = waits ? 'it waits for an approval (list_approvals)' : 'it is still working';
  const hint = `${why}; look again with wait_for_session ${view.id}`;
  return said === '' ? hint : `${said}\n\n${hint}`;
}

function shorten(text: string): string {
  if (text.length <= ANSWER_CHARS_MAX) return text;
  const cut = text.length - ANSWER_CHARS_MAX;
  return `(${cut} characters before this are in the events)\n${text.slice(cut)}`;
}

async function findNewestInput(
  api: ApiClient,
  view: SessionView,
): Promise<{ inputId: string; seq: number } | undefined> {
  let found: { inputId: string; seq: number } | undefined;
  const request = { client: api, sessionId: view.id, since: 0, types: ['input.accepted'] };
  for await (const { seq, data } of pageEvents(request)) {
    const { input_id: inputId } = inputIdOnly.parse(data);
    found = { inputId, seq };
  }
  return found;
}

const inputIdOnly = z.object({ input_id: z.string() });

function toLine(view: SessionView): string {
  const name = view.name === undefined ? '' : ` (${view.name})`;
  const waits = view.pending_approvals > 0 ? ', waits for approval' : '';
  return `${view.id}${name}: ${view.state}, ${view.activity}${waits}, turn ${view.turn}`;
}

/** The first line says which session, for the next call. */
function toResult(text: string, view: SessionView): CallToolResult {
  return toText(`session ${toLine(view)}\n\n${text}`);
}

function toText(text: string): CallToolResult {
  return { content: [{ type: 'text', text }] };
}

function toJson(value: unknown): string {
  return JSON.stringify(value);
}

/** Our errors are results that the calling model reads, with their advice. */
async function told(act: () => Promise<CallToolResult>, before = ''): Promise<CallToolResult> {
  try {
    return await act();
  } catch (error) {
    if (!isPrxError(error)) throw error;
    return { ...toText(`${before}${error.code}: ${error.message}`), isError: true };
  }
}
