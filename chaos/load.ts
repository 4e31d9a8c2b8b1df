/** The load on one session: inputs with idempotency keys, sent again after every doubt until their
 *  fate is known, and between them interrupts, pauses, restarts and closings. What was sent and
 *  answered is kept: it is one half of "exactly once". */
import type { ApiClient } from '../api/client.ts';
import type { Clock } from '../base/clock.ts';
import { type ErrorCode, toPrxError } from '../base/errors.ts';
import { createSeededRandom, type Random } from '../base/random.ts';
import type { OnBusy } from '../protocol/content.ts';
import { drawBoolean, drawInt, drawWeighted } from './choice.ts';
import type { SentInput } from './history.ts';
import type { Observer } from './observer.ts';
import { createEchoScript, createTurnScript, type TurnScript } from './script.ts';

export interface LoadDeps {
  readonly client: ApiClient;
  readonly clock: Clock;
  readonly observer: Observer;
  readonly seed: string;
  readonly sleepMark: string;
  /** An answer that nothing in the plan explains. */
  readonly onFinding: (message: string) => void;
}

export interface Load {
  readonly session: string;
  /** Works until the signal aborts; then resolves when the fate of every input is known. */
  run(signal: AbortSignal): Promise<void>;
  /** After the run: open for work, whatever state the run left it in. */
  reopen(): Promise<void>;
  /** Sends one echo; resolves with its outcome, or undefined after `timeoutMs`. */
  echo(timeoutMs: number): Promise<string | undefined>;
  readonly inputs: readonly SentInput[];
}

interface Ledger {
  readonly session: string;
  readonly key: string;
  readonly answers: { input_id: string; seq: number }[];
  refused: boolean;
}

/** Nobody knows whether it was done: ask again with the same key. */
const DOUBTS: readonly ErrorCode[] = [
  'NOT_RUNNING',
  'PEER_CLOSED',
  'DEADLINE_EXCEEDED',
  'SHUTTING_DOWN',
  'STORE_DEGRADED',
  'AT_CAPACITY',
  'QUEUE_FULL',
];
/** The session was in another state than we thought: a race of ours, and a final answer. */
const RACES: readonly ErrorCode[] = ['SESSION_NOT_OPEN', 'SESSION_BUSY', 'STATE_INVALID'];

const BACKLOG_MAX = 3;
/** A session that takes nothing for so long is left alone until its next turn to act. */
const ROOM_MS_MAX = 5000;
const RETRY_MS = 100;
const POLL_MS = 30;
/** Requests of one kind until it is a finding that nobody answers; with the pauses a minute. */
const TRIES_MAX = 400;

type Action = 'send' | 'interrupt' | 'suspend' | 'restart' | 'close';

const weights: Readonly<Record<Action, number>> = {
  send: 80,
  interrupt: 4,
  suspend: 5,
  restart: 4,
  close: 3,
};

