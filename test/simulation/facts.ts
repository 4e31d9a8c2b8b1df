/** What happens in a simulated world, as a stream of facts from an observer outside the system:
 *  the disk, the wire, the provider, the sandbox, the process table, the clients. Checkers are
 *  functions of this stream, and its hash is the trace of a run: the same seed, the same hash. */
import { createHash } from 'node:crypto';
import type { ProviderMessage } from '../../protocol/content.ts';
import type { EventEnvelope } from '../../protocol/events.ts';
import type { AttemptOutcome } from '../../protocol/gateway-methods.ts';
import type { SessionRecord } from '../../store/contract.ts';

export type Room = 'worker' | 'gateway' | 'sandbox';

/** One event as it lies on the simulated disk. */
export interface Row {
  /** Commit order over all sessions. */
  readonly id: number;
  /** Rows of one transaction stay or go together. */
  readonly transaction: number;
  readonly power: boolean;
  readonly effect: string | undefined;
  readonly event: EventEnvelope;
}

export type Fact =
  | { readonly kind: 'supervisor.started'; readonly incarnation: number; readonly epoch: number }
  | {
      readonly kind: 'supervisor.ended';
      readonly incarnation: number;
      readonly how: 'killed' | 'power' | 'stopped';
    }
  | { readonly kind: 'written'; readonly row: Row }
  /** A row of a fork that is its original's. */
  | { readonly kind: 'copied'; readonly from: string; readonly row: Row }
  | { readonly kind: 'removed'; readonly session: string }
  /** Every row up to this id survives a power loss. */
  | { readonly kind: 'synced'; readonly id: number }
  /** A power loss withdrew all rows behind this id. */
  | { readonly kind: 'lost'; readonly behindId: number }
  | {
      readonly kind: 'opened';
      readonly follower: string;
      readonly session: string;
      readonly since: number;
    }
  | { readonly kind: 'seen'; readonly follower: string; readonly event: EventEnvelope }
  /** A follower was told that its newest events are gone, and where to go on. */
  | { readonly kind: 'superseded'; readonly follower: string; readonly lastGoodSeq: number }
  | {
      readonly kind: 'accepted';
      readonly session: string;
      readonly key: string;
      readonly inputId: string;
      readonly seq: number;
    }
  | { readonly kind: 'refused'; readonly session: string; readonly key: string }
  /** A person asks for a new chance, and once more when the answer is there. */
  | { readonly kind: 'forgiven'; readonly session: string }
  /** The supervisor writes the order for an effect into a pipe. */
  | {
      readonly kind: 'ordered';
      readonly session: string | undefined;
      readonly effect: string;
      readonly pid: number;
    }
  | {
      readonly kind: 'requested';
      readonly session: string;
      readonly effect: string;
      readonly attempt: number;
      readonly pid: number;
      readonly messages: readonly ProviderMessage[];
    }
  /** An attempt's end stands in its spool. */
  | {
      readonly kind: 'attempt.ended';
      readonly session: string;
      readonly effect: string;
      readonly attempt: number;
      readonly outcome: AttemptOutcome;
      /** A power loss does not take it. */
      readonly isSafe: boolean;
    }
  | {
      readonly kind: 'executed';
      readonly session: string;
      readonly effect: string;
      readonly attempt: number;
      readonly tool: string;
      readonly pid: number;
    }
  /** A process that could not be started at all. */
  | { readonly kind: 'start.failed'; readonly room: Room }
  | { readonly kind: 'process.started'; readonly pid: number; readonly room: Room }
  | {
      readonly kind: 'process.bound';
      readonly pid: number;
      readonly session: string;
      readonly generation: number;
    }
  /** It stood still this long and goes on. */
  | { readonly kind: 'process.thawed'; readonly pid: number; readonly frozenMs: number }
  | { readonly kind: 'process.ended'; readonly pid: number; readonly room: Room }
  /** Something was done to the world: the name of the fault and what it struck. */
  | { readonly kind: 'fault'; readonly fault: string; readonly target: string }
  | { readonly kind: 'healed' }
  /** The projection a live session object holds. */
  | { readonly kind: 'projected'; readonly record: SessionRecord }
  /** Processes that live, long after the last supervisor stopped. */
  | { readonly kind: 'survived'; readonly pids: readonly number[] }
  /** An input of the healed world has not been processed in time. */
  | { readonly kind: 'stuck'; readonly session: string; readonly why: string }
  /** A rejection nobody handled, or an assertion that failed. */
  | { readonly kind: 'crashed'; readonly message: string };

export interface Trace {
  record(fact: Fact): void;
  /** Of everything so far. */
  hash(): string;
  readonly recent: readonly string[];
  count(): number;
}

const RECENT_MAX = 4000;
const TEXT_CHARS_MAX = 400;

/** @param hear  is told each fact, with the virtual time. */
export function createTrace(nowMs: () => number, hear: (fact: Fact) => void): Trace {
  const hash = createHash('sha1');
  const recent: string[] = [];
  let facts = 0;
  return {
    recent,
    count: () => facts,
    record(fact) {
      facts += 1;
      const line = `${nowMs().toFixed(3)} ${JSON.stringify(fact, withoutMachine)}`;
      hash.update(line);
      recent.push(line.length > TEXT_CHARS_MAX ? `${line.slice(0, TEXT_CHARS_MAX)}…` : line);
      if (recent.length > RECENT_MAX * 2) recent.splice(0, RECENT_MAX);
      hear(fact);
    },
    hash: () => hash.copy().digest('hex').slice(0, 16),
  };
}

/** Fields that depend on the place of the workspace, or are long. */
const local = ['workspace', 'digest', 'request_digest', 'messages'];

/** The supervisor's own pid and the place of the workspace differ from machine to machine. */
function withoutMachine(key: string, value: unknown): unknown {
  if (local.includes(key)) return undefined;
  return key === 'pid' && value === process.pid ? 0 : value;
}
