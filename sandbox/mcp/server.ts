/** One MCP server, connected: its tools, its answers, its end. Nothing it says is believed: its
 *  schemas are only interpreted (never compiled to code), its hints about effects are not read. */
import { Client, SdkHttpError, type Transport } from '@modelcontextprotocol/client';
import { CfWorkerJsonSchemaValidator } from '@modelcontextprotocol/client/validators/cf-worker';
import { z } from 'zod';
import { background } from '../../base/background.ts';
import type { Clock } from '../../base/clock.ts';
import { PrxError, toPrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { McpListing } from '../../protocol/mcp-methods.ts';
import { type CallEnd, describe, toCallEnd } from './call-end.ts';
import { cleanText, TOOLS_MAX, toListing } from './listing.ts';
import { toParamHeaders } from './param-headers.ts';
import { createRelisting } from './relisting.ts';
import { callResultSchema } from './result.ts';
import { createUnaskedCount } from './unasked.ts';

export interface ServerSpec {
  readonly name: string;
  readonly transport: Transport;
  /** Resolves when a transport that can end by itself has; with the reason. */
  readonly ended: Promise<string>;
  /** auto: it is asked which revisions it speaks, and greeted in the old way if it cannot say. */
  readonly era: 'auto' | 'legacy';
  readonly clock: Clock;
  readonly logger: Logger;
  /** It says nothing any more; absent: nothing of ours would end with it. */
  readonly onHung?: (() => void) | undefined;
  readonly onChanged: (listing: McpListing) => void;
}

export interface CallSpec {
  readonly tool: string;
  readonly arguments: unknown;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

export interface McpServer {
  listing(): McpListing;
  /** A sentence about what is wrong; undefined: nothing. */
  findProblem(tool: string, value: unknown): string | undefined;
  /** Never rejects. */
  call(spec: CallSpec): Promise<CallEnd>;
  readonly ended: Promise<string>;
  close(): Promise<void>;
}

const START_MS = 30_000;
const LIST_MS = 15_000;
const PING_MS = 5000;
const PAGES_MAX = 32;
/** Kept of the pages before anything is judged. */
const LISTED_MAX = 4 * TOOLS_MAX;
const PROBLEM_CHARS_MAX = 500;

const pageSchema = z.object({
  tools: z.array(z.unknown()),
  nextCursor: z.string().max(4096).nullish(),
});

/** Throws MCP_UNAVAILABLE. */
export async function connectServer(spec: ServerSpec): Promise<McpServer> {
  const { name, transport, clock, logger, onChanged } = spec;
  const validators = new CfWorkerJsonSchemaValidator({ shortcircuit: false });
  const client = new Client(
    { name: 'prx-supervisor', version: '1' },
    {
      capabilities: {},
      jsonSchemaValidator: validators,
      versionNegotiation: { mode: spec.era, probe: { timeoutMs: START_MS } },
    },
  );
  const lost = Promise.withResolvers<string>();
  let listing: McpListing = { tools: [], problems: [] };
  const unasked = createUnaskedCount(clock, (reason) => {
    lost.resolve(reason);
    background(client.close(), 'mcp.close', logger);
  });
  let heard = 0;
  const { onmessage } = transport;
  transport.onmessage = (message, extra) => {
    onmessage?.(message, extra);
    heard += 1;
    if ('method' in message) unasked.add();
  };
  client.onerror = (error) => {
    // Among them each answer to a question that was never asked.
    unasked.add();
    logger.debug('mcp.transport', { server: name, error: error.message });
  };
  const relisting = createRelisting(clock, listAgain);
  client.setNotificationHandler('notifications/tools/list_changed', relisting.changed);

  async function listAgain(): Promise<void> {
    try {
      listing = await listTools(client, name);
      onChanged(listing);
    } catch (error) {
      logger.warn('mcp.list_failed', { server: name, error: toPrxError(error).message });
    }
  }

  let isChecking = false;
  /** Behind a call that was not answered: one that hangs would have every other wait for its limit
   *  as well. Whatever it says meanwhile is a sign of life. */
  async function checkHung(): Promise<void> {
    if (spec.onHung === undefined || isChecking) return;
    isChecking = true;
    const before = heard;
    await client.ping({ timeout: PING_MS }).catch(() => undefined);
    isChecking = false;
    if (heard === before) spec.onHung();
  }

  const ended = Promise.race([lost.promise, spec.ended]);
  try {
    await Promise.race([
      client.connect(transport, { timeout: START_MS }),
      ended.then((reason) => Promise.reject(new Error(reason))),
    ]);
    listing = await listTools(client, name);
  } catch (error) {
    const reason = await whyEnded([lost.promise, spec.ended], error);
    await client.close();
    const message = `the MCP server ${name} could not be used: ${reason}`;
    throw new PrxError('MCP_UNAVAILABLE', message, { data: { server: name }, cause: error });
  }

  return {
    listing: () => listing,
    findProblem(tool, value) {
      const found = listing.tools.find((each) => each.spec.name === tool);
      if (found === undefined) return toUnknown(name, tool);
      return findProblem(validators, found.spec.parameters, value);
    },
    async call({ tool, arguments: value, timeoutMs, signal }) {
      const found = listing.tools.find((each) => each.spec.name === tool);
      if (found === undefined) return { kind: 'failed', message: toUnknown(name, tool) };
      const args = value as Record<string, unknown>; // it was checked against a schema of an object
      const request = { method: 'tools/call', params: { name: found.name, arguments: args } };
      try {
        const isModern = hasParamHeaders(client);
        const headers = isModern ? toParamHeaders(found.spec.parameters, args) : {};
        const limits = { timeout: timeoutMs, maxTotalTimeout: timeoutMs };
        const options = { ...limits, signal, headers };
        const result = await client.request(request, callResultSchema, options);
        return { kind: 'result', result };
      } catch (error) {
        if (await isForgotten(error, client)) {
          lost.resolve(FORGOTTEN);
          return { kind: 'failed', message: `${FORGOTTEN}; nothing ran; call again` };
        }
        const end = toCallEnd(error, signal);
        if (end.kind === 'timeout') background(checkHung(), 'mcp.check', logger);
        if (end.kind !== 'lost') return end;
        const detail = await whyEnded([lost.promise, spec.ended], error);
        // A server behind a URL that lost us is asked anew by the next host.
        lost.resolve(detail);
        return { kind: 'lost', detail };
      }
    },
    ended,
    async close() {
      relisting.stop();
      await client.close();
    },
  };
}

const FORGOTTEN = 'it does not know our connection any more and is asked for a new one';

/** What was set up with it is over; without that, 404 is about the one request. Many servers, some
 *  of the official ones among them, say 400 instead, and then to a ping as well.
 *  Source: MCP 2025-11-25, Streamable HTTP, session management. */
async function isForgotten(error: unknown, client: Client): Promise<boolean> {
  const hadSession = client.transport?.sessionId !== undefined;
  if (!hadSession || !(error instanceof SdkHttpError)) return false;
  if (error.status !== 400) return error.status === 404;
  return await client.ping({ timeout: PING_MS }).then(
    () => false,
    (again: unknown) => again instanceof SdkHttpError && again.status === 400,
  );
}

/** Its own end says more than the request that failed by it. */
async function whyEnded(ends: readonly Promise<string>[], error: unknown): Promise<string> {
  const none = Promise.resolve(undefined);
  return (await Promise.race([...ends, none])) ?? describe(error);
}

/** Of revision 2026-07-28 on; over a pipe, where nobody stands between, they are not read. */
function hasParamHeaders(client: Client): boolean {
  return client.getProtocolEra() === 'modern';
}

async function listTools(client: Client, server: string): Promise<McpListing> {
  if (client.getServerCapabilities()?.tools === undefined) {
    return { tools: [], problems: ['it offers no tools'] };
  }
  const rules = { withHeaders: hasParamHeaders(client) };
  const tools: unknown[] = [];
  let cursor: string | undefined;
  for (let page = 0; page < PAGES_MAX; page += 1) {
    const params = cursor === undefined ? {} : { cursor };
    const request = { method: 'tools/list', params };
    const answer = await client.request(request, pageSchema, { timeout: LIST_MS });
    tools.push(...answer.tools.slice(0, LISTED_MAX - tools.length));
    // Null and nothing between the quotes are how some languages write that there is none.
    cursor = answer.nextCursor || undefined;
    if (cursor === undefined) return toListing(server, tools, rules);
    if (tools.length >= LISTED_MAX) break;
  }
  const listing = toListing(server, tools, rules);
  const cut = `its list goes on behind ${tools.length} tools; the rest was not read`;
  return { ...listing, problems: [cut, ...listing.problems] };
}

function findProblem(
  validators: CfWorkerJsonSchemaValidator,
  schema: Readonly<Record<string, unknown>>,
  value: unknown,
): string | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return 'the arguments are no JSON object';
  }
  try {
    const { valid, errorMessage } = validators.getValidator(schema)(value);
    if (valid) return undefined;
    return `the arguments do not fit: ${cleanText(errorMessage ?? '').slice(0, PROBLEM_CHARS_MAX)}`;
  } catch (error) {
    // A schema that refers to itself for ever, or to what is not there.
    const why = describe(error).slice(0, PROBLEM_CHARS_MAX);
    return `the schema of this tool cannot be used (${why})`;
  }
}

function toUnknown(server: string, tool: string): string {
  return `the MCP server ${server} has no tool ${tool} (any more)`;
}
