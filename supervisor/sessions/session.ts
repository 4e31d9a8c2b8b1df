/** One open session: its commands (input, interrupt, suspend, resume, restart, close, approvals)
 *  and its view. Commands check the state, write the journal, and wake the driver; the driver
 *  does the work. Commands of one session run one after the other. */
import { createHash } from 'node:crypto';
import { PrxError } from '../../base/errors.ts';
import type { ContentPart } from '../../protocol/content.ts';
import type { EventEnvelope } from '../../protocol/events.ts';
import { createInputId, type EffectId, type SessionId } from '../../protocol/ids.ts';
import type { InputAccepted, ResolveApproval, SendInput } from '../../protocol/resources.ts';
import { assertTransition, type SessionState } from '../../protocol/states.ts';
import type { SessionRecord } from '../../store/contract.ts';
import type { Host } from '../children/hosts.ts';
import type { Driver } from './driver.ts';
import { type Draft, draft } from './journal.ts';
import type { Resident } from './resident.ts';
import type { SessionDeps } from './session-deps.ts';
import { assembleSession } from './session-parts.ts';
import type { Ending } from './turn-end.ts';

export interface Session {
  readonly id: SessionId;
  record(): SessionRecord;
  readonly resident: Resident;
  readonly driver: Driver;
  readonly host: Host;
  acceptInput(params: SendInput, by: string): Promise<InputAccepted>;
  interrupt(by: string): Promise<void>;
  suspend(by: string): Promise<void>;
  resume(by: string): Promise<void>;
  restart(by: string): Promise<void>;
  close(by: string): Promise<void>;
  rename(name: string): Promise<void>;
  resolveApproval(effect: EffectId, params: ResolveApproval, by: string): Promise<void>;
  /** A command, or what it writes, is under way: the record is not what it will be. */
  isChanging(): boolean;
  /** Nothing runs, nothing waits: the object may be forgotten and rebuilt from the journal. */
  isQuiet(): boolean;
  /** It is removed: what is asked of it, or was and waits, gets SESSION_NOT_FOUND. */
  seal(): void;
  /** The supervisor stops: the loop ends, effects are left to their hosts. */
  halt(): Promise<void>;
}

/** The end of a turn that an input with on_busy `interrupt` found. */
const OVERTAKEN: Ending = { outcome: 'interrupted', reason: 'a new input interrupted it' };

/** States in which an input is accepted. */
const OPEN_STATES: readonly SessionState[] = [
  'created',
  'starting',
  'running',
  'awaiting',
  'suspended',
];

