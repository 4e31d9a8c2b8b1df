/** Follows one input to the end of its turn: hands out what is to be shown and says how it ended.
 *  Events of other turns of the session are passed over. */
import type { ApiClient } from '../../api/client.ts';
import type { EventEnvelope, KnownEvent } from '../../protocol/events.ts';
import { advance, emptyFeed, type FeedState } from './feed.ts';
import type { Piece, ToolCall, TurnEnd } from './pieces.ts';

export interface FollowTurn {
  readonly client: Pick<ApiClient, 'followEvents'>;
  readonly sessionId: string;
  readonly inputId: string;
  /** Sequence number of the input's own event. */
  readonly seq: number;
  readonly signal: AbortSignal;
  readonly onEvent?: (event: EventEnvelope) => void;
  readonly onPiece: (piece: Piece) => void;
  /** Told when the connection is lost, and again when it is back. */
  readonly onConnection?: (connected: boolean) => void;
}

export interface FollowedTurn {
  /** Absent: the signal aborted, or the session ended first. */
  readonly end: TurnEnd | undefined;
  readonly denied: readonly ToolCall[];
  /** Why the input will never be answered, when that is so. */
  readonly lost: string | undefined;
}

/** Both ends are one version (see api/client.ts): an event of a type that this version does not
 *  know falls through every switch. */
export function toKnownEvent(event: EventEnvelope): KnownEvent {
  return event as KnownEvent;
}

export async function followTurn(follow: FollowTurn): Promise<FollowedTurn> {
  const denied: ToolCall[] = [];
  let feed: FeedState = emptyFeed;
  let isOurs = false;
  const stream = follow.client.followEvents(follow.sessionId, {
    since: follow.seq - 1,
    signal: follow.signal,
    onConnection: (news) => follow.onConnection?.(news.kind === 'open'),
  });
  for await (const envelope of stream) {
    const event = toKnownEvent(envelope);
    follow.onEvent?.(envelope);
    const step = advance(feed, event);
    feed = step.state;
    isOurs ||= beginsTurnOf(event, follow.inputId);
    const lost = findLoss(event, follow.inputId);
    if (lost !== undefined) return { end: undefined, denied, lost };
    if (!isOurs) continue;
    for (const piece of step.pieces) {
      if (piece.kind === 'tool' && piece.call.status === 'denied') denied.push(piece.call);
      follow.onPiece(piece);
      if (piece.kind === 'turn') return { end: piece.end, denied, lost: undefined };
    }
  }
  return { end: undefined, denied, lost: undefined };
}

/** A steering input is answered by the turn that took it. */
function beginsTurnOf(event: KnownEvent, inputId: string): boolean {
  const begins = event.type === 'turn.started' || event.type === 'input.steered';
  return begins && event.data.input_id === inputId;
}

function findLoss(event: KnownEvent, inputId: string): string | undefined {
  if (event.type === 'input.quarantined' && event.data.input_id === inputId) {
    return `the input was set aside: ${event.data.reason}`;
  }
  if (event.type !== 'session.state') return undefined;
  const { to, reason } = event.data;
  return to === 'stopped' || to === 'failed' ? `the session is ${to}: ${reason}` : undefined;
}
