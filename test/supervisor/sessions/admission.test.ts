/** Slots: order, capacity, cancellation, reclaim. And the clock of a turn. */
import { describe, expect, test } from '@jest/globals';
import type { SessionId } from '../../../protocol/ids.ts';
import {
  type Admission,
  createAdmission,
  type Slot,
} from '../../../supervisor/sessions/admission.ts';
import { pickNext } from '../../../supervisor/sessions/input-reader.ts';
import { createTurnClock } from '../../../supervisor/sessions/turn-clock.ts';
import { createSteppedClock } from '../stepped-clock.ts';

const never = new AbortController().signal;
const named = (name: string): SessionId => name as SessionId;

/** Asks for a slot and writes down when it was given. */
function ask(admission: Admission, name: string, given: string[]): Promise<Slot> {
  return admission.acquire(named(name), never).then((slot) => {
    given.push(name);
    return slot;
  });
}

describe('admission', () => {
  test('gives slots in order of asking; a released one goes to the first that waits', async () => {
    const admission = createAdmission(2, () => false);
    const given: string[] = [];
    const [a] = await Promise.all([ask(admission, 'a', given), ask(admission, 'b', given)]);
    expect(admission.hasRoom()).toBe(false);
    const c = ask(admission, 'c', given);
    const d = ask(admission, 'd', given);
    expect(admission.counts()).toEqual({ held: 2, waiting: 2 });
    a?.release();
    a?.release();
    (await c).release();
    await d;
    expect(given).toEqual(['a', 'b', 'c', 'd']);
    expect(admission.counts()).toEqual({ held: 2, waiting: 0 });
  });

  test('a larger capacity admits at once; a smaller one takes nothing away', async () => {
    const admission = createAdmission(1, () => false);
    const given: string[] = [];
    const a = await ask(admission, 'a', given);
    const waiting = [ask(admission, 'b', given), ask(admission, 'c', given)];
    admission.setCapacity(3);
    const [b, c] = await Promise.all(waiting);
    admission.setCapacity(1);
    expect(admission.counts()).toEqual({ held: 3, waiting: 0 });
    const d = ask(admission, 'd', given);
    a.release();
    b?.release();
    expect(given).toEqual(['a', 'b', 'c']);
    c?.release();
    await d;
  });

  test('one that is cancelled waits no longer, and holds nobody up', async () => {
    const admission = createAdmission(1, () => false);
    const given: string[] = [];
    const a = await ask(admission, 'a', given);
    const abort = new AbortController();
    const b = admission.acquire(named('b'), abort.signal);
    const c = ask(admission, 'c', given);
    abort.abort();
    await expect(b).rejects.toMatchObject({ code: 'CANCELLED' });
    a.release();
    await c;
    await expect(admission.acquire(named('d'), abort.signal)).rejects.toMatchObject({
      code: 'CANCELLED',
    });
    expect(admission.counts()).toEqual({ held: 1, waiting: 0 });
  });

  test('asks for an idle slot whenever somebody has to wait', async () => {
    let asked = 0;
    const admission = createAdmission(1, () => {
      asked += 1;
      return true;
    });
    const slot = await admission.acquire(named('a'), never);
    expect(asked).toBe(0);
    const b = admission.acquire(named('b'), never);
    expect(asked).toBe(1);
    const c = admission.acquire(named('c'), never);
    expect(asked).toBe(2);
    slot.release();
    expect(asked).toBe(3);
    (await b).release();
    await c;
    expect(asked).toBe(3);
  });

  test('asks for idle slots, one after the other, until as many are held as there are (regression)', async () => {
    const held: { release(): void }[] = [];
    const admission = createAdmission(3, () => {
      const idle = held.shift();
      // As a session does: not within the question.
      if (idle !== undefined) queueMicrotask(() => idle.release());
      return idle !== undefined;
    });
    for (const name of ['a', 'b', 'c']) held.push(await admission.acquire(named(name), never));
    expect(admission.isShort()).toBe(false);
    admission.setCapacity(1);
    expect(admission.isShort()).toBe(true);
    await new Promise(setImmediate);
    expect(admission.counts()).toEqual({ held: 1, waiting: 0 });
    expect(admission.isShort()).toBe(false);
  });

  test('refuses by name when too many wait', async () => {
    const admission = createAdmission(1, () => false);
    await admission.acquire(named('a'), never);
    const end = new AbortController();
    const waiting = Array.from({ length: 10_000 }, (_, index) =>
      admission.acquire(named(`w${index}`), end.signal).catch(() => undefined),
    );
    await expect(admission.acquire(named('z'), never)).rejects.toMatchObject({
      code: 'AT_CAPACITY',
    });
    end.abort();
    await Promise.all(waiting);
  });
});

describe("a turn's clock", () => {
  test('counts only while it runs', () => {
    const clock = createSteppedClock();
    let fired = 0;
    const turn = createTurnClock(clock, { limitMs: 1000, spentMs: 0 }, () => {
      fired += 1;
    });
    turn.run();
    turn.run();
    clock.advance(999);
    turn.pause();
    turn.pause();
    clock.advance(100_000);
    expect(fired).toBe(0);
    turn.run();
    clock.advance(0);
    expect(fired).toBe(0);
    clock.advance(1);
    expect(fired).toBe(1);
  });

  test.each([
    [400, 600],
    [1000, 0],
    [5000, 0],
  ])('goes on from the %d ms of an earlier supervisor: %d are left of 1000', (spentMs, leftMs) => {
    const clock = createSteppedClock();
    let fired = 0;
    const turn = createTurnClock(clock, { limitMs: 1000, spentMs }, () => {
      fired += 1;
    });
    expect(turn.spentMs()).toBe(spentMs);
    turn.run();
    clock.advance(Math.max(0, leftMs - 1));
    expect(fired).toBe(leftMs === 0 ? 1 : 0);
    clock.advance(1);
    expect(fired).toBe(1);
    expect(turn.spentMs()).toBe(spentMs + Math.max(leftMs, 1));
  });

  test('without a limit sets no timer; a limit of 30 days does not fire early (FAULTS 20)', () => {
    const clock = createSteppedClock();
    createTurnClock(clock, { limitMs: 0, spentMs: 0 }, () => expect(true).toBe(false)).run();
    expect(clock.waiting()).toBe(0);
    const month = 30 * 86_400_000;
    let fired = false;
    createTurnClock(clock, { limitMs: month, spentMs: 0 }, () => {
      fired = true;
    }).run();
    clock.advance(month - 1);
    expect(fired).toBe(false);
    clock.advance(1);
    expect(fired).toBe(true);
  });
});

describe('the next input', () => {
  const input = (id: string, on_busy: 'enqueue' | 'interrupt' | 'steer') =>
    ({ input_id: id, seq: 1, on_busy }) as never;

  test.each([
    ['the oldest', [input('a', 'enqueue'), input('b', 'enqueue')], 'a'],
    ['one that interrupts first', [input('a', 'enqueue'), input('b', 'interrupt')], 'b'],
    ['of two that interrupt the oldest', [input('a', 'interrupt'), input('b', 'interrupt')], 'a'],
    ['a steering one in its place', [input('a', 'steer'), input('b', 'enqueue')], 'a'],
  ])('%s', (_, queued, expected) => {
    expect(pickNext(queued).input_id).toBe(expected);
  });

  test('of none is a bug', () => expect(() => pickNext([])).toThrow(RangeError));
});
