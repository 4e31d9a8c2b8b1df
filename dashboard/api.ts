/** The page's way to the api: same origin, a bearer token that lives as long as the tab. Streams
 *  are read with fetch, because an EventSource cannot carry a token. */
import { createSseParser } from '../api/client/sse-parser.ts';
import type { EventEnvelope } from '../protocol/events.ts';
import type { Problem } from '../protocol/resources.ts';

const TOKEN_KEY = 'prx-token';
/** Milliseconds between two tries of a stream that was lost. */
const RECONNECT_MS = 1000;

export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly status: number;
  /** Where what is left of a session begins, when the start of it is gone. */
  readonly firstSeq: number | undefined;

  constructor(status: number, message: string, firstSeq?: number) {
    super(message);
    this.status = status;
    this.firstSeq = firstSeq;
  }
}

export function readToken(): string {
  return sessionStorage.getItem(TOKEN_KEY) ?? '';
}

export function keepToken(token: string): void {
  if (token === '') sessionStorage.removeItem(TOKEN_KEY);
  else sessionStorage.setItem(TOKEN_KEY, token.trim());
}

/** A link may bring the token behind the `#`, which no server sees; it does not stay there.
 *  @returns whether it brought one. */
export function takeTokenFromUrl(): boolean {
  const token = /^#token=([^&]+)/.exec(location.hash)?.[1];
  if (token === undefined) return false;
  keepToken(decode(token));
  history.replaceState(null, '', '#/');
  return true;
}

/** As it is, where it is not encoded: a token may have a `%`. */
function decode(token: string): string {
  try {
    return decodeURIComponent(token);
  } catch {
    return token;
  }
}

export async function call<T>(method: string, path: string, body?: unknown): Promise<T> {
  const response = await request(method, path, body);
  const text = await response.text();
  // Both ends are one version: the answer has the shape that its caller names.
  return (text === '' ? undefined : JSON.parse(text)) as T;
}

export const get = <T>(path: string): Promise<T> => call<T>('GET', path);

async function request(
  method: string,
  path: string,
  body?: unknown,
  rest: { signal?: AbortSignal; accept?: string } = {},
): Promise<Response> {
  const token = readToken();
  const response = await fetch(path, {
    method,
    headers: {
      ...(token === '' ? {} : { authorization: `Bearer ${token}` }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(rest.accept === undefined ? {} : { accept: rest.accept }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    ...(rest.signal === undefined ? {} : { signal: rest.signal }),
  });
  if (response.ok) return response;
  throw await readProblem(response);
}

async function readProblem(response: Response): Promise<ApiError> {
  const { status, statusText } = response;
  try {
    const { detail, code, data } = (await response.json()) as Problem;
    const first = data?.['first_seq'];
    return new ApiError(status, `${detail} (${code})`, Number(first ?? 0) || undefined);
  } catch {
    // Not ours: a proxy in between, perhaps.
    return new ApiError(status, `the server answered ${status} ${statusText}`);
  }
}

export interface Follow {
  readonly session: string;
  readonly since: number;
  readonly signal: AbortSignal;
  onEvents(events: readonly EventEnvelope[]): void;
  onConnection(isOpen: boolean): void;
  /** The first events, so many, are gone: it begins behind them. */
  onRemoved(count: number): void;
}

/** Events from behind `since`, then live; across lost connections, each once. Rejects with what
 *  another try would not mend. */
export async function follow(options: Follow): Promise<void> {
  const { session, signal } = options;
  let since = options.since;
  while (!signal.aborted) {
    await untilShown(signal);
    const shown = whileShown(signal);
    try {
      const path = `/api/v1/sessions/${session}/events?follow=true&since=${since}`;
      const response = await request('GET', path, undefined, { signal: shown.signal });
      options.onConnection(true);
      for await (const events of readFrames(response)) {
        since = events.at(-1)?.seq ?? since;
        options.onEvents(events);
      }
    } catch (error) {
      if (signal.aborted) return;
      if (shown.signal.aborted) continue;
      const first = error instanceof ApiError ? error.firstSeq : undefined;
      // Only where the page begins: what is gone later is a gap, and is said.
      if (first !== undefined && since === options.since && since < first - 1) {
        since = first - 1;
        options.onRemoved(since);
        continue;
      }
      const isFinal = error instanceof ApiError && error.status < 500 && error.status !== 429;
      if (isFinal) throw error;
    } finally {
      shown.abort();
    }
    options.onConnection(false);
    await new Promise((resolve) => setTimeout(resolve, RECONNECT_MS));
  }
}

/** A browser has six connections for one server, whatever the number of its tabs: with one for each
 *  session that nobody sees, the next page would not even load. */
async function untilShown(signal: AbortSignal): Promise<void> {
  while (document.hidden && !signal.aborted) {
    await new Promise<void>((resolve) => {
      const changed = new AbortController();
      const goOn = (): void => {
        changed.abort();
        resolve();
      };
      document.addEventListener('visibilitychange', goOn, { signal: changed.signal });
      signal.addEventListener('abort', goOn, { signal: changed.signal });
    });
  }
}

/** Aborts when the page is hidden, with `signal`, and by its owner. */
function whileShown(signal: AbortSignal): AbortController {
  const shown = new AbortController();
  const leave = (): void => {
    if (document.hidden || signal.aborted) shown.abort();
  };
  document.addEventListener('visibilitychange', leave, { signal: shown.signal });
  signal.addEventListener('abort', leave, { signal: shown.signal });
  return shown;
}

async function* readFrames(response: Response): AsyncGenerator<readonly EventEnvelope[]> {
  if (response.body === null) return;
  const parser = createSseParser();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const frames = parser.push(value).filter(({ id }) => id !== undefined);
    if (frames.length > 0) yield frames.map(({ data }) => JSON.parse(data) as EventEnvelope);
  }
}
