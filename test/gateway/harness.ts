/** A gateway linked in memory, a scripted HTTP server for what the mock of others cannot do, and
 *  a clock that stands still until it is told. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readAppendLog } from '../../base/append-log.ts';
import { type Clock, realClock, sleepWith } from '../../base/clock.ts';
import { silentLogger } from '../../base/logger.ts';
import { realRandom } from '../../base/random.ts';
import { type Gateway, startGateway } from '../../gateway/server.ts';
import { type Connection, createConnection } from '../../protocol/connection.ts';
import type { ProviderMessage } from '../../protocol/content.ts';
import {
  type AttemptOutcome,
  gatewayNotifications,
  gatewayReports,
  gatewayRequests,
  type ModelDelta,
  type ProviderSettings,
} from '../../protocol/gateway-methods.ts';
import {
  type EffectId,
  effectIdSchema,
  type SessionId,
  sessionIdSchema,
} from '../../protocol/ids.ts';
import type { ToolSpec } from '../../protocol/tools.ts';
import { createMemoryPair } from '../../protocol/transport.ts';

export const SESSION: SessionId = sessionIdSchema.parse('s_0123456789abcdef');
export const EFFECT: EffectId = effectIdSchema.parse('3.1');
export const KEY = 'sk-test-0123456789abcdefghij';

export const shellTool: ToolSpec = {
  name: 'shell',
  description: 'Run a command.',
  parameters: { type: 'object', properties: { command: { type: 'string' } } },
};

export function toSettings(changes: Partial<ProviderSettings> = {}): ProviderSettings {
  return {
    kind: 'openai',
    api: 'chat',
    apiKeyEnv: 'OPENAI_API_KEY',
    connectTimeoutMs: 5_000,
    firstTokenTimeoutMs: 5_000,
    idleTimeoutMs: 5_000,
    totalTimeoutMs: 10_000,
    maxRetries: 2,
    retryBaseMs: 100,
    retryMaxMs: 60_000,
    fallbacks: [],
    prices: {},
    ...changes,
  };
}

export function say(text: string): ProviderMessage {
  return { role: 'user', content: [{ type: 'text', text }] };
}

const gatewaySide = { requests: gatewayRequests, notifications: gatewayNotifications };

export interface Ask {
  readonly messages?: readonly ProviderMessage[];
  readonly tools?: readonly ToolSpec[];
  readonly model?: string;
  readonly attempt?: number;
  readonly effect?: EffectId;
  readonly parallelToolCalls?: boolean;
}

export interface Linked {
  readonly gateway: Gateway;
  readonly connection: Connection<typeof gatewaySide>;
  readonly deltas: ModelDelta[];
  /** Called with each delta as it comes. */
  onDelta: (delta: ModelDelta) => void;
  readonly settings: ProviderSettings;
  generate(ask?: Ask): Promise<AttemptOutcome>;
  spoolPath(attempt?: number, effect?: EffectId): string;
  readSpool(attempt?: number): readonly unknown[];
  close(): void;
}

export interface LinkSpec {
  readonly settings?: Partial<ProviderSettings>;
  readonly env?: Readonly<Record<string, string>>;
  readonly clock?: Clock;
  /** Default true: gateway/initialize is called. */
  readonly initialize?: boolean;
}

