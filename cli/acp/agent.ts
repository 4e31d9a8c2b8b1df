/** The ACP agent: an editor's requests mapped to the api. A session of the editor is one of ours,
 *  by the same id, so it can be attached to from anywhere while the editor is open, and is still
 *  there after the editor was closed. */
import {
  type AgentApp,
  type AgentContext,
  agent,
  type ContentBlock,
  methods,
  PROTOCOL_VERSION,
  type PromptRequest,
  RequestError,
  type SessionModeState,
} from '@agentclientprotocol/sdk';
import type { ApiClient } from '../../api/client.ts';
import { isPrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { Random } from '../../base/random.ts';
import type { ContentPart } from '../../protocol/content.ts';
import type { SessionView } from '../../protocol/resources.ts';
import { findFirst } from '../session/history.ts';
import { type Attachment, type Mode, openAttachment } from './attachment.ts';
import { toFolders, toSessionPage } from './session-list.ts';
import { toParts, toStopReason } from './updates.ts';

export interface AcpDeps {
  readonly api: ApiClient;
  readonly logger: Logger;
  readonly random: Random;
  readonly version: string;
  /** Of new sessions; absent: the default one. */
  readonly agent: string | undefined;
}

const modes: Readonly<Record<Mode, { name: string; description: string }>> = {
  ask: { name: 'Ask', description: 'What needs approval is put to you' },
  allow: { name: 'Allow', description: 'What needs approval is approved for you' },
  deny: { name: 'Deny', description: 'What needs approval is denied for you' },
};

/** An app that serves one connection. */
export function createAcpAgent(deps: AcpDeps): AgentApp {
  const { api, random, logger } = deps;
  const attached = new Map<string, Attachment>();

  function attach(view: SessionView, client: AgentContext, since: number): Attachment {
    attached.get(view.id)?.close();
    const position = { since, liveAt: view.last_seq };
    const { id: sessionId, workspace } = view;
    const attachment = openAttachment({ api, client, logger, sessionId, workspace }, position);
    attached.set(view.id, attachment);
    return attachment;
  }

  /** One that lost its events, as when the supervisor was away for long, goes on where it was. */
  async function find(sessionId: string, client: AgentContext): Promise<Attachment> {
    const attachment = attached.get(sessionId);
    if (attachment === undefined) {
      const hint = `session ${sessionId} is not open here: session/load or session/resume first`;
      throw RequestError.invalidParams(undefined, hint);
    }
    if (!attachment.isLost()) return attachment;
    const next = attach(await api.getSession(sessionId), client, attachment.seen());
    next.mode = attachment.mode;
    return next;
  }

  /** Also when the editor has loaded or resumed the session meanwhile. */
  async function waitForEnd(
    attachment: Attachment,
    sessionId: string,
    inputId: string,
  ): ReturnType<Attachment['turnEnd']> {
    try {
      return await attachment.turnEnd(inputId);
    } catch (error) {
      const next = attached.get(sessionId);
      if (next === undefined || next === attachment) throw error;
      return waitForEnd(next, sessionId, inputId);
    }
  }

  async function prompt({ sessionId, prompt: blocks }: PromptRequest, client: AgentContext) {
    const attachment = await find(sessionId, client);
    const content = toContent(blocks);
    const key = random.uuid();
    attachment.expectInput(key);
    const input = await api.sendInput(sessionId, { content, idempotency_key: key });
    const end = await waitForEnd(attachment, sessionId, input.input_id);
    const stopReason = toStopReason(end);
    if (stopReason !== undefined) return { stopReason };
    const why = end.error?.message ?? end.reason ?? 'see the events of the session';
    throw RequestError.internalError(undefined, `the turn failed: ${why}`);
  }

  return agent({ name: 'prx-supervisor' })
    .onConnect((connection) => {
      void connection.closed.then(() => {
        for (const attachment of attached.values()) attachment.close();
      });
    })
    .onRequest(methods.agent.initialize, () => ({
      protocolVersion: PROTOCOL_VERSION,
      agentInfo: { name: 'prx-supervisor', version: deps.version },
      authMethods: [],
      agentCapabilities: {
        loadSession: true,
        promptCapabilities: { image: true, embeddedContext: true },
        sessionCapabilities: { list: {}, resume: {}, close: {}, delete: {} },
      },
    }))
    .onRequest(methods.agent.authenticate, () => ({}))
    .onRequest(methods.agent.session.new, ({ params, client }) =>
      told(async () => {
        const agentName = deps.agent === undefined ? {} : { agent: deps.agent };
        const workspace = params.cwd;
        const { view } = await api.createSession({ workspace, ...agentName });
        attach(view, client, view.last_seq);
        return { sessionId: view.id, modes: toModes('ask') };
      }),
    )
    .onRequest(methods.agent.session.load, ({ params, client }) =>
      told(async () => {
        const view = await reopen(api, params.sessionId);
        await attach(view, client, await findFirst(api, view.id)).live;
        return { modes: toModes('ask') };
      }),
    )
    .onRequest(methods.agent.session.resume, ({ params, client }) =>
      told(async () => {
        const view = await reopen(api, params.sessionId);
        // One that is open already goes on where it is, or an end would be passed over.
        attach(view, client, attached.get(view.id)?.seen() ?? view.last_seq);
        return { modes: toModes('ask') };
      }),
    )
    .onRequest(methods.agent.session.list, ({ params }) =>
      told(async () => {
        const folders = await toFolders(params.cwd);
        return toSessionPage(await api.listSessions(), { folders, cursor: params.cursor });
      }),
    )
    .onRequest(methods.agent.session.close, ({ params }) =>
      told(async () => {
        // The editor's tab is closed; the session stays, as it does when a terminal detaches.
        attached.get(params.sessionId)?.close();
        attached.delete(params.sessionId);
        return {};
      }),
    )
    .onRequest(methods.agent.session.delete, ({ params }) =>
      told(async () => {
        attached.get(params.sessionId)?.close();
        attached.delete(params.sessionId);
        await api.deleteSession(params.sessionId);
        return {};
      }),
    )
    .onRequest(methods.agent.session.setMode, ({ params, client }) =>
      told(async () => {
        (await find(params.sessionId, client)).mode = toMode(params.modeId);
        return {};
      }),
    )
    .onRequest(methods.agent.session.prompt, ({ params, client }) =>
      told(() => prompt(params, client)),
    )
    .onNotification(methods.agent.session.cancel, async ({ params }) => {
      await (attached.get(params.sessionId)?.cancel() ?? api.interrupt(params.sessionId));
    });
}

/** A session that was closed is opened again: that is what asking for it means. */
async function reopen(api: ApiClient, sessionId: string): Promise<SessionView> {
  const view = await api.getSession(sessionId);
  return view.state === 'stopped' || view.state === 'failed' ? api.restart(view.id) : view;
}

/** Our errors with their code and advice; others pass through. */
async function told<T>(act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (!isPrxError(error)) throw error;
    const data = { code: error.code, message: error.message };
    if (error.code === 'SESSION_NOT_FOUND') throw new RequestError(-32002, error.message, data);
    const isAsked = error.code === 'INVALID_REQUEST' || error.code === 'WORKSPACE_REFUSED';
    throw new RequestError(isAsked ? -32602 : -32603, error.message, data);
  }
}

function toModes(currentModeId: Mode): SessionModeState {
  const availableModes = Object.entries(modes).map(([id, mode]) => ({ id, ...mode }));
  return { currentModeId, availableModes };
}

function toMode(id: string): Mode {
  if (id === 'ask' || id === 'allow' || id === 'deny') return id;
  const known = Object.keys(modes).join(', ');
  throw RequestError.invalidParams(undefined, `there is no mode '${id}'; known: ${known}`);
}

function toContent(blocks: readonly ContentBlock[]): ContentPart[] {
  const content = blocks.flatMap((block) => {
    const parts = toParts(block);
    if (parts !== undefined) return parts;
    throw RequestError.invalidParams(undefined, `a prompt cannot hold a block of ${block.type}`);
  });
  if (content.length > 0) return content;
  throw RequestError.invalidParams(undefined, 'the prompt is empty');
}