export function openSession(deps: SessionDeps, initial: SessionRecord): Session {
  const { store } = deps;
  const id = initial.id;
  const parts = assembleSession(deps, initial);
  const { journal, approvals, host, gate, resident, driver } = parts;
  let commands: Promise<unknown> = Promise.resolve();
  let commandsRunning = 0;

  function serialize<T>(command: () => Promise<T>): Promise<T> {
    const result = track(() => commands.then(command));
    commands = result.catch(() => undefined);
    return result;
  }

  /** A command that depends on the state, behind every change of it that is on its way: the driver
   *  makes some as well. It begins at once, so that none comes between. */
  function serializeSettled(command: (state: SessionState) => Promise<void>): Promise<void> {
    return serialize(async () => {
      while (journal.state() !== journal.record().state) await journal.nextLanding();
      await command(journal.record().state);
    });
  }

  /** A session with a command under way is not forgotten. */
  async function track<T>(work: () => Promise<T>): Promise<T> {
    commandsRunning += 1;
    try {
      return await work();
    } finally {
      commandsRunning -= 1;
    }
  }

  function transition(to: SessionState, reason: string): Draft {
    const from = journal.state();
    assertTransition(from, to);
    return draft('session.state', { from, to, reason });
  }

  /** The tombstone, before anything is signalled. */
  function tombstone(source: string, { outcome, reason }: Ending): Draft[] {
    const open = journal.record().open_turn;
    if (open === undefined || open.interrupted) return [];
    return [draft('interrupt.accepted', { source, outcome, reason }, { turn: open.turn })];
  }

  async function stopTurn(by: string, before: readonly Draft[], reason: string): Promise<void> {
    const turn = journal.record().open_turn?.turn;
    const ending: Ending = { outcome: 'interrupted', reason };
    const drafts = [...before, ...tombstone(by, ending)];
    if (drafts.length === 0) return;
    const written = journal.append(...drafts);
    if (turn === undefined) await written;
    else await driver.stopTurn(turn, ending, written);
  }

  /** Also of the turn that is about to begin: its input was accepted, and may wait for a slot. */
  async function interruptNow(by: string): Promise<void> {
    const { open_turn: open, queued } = journal.record();
    const reason = `interrupted by ${by}`;
    if (open === undefined && queued.length > 0 && journal.state() === 'running') {
      const data = { source: by, outcome: 'interrupted', reason } as const;
      const toTombstone = (turn: number) => draft('interrupt.accepted', data, { turn });
      if (await driver.stopNext(toTombstone)) return;
    }
    await stopTurn(by, [], reason);
  }

  async function accept(params: SendInput, by: string): Promise<InputAccepted> {
    const content: ContentPart[] = params.content ?? [{ type: 'text', text: params.text ?? '' }];
    const key = params.idempotency_key;
    const digest = createHash('sha256').update(JSON.stringify(content)).digest('hex');
    const scope = `input:${id}`;
    const claimed = key === undefined ? undefined : await store.findClaim(scope, key);
    if (claimed !== undefined)
      return toDuplicate(claimed.event, claimed.digest === digest, key ?? '');
    checkAcceptance(params);
    const input_id = createInputId(deps.random);
    const event = draft('input.accepted', {
      input_id,
      source: by,
      // A value that was pasted would otherwise be in the journal, and at the provider.
      content: content.map(redactPart),
      on_busy: params.on_busy ?? 'enqueue',
      ...(key === undefined ? {} : { idempotency_key: key }),
    });
    const { on_busy: onBusy } = params;
    const turn = journal.record().open_turn?.turn;
    // In one append: who asks again after a death in between is told that it was accepted.
    const stops = onBusy === 'interrupt' ? tombstone(by, OVERTAKEN) : [];
    const written =
      key === undefined
        ? journal.append(event, ...stops).then((events) => ({ kind: 'appended' as const, events }))
        : journal.appendUnique({ scope, key, digest }, event, ...stops);
    if (turn !== undefined && stops.length > 0) await driver.stopTurn(turn, OVERTAKEN, written);
    const result = await written;
    if (result.kind === 'duplicate') return toDuplicate(result.event, result.sameDigest, key ?? '');
    driver.wake();
    // Of a turn whose start was on its way.
    const isOwn = journal.record().open_turn?.input_id === input_id;
    const isLate = onBusy === 'interrupt' && stops.length === 0 && !isOwn;
    if (isLate) await stopTurn(by, [], OVERTAKEN.reason);
    return { input_id, seq: result.events[0]?.seq ?? 0, duplicate: false };
  }

  function redactPart(part: ContentPart): ContentPart {
    return part.type === 'text' ? { ...part, text: deps.redact(part.text) } : part;
  }

  /** Edited arguments stay as they are: they run as they were written. */
  function redactAnswer({ answer, reason, ...params }: ResolveApproval): ResolveApproval {
    return {
      ...params,
      ...(answer === undefined ? {} : { answer: deps.redact(answer) }),
      ...(reason === undefined ? {} : { reason: deps.redact(reason) }),
    };
  }

  function checkAcceptance(params: SendInput): void {
    const { state, open_turn: open, queued } = journal.record();
    if (!OPEN_STATES.includes(state)) {
      const mend = `'prx-supervisor restart ${id}' opens it again`;
      throw new PrxError('SESSION_NOT_OPEN', `session ${id} is ${state}; ${mend}`, {
        data: { state },
      });
    }
    const isBusy = open !== undefined || queued.length > 0;
    if (isBusy && (params.if_idle === true || params.on_busy === 'reject')) {
      const doing = open === undefined ? `${queued.length} inputs wait` : `turn ${open.turn} runs`;
      throw new PrxError('SESSION_BUSY', `session ${id} is busy: ${doing}`);
    }
    const max = deps.maxQueuedInputs();
    if (queued.length >= max) {
      const message = `session ${id} has ${queued.length} waiting inputs; the limit agent.limits.max_queued_inputs is ${max}`;
      throw new PrxError('QUEUE_FULL', message);
    }
  }

  /** The tombstone, and the wait for the driver, which ends the turn and lets everything go. */
  async function closeNow(by: string, state: SessionState): Promise<void> {
    if (state === 'stopped') return;
    if (state === 'created') {
      await journal.append(transition('stopped', `closed by ${by}`));
      return;
    }
    if (state !== 'stopping')
      await stopTurn(by, [transition('stopping', `closed by ${by}`)], 'closed');
    driver.wake();
    while (journal.record().state === 'stopping') {
      await parts.stateChanged();
      journal.assertOpen();
    }
  }

  const isChanging = (): boolean => commandsRunning > 0 || journal.outstanding() > 0;

  return {
    id,
    isChanging,
    record: () => journal.record(),
    resident,
    driver,
    host,
    acceptInput: (params, by) => serialize(() => accept(params, by)),
    interrupt: (by) => serialize(() => interruptNow(by)),
    suspend: (by) =>
      serializeSettled(async (state) => {
        if (state === 'suspended') return;
        await journal.append(transition('suspended', `suspended by ${by}`));
        driver.stepBack();
      }),
    resume: (by) =>
      serializeSettled(async (state) => {
        if (state === 'running') return;
        await journal.append(transition('running', `resumed by ${by}`));
      }),
    restart: (by) =>
      serializeSettled(async (state) => {
        resident.forgive();
        const isOpen = state === 'running' || state === 'awaiting';
        const opened = isOpen ? [] : [transition('starting', `restarted by ${by}`)];
        await journal.append(draft('session.restarted', { by }), ...opened);
        if (isOpen) resident.recycle();
      }),
    close: (by) => serializeSettled((state) => closeNow(by, state)),
    rename: (name) =>
      serialize(async () => {
        await journal.append(draft('session.renamed', { name }));
      }),
    resolveApproval: (effect, params, by) =>
      // Not behind the other commands: `close` may wait for the very call that asks.
      track(() => approvals.resolve(effect, redactAnswer(params), by)),
    isQuiet() {
      const { open_turn: open, queued, state, approvals: pending } = journal.record();
      const isSettled = state !== 'starting' && state !== 'stopping';
      const isGone = !resident.isHolding() && resident.residency() === 'hibernated';
      const hasNone = isGone && !resident.owesJournal();
      return (
        isSettled &&
        hasNone &&
        gate.running().length === 0 &&
        !isChanging() &&
        (!open || state !== 'running') &&
        queued.length === 0 &&
        // Somebody has to see to it that they end in time.
        pending.length === 0 &&
        // They end with the host that this object holds.
        parts.processes.count() === 0
      );
    },
    seal() {
      journal.close();
      parts.wakeWaiters();
    },
    async halt() {
      gate.seal();
      driver.halt();
      approvals.close();
      parts.processes.close();
      await resident.settled();
      resident.close();
    },
  };
}

function toDuplicate(event: EventEnvelope, sameDigest: boolean, key: string): InputAccepted {
  if (!sameDigest) {
    const message = `the idempotency key '${key}' was used for another content (seq ${event.seq}); use a new key`;
    throw new PrxError('IDEMPOTENCY_CONFLICT', message, { data: { seq: event.seq } });
  }
  const { input_id } = event.data as InputAccepted;
  return { input_id, seq: event.seq, duplicate: true };
}
