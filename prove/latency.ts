/** Seven sessions that stream, each token stamped when the model writes it and when a client has
 *  it: what a neighbour costs them. Model and clients are in this process, so one clock stamps both
 *  ends, and what this process does meanwhile is part of both sides of a comparison. */

import type { Reply } from '../bench/provider.ts';
import type { EventEnvelope } from '../protocol/events.ts';
import { pause } from '../test/integration/processes.ts';
import { type Feed, isType, openFeed } from './feed.ts';
import { toQuantile } from './report.ts';
import type { Stand } from './stand.ts';

export const STREAMERS = 7;
const TOKEN_EVERY_MS = 25;
const TOKENS_PER_TURN = 400;
/** The provider answers an input of this text with `streamTokens`. */
export const STREAM = 'stream';

export interface Streamers {
  /** Of the tokens that were written in this span. */
  between(fromMs: number, toMs: number): TokenTimes;
  /** Ends with the turns under way. */
  close(): Promise<void>;
}

/** ms. */
export interface TokenTimes {
  /** From written to read by a client. */
  readonly latencies: readonly number[];
  /** Between two that a client reads one after the other, of one answer. */
  readonly gaps: readonly number[];
}

export interface TokenClock {
  readonly writtenMs: Map<number, number>;
  streamTokens(reply: Reply): Promise<void>;
}

export function createTokenClock(): TokenClock {
  const writtenMs = new Map<number, number>();
  return {
    writtenMs,
    async streamTokens(reply) {
      const startMs = performance.now();
      for (let index = 0; index < TOKENS_PER_TURN; index += 1) {
        await pause(Math.max(0, startMs + index * TOKEN_EVERY_MS - performance.now()));
        const token = writtenMs.size;
        writtenMs.set(token, performance.now());
        reply.say(`<${token}>`);
      }
      reply.end();
    },
  };
}

export async function startStreamers(stand: Stand, { writtenMs }: TokenClock): Promise<Streamers> {
  const feeds: Feed[] = [];
  const stopping = new AbortController();
  const turns: Promise<void>[] = [];
  for (let number = 1; number <= STREAMERS; number += 1) {
    const workspace = stand.createWorkspace(`stream-${number}`);
    const { view } = await stand.client.createSession({ workspace });
    const feed = openFeed(stand.client, view.id);
    feeds.push(feed);
    turns.push(streamOn(stand, feed, stopping.signal));
  }
  await Promise.all(feeds.map((feed) => feed.until(isType('model.delta'))));
  return {
    between(fromMs, toMs) {
      return toTokenTimes(
        feeds.map(({ seen }) =>
          seen
            .flatMap(({ event, atMs }) => readTokens(event).map((token) => ({ ...token, atMs })))
            .map((token) => ({ ...token, fromMs: writtenMs.get(token.number) ?? Number.NaN }))
            .filter((token) => token.fromMs >= fromMs && token.fromMs < toMs),
        ),
      );
    },
    async close() {
      stopping.abort();
      await Promise.all(turns);
      for (const feed of feeds) feed.close();
    },
  };
}

/** Pure. Each client's tokens in the order in which it read them. */
export function toTokenTimes(perClient: readonly (readonly ReadToken[])[]): TokenTimes {
  return {
    latencies: perClient.flat().map(({ atMs, fromMs }) => atMs - fromMs),
    gaps: perClient.flatMap((tokens) =>
      tokens.flatMap(({ atMs, turn }, index) => {
        const last = tokens[index - 1];
        return last !== undefined && last.turn === turn ? [atMs - last.atMs] : [];
      }),
    ),
  };
}

/** Pure. As many spans of this length as there is room for, one after the other; where there is
 *  none for one, all of it. What is compared must be as long: of few tokens the 99th percentile is
 *  nearly the worst, and the longer one looks the worse that is. */
export function splitSpan(
  fromMs: number,
  toMs: number,
  lengthMs: number,
): readonly (readonly [fromMs: number, toMs: number])[] {
  const count = Math.max(1, Math.floor((toMs - fromMs) / lengthMs));
  const stepMs = Math.min(lengthMs, toMs - fromMs);
  return Array.from({ length: count }, (_, index) => [
    fromMs + index * stepMs,
    fromMs + (index + 1) * stepMs,
  ]);
}

/** Pure. The 99th percentile of the span that stands in the middle. */
export const toUsual = (spans: readonly (readonly number[])[]): number =>
  toQuantile(
    spans.map((samples) => toQuantile(samples, 0.99)),
    0.5,
  );

async function streamOn(stand: Stand, feed: Feed, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const from = feed.seen.length;
    await stand.client.sendInput(feed.session, { text: STREAM });
    await feed.until(isType('turn.completed'), from);
  }
}

interface Token {
  readonly number: number;
  readonly turn: EventEnvelope['turn'];
}

/** Written at `fromMs`, read at `atMs`. */
export type ReadToken = Pick<Token, 'turn'> & { readonly fromMs: number; readonly atMs: number };

/** Several tokens may come in one event. */
function readTokens({ type, turn, data }: EventEnvelope): readonly Token[] {
  if (type !== 'model.delta') return [];
  const { text } = data as { text: string };
  return [...text.matchAll(/<(\d+)>/g)].map(([, number]) => ({ number: Number(number), turn }));
}