/** Linked and, unless the spec says no, initialized. */
export async function linkGateway(spec: LinkSpec = {}): Promise<Linked> {
  const folder = mkdtempSync(join(tmpdir(), 'prx-gateway-'));
  const env = spec.env ?? { OPENAI_API_KEY: KEY };
  const [ours, theirs] = createMemoryPair();
  const gateway = startGateway({
    transport: theirs,
    clock: spec.clock ?? realClock,
    random: { ...realRandom, next: () => 0.5 },
    logger: silentLogger,
    findEnv: (name) => env[name],
    pid: 4711,
  });
  const deltas: ModelDelta[] = [];
  const connection = createConnection({
    transport: ours,
    clock: realClock,
    peer: 'the gateway',
    local: { requests: {}, notifications: gatewayReports },
    remote: gatewaySide,
    requests: {},
    notifications: {
      'gateway/ready': () => undefined,
      'model/delta': (delta) => {
        deltas.push(delta);
        linked.onDelta(delta);
      },
    },
  });
  const settings = toSettings(spec.settings);
  const spoolPath = (attempt = 1, effect = EFFECT): string =>
    join(folder, `${effect}-${attempt}.spool`);
  const linked: Linked = {
    gateway,
    connection,
    deltas,
    onDelta: () => undefined,
    settings,
    spoolPath,
    readSpool: (attempt) => readAppendLog(spoolPath(attempt)).records.map(({ value }) => value),
    generate(ask = {}) {
      const { attempt = 1, effect = EFFECT } = ask;
      const params = {
        session: SESSION,
        effect,
        attempt,
        spoolPath: spoolPath(attempt, effect),
        model: ask.model ?? 'test-model',
        messages: [...(ask.messages ?? [say('hello')])],
        tools: [...(ask.tools ?? [])],
        parallelToolCalls: ask.parallelToolCalls ?? true,
      };
      return connection.request('model/generate', params, { timeoutMs: 12_000 });
    },
    close() {
      connection.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
  if (spec.initialize === false) return linked;
  try {
    await connection.request('gateway/initialize', { provider: settings }, { timeoutMs: 2_000 });
  } catch (error) {
    linked.close();
    throw error;
  }
  return linked;
}

export interface ScriptedServer {
  /** What to set as base URL. */
  readonly url: string;
  /** The requests seen, with their bodies. */
  readonly seen: { readonly path: string; readonly body: unknown }[];
  close(): Promise<void>;
}

export type Script = (response: ServerResponse, request: IncomingMessage) => void;

/** Answers each request as the script says, once its body was read. */
export async function startScriptedServer(script: Script): Promise<ScriptedServer> {
  const seen: { path: string; body: unknown }[] = [];
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      const text = Buffer.concat(parts).toString('utf8');
      const body: unknown = text === '' ? undefined : JSON.parse(text);
      seen.push({ path: request.url ?? '', body });
      script(response, request);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/v1`,
    seen,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** The head of a stream, then these events (strings are sent as they are). */
export function sendEvents(response: ServerResponse, ...events: readonly unknown[]): void {
  if (!response.headersSent) response.writeHead(200, { 'content-type': 'text/event-stream' });
  for (const event of events) {
    const data = typeof event === 'string' ? event : JSON.stringify(event);
    response.write(`data: ${data}\n\n`);
  }
}

/** A chunk of Chat Completions that says `content`. */
export function chatText(content: string): unknown {
  return {
    model: 'test-model-1',
    choices: [{ index: 0, delta: { content }, finish_reason: null }],
  };
}

export function chatFinish(reason: string): unknown {
  return { model: 'test-model-1', choices: [{ index: 0, delta: {}, finish_reason: reason }] };
}

export interface ManualClock extends Clock {
  /** Moves on and fires what is due, in order. */
  advance(ms: number): void;
}

export function createManualClock(): ManualClock {
  const timers = new Set<{ atMs: number; fire: () => void }>();
  let nowMs = 0;
  const clock: ManualClock = {
    nowMs: () => nowMs,
    wallMs: () => nowMs,
    setTimer(delayMs, fire) {
      const timer = { atMs: nowMs + delayMs, fire };
      timers.add(timer);
      return { cancel: () => void timers.delete(timer) };
    },
    sleep: (delayMs, signal) => sleepWith(clock, delayMs, signal),
    advance(ms) {
      const untilMs = nowMs + ms;
      for (;;) {
        const due = [...timers].filter(({ atMs }) => atMs <= untilMs);
        const next = due.sort((a, b) => a.atMs - b.atMs)[0];
        if (next === undefined) break;
        timers.delete(next);
        nowMs = next.atMs;
        next.fire();
      }
      nowMs = untilMs;
    },
  };
  return clock;
}
