/** What the api tests share: a server over the supervisor in memory, on a socket and a TCP port,
 *  and an HTTP exchange that hides nothing. */
import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ApiClient, createClient } from '../../api/client.ts';
import { type Api, type ApiOptions, createApi } from '../../api/server.ts';
import { type Clock, realClock } from '../../base/clock.ts';
import { silentLogger } from '../../base/logger.ts';
import { realRandom } from '../../base/random.ts';
import type { Credential, TokenBook } from '../../supervisor/index.ts';
import { openTokenBook } from '../../supervisor/token-book.ts';
import { MemorySupervisor } from './memory-supervisor.ts';

export const tokens = {
  read: 'token-read',
  approve: 'token-approve',
  operate: 'token-operate',
  admin: 'token-admin',
};

export const tokenEntries: readonly Credential[] = Object.entries(tokens).map(([scope, token]) => ({
  name: scope,
  sha256: createHash('sha256').update(token).digest('hex'),
  scopes: [scope as keyof typeof tokens],
}));

export interface Rig {
  readonly api: Api;
  readonly supervisor: MemorySupervisor;
  readonly tokens: TokenBook;
  /** Token events, as they would stand in the journal. */
  readonly audit: readonly unknown[];
  readonly folder: string;
  readonly socketPath: string;
  readonly client: ApiClient;
  close(): Promise<void>;
}

export async function openRig(changes: Partial<ApiOptions> & { clock?: Clock } = {}): Promise<Rig> {
  const folder = await mkdtemp(join(tmpdir(), 'prx-api-'));
  const supervisor = new MemorySupervisor();
  const audit: unknown[] = [];
  const tokenBook = await openTokenBook({
    file: join(folder, 'api-tokens.json'),
    configured: tokenEntries,
    clock: changes.clock ?? realClock,
    random: realRandom,
    logger: changes.logger ?? silentLogger,
    announce: async (event) => void audit.push(event),
  });
  const api = createApi({
    supervisor,
    logger: silentLogger,
    clock: realClock,
    random: realRandom,
    version: '1.2.3',
    tokens: tokenBook,
    ...changes,
  });
  const socketPath = join(folder, 'run', 'api.sock');
  await api.listenSocket(socketPath);
  return {
    api,
    supervisor,
    tokens: tokenBook,
    audit,
    folder,
    socketPath,
    client: createClient({ socketPath }),
    close: async () => {
      await api.close();
      await rm(folder, { recursive: true });
    },
  };
}

export type Where = { readonly socketPath: string } | { readonly port: number };

export interface Answered {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

export interface Asked {
  readonly method?: string;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Buffer;
}

/** One exchange on a connection of its own. An error after the answer began is not one: a server
 *  may refuse a body before it has read it. */
export async function ask(where: Where, asked: Asked): Promise<Answered> {
  const head = await open(where, asked);
  const chunks: Buffer[] = [];
  for await (const chunk of head) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString('utf8');
  return { status: head.statusCode ?? 0, headers: head.headers, text };
}

export function open(where: Where, asked: Asked): Promise<IncomingMessage> {
  const target = 'port' in where ? { host: '127.0.0.1', port: where.port } : where;
  const { method = 'GET', path, headers = {}, body } = asked;
  const json = body === undefined ? {} : { 'content-type': 'application/json' };
  return new Promise((resolve, reject) => {
    const options = { ...target, method, path, agent: false, headers: { ...json, ...headers } };
    const outgoing = request(options, resolve);
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

export function parseProblem(answer: Answered): {
  status: number;
  code: string;
  detail: string;
  data?: Record<string, unknown>;
} {
  return JSON.parse(answer.text);
}

/** Text chunks of a stream until `until` is in them. */
export async function readUntil(stream: AsyncIterable<Buffer>, until: string): Promise<string> {
  let text = '';
  for await (const chunk of stream) {
    text += chunk.toString('utf8');
    if (text.includes(until)) return text;
  }
  return text;
}