export function createLoad(deps: LoadDeps, session: string): Load {
  const { client, clock, observer } = deps;
  const random: Random = createSeededRandom(`${deps.seed}/load/${session}`);
  const inputs: Ledger[] = [];
  let sent = 0;

  const nextKey = (): string => {
    sent += 1;
    return `${session}-${sent}`;
  };

  /** Repeats while the answer is in doubt. Undefined: a race, or given up. */
  async function ask<T>(what: string, request: () => Promise<T>): Promise<T | undefined> {
    const doubts = new Map<ErrorCode, number>();
    for (let left = TRIES_MAX; left > 0; left -= 1) {
      try {
        return await request();
      } catch (error) {
        const { code, message } = toPrxError(error);
        if (RACES.includes(code)) return undefined;
        if (!DOUBTS.includes(code)) {
          deps.onFinding(`${what} of ${session} was answered with ${code}: ${message}`);
          return undefined;
        }
        doubts.set(code, (doubts.get(code) ?? 0) + 1);
        await clock.sleep(RETRY_MS);
      }
    }
    const codes = [...doubts].map(([code, times]) => `${times} × ${code}`).join(', ');
    deps.onFinding(`${what} of ${session} was not answered in ${TRIES_MAX} tries: ${codes}`);
    return undefined;
  }

  async function send(script: TurnScript, onBusy: OnBusy): Promise<Ledger> {
    const key = script.chaos;
    const entry: Ledger = { session, key, answers: [], refused: false };
    inputs.push(entry);
    const text = JSON.stringify(script);
    const params = { text, idempotency_key: key, on_busy: onBusy };
    // Some are sent once more although the answer was clear: the key must say so.
    for (let times = drawBoolean(random, 0.15) ? 2 : 1; times > 0; times -= 1) {
      const answer = await ask('input', () => client.sendInput(session, params));
      if (answer !== undefined) entry.answers.push({ input_id: answer.input_id, seq: answer.seq });
      else if (entry.answers.length === 0) entry.refused = true;
    }
    return entry;
  }

  async function act(action: Action, signal: AbortSignal): Promise<void> {
    switch (action) {
      case 'send': {
        // Without this wait a slow machine would mostly interrupt what it never let begin.
        for (let left = ROOM_MS_MAX; observer.openInputs(session) >= BACKLOG_MAX; left -= POLL_MS) {
          if (left <= 0 || signal.aborted) return;
          await clock.sleep(POLL_MS, signal);
        }
        const onBusy = drawWeighted(random, { enqueue: 77, steer: 15, interrupt: 3, reject: 5 });
        const key = nextKey();
        await send(createTurnScript({ key, random, sleepMark: deps.sleepMark }), onBusy);
        return;
      }
      case 'interrupt':
        await ask(action, () => client.interrupt(session));
        return;
      case 'suspend':
        await ask(action, () => client.suspend(session));
        await clock.sleep(drawInt(random, 50, 600), signal);
        await ask('resume', () => client.resume(session));
        return;
      case 'restart':
        await ask(action, () => client.restart(session));
        return;
      case 'close':
        await ask(action, () => client.close(session));
        await clock.sleep(drawInt(random, 0, 400), signal);
        await ask('restart', () => client.restart(session));
    }
  }

  return {
    session,
    inputs,
    async run(signal) {
      while (!signal.aborted) {
        await act(drawWeighted(random, weights), signal);
        await clock.sleep(drawInt(random, 10, 300), signal);
      }
    },
    async reopen() {
      const view = await ask('look', () => client.getSession(session));
      if (view?.state === 'suspended') await ask('resume', () => client.resume(session));
      if (view?.state === 'stopped' || view?.state === 'failed') {
        await ask('restart', () => client.restart(session));
      }
    },
    async echo(timeoutMs) {
      const [answer] = (await send(createEchoScript(nextKey()), 'enqueue')).answers;
      if (answer === undefined) return undefined;
      const deadlineMs = clock.nowMs() + timeoutMs;
      while (clock.nowMs() < deadlineMs) {
        const outcome = observer.outcomeOf(answer.input_id);
        if (outcome !== undefined) return outcome;
        await clock.sleep(POLL_MS);
      }
      return undefined;
    },
  };
}

export interface ApproverSpec {
  readonly client: ApiClient;
  readonly clock: Clock;
  readonly random: Random;
  readonly signal: AbortSignal;
  readonly onFinding: (message: string) => void;
}

/** A person at the approvals, one of several who do not talk to each other. */
export async function runApprover(spec: ApproverSpec): Promise<void> {
  const { client, clock, random, signal } = spec;
  const races: readonly ErrorCode[] = ['APPROVAL_NOT_FOUND', 'APPROVAL_RESOLVED'];
  while (!signal.aborted) {
    try {
      for (const { session, call_id } of await client.listApprovals()) {
        if (drawBoolean(random, 0.3)) continue;
        const decision = drawBoolean(random, 0.8) ? 'approve' : 'deny';
        await client.resolveApproval(session, call_id, { decision });
      }
    } catch (error) {
      const { code, message } = toPrxError(error);
      if (![...races, ...RACES, ...DOUBTS].includes(code)) {
        spec.onFinding(`an approval was answered with ${code}: ${message}`);
      }
    }
    await clock.sleep(drawInt(random, 50, 300), signal);
  }
}
