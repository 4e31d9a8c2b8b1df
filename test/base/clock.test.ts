import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { realClock, sleepWith, toTimestamp } from '../../base/clock.ts';

// The runtime's timers are the one thing this module owns, so they are what is replaced here.
beforeEach(() => {
  jest.useFakeTimers();
});
afterEach(() => {
  jest.useRealTimers();
});

describe('a timer', () => {
  test('fires once, at its time', () => {
    const fire = jest.fn();
    realClock.setTimer(100, fire);
    jest.advanceTimersByTime(99);
    expect(fire).toHaveBeenCalledTimes(0);
    jest.advanceTimersByTime(1_000);
    expect(fire).toHaveBeenCalledTimes(1);
  });

  test('of 0 or less fires at once, but not before setTimer returns', () => {
    const fire = jest.fn();
    realClock.setTimer(0, fire);
    realClock.setTimer(-5, fire);
    expect(fire).toHaveBeenCalledTimes(0);
    jest.advanceTimersByTime(1);
    expect(fire).toHaveBeenCalledTimes(2);
  });

  test('does not fire when cancelled, and may be cancelled twice', () => {
    const fire = jest.fn();
    const timer = realClock.setTimer(10, fire);
    timer.cancel();
    timer.cancel();
    jest.advanceTimersByTime(100);
    expect(fire).toHaveBeenCalledTimes(0);
  });

  const day = 24 * 3600 * 1000;
  test.each([2 ** 31 - 2, 2 ** 31 - 1, 2 ** 31, 30 * day, 90 * day])(
    'of %d ms fires at its time, beyond the limit of the runtime too (FAULTS 20)',
    (delayMs) => {
      const fire = jest.fn();
      realClock.setTimer(delayMs, fire);
      jest.advanceTimersByTime(delayMs - 1);
      expect(fire).toHaveBeenCalledTimes(0);
      jest.advanceTimersByTime(1);
      expect(fire).toHaveBeenCalledTimes(1);
    },
  );

  test('that is long is cancelled in its second stretch too', () => {
    const fire = jest.fn();
    const timer = realClock.setTimer(60 * day, fire);
    jest.advanceTimersByTime(40 * day);
    timer.cancel();
    jest.advanceTimersByTime(40 * day);
    expect(fire).toHaveBeenCalledTimes(0);
  });

  test('of Infinity never fires and holds nothing', () => {
    realClock.setTimer(Number.POSITIVE_INFINITY, () => undefined).cancel();
    expect(jest.getTimerCount()).toBe(0);
  });

  test('of NaN is a bug', () => {
    expect(() => realClock.setTimer(Number.NaN, () => undefined)).toThrow('a delay is a number');
  });

  test('keeps its time when the wall clock jumps (FAULTS 21)', () => {
    const fire = jest.fn();
    realClock.setTimer(1_000, fire);
    jest.setSystemTime(Date.UTC(2100, 0, 1));
    jest.advanceTimersByTime(999);
    expect(fire).toHaveBeenCalledTimes(0);
    jest.advanceTimersByTime(1);
    expect(fire).toHaveBeenCalledTimes(1);
  });
});

describe('sleep', () => {
  test('ends after its delay', async () => {
    const sleeping = realClock.sleep(50);
    await jest.advanceTimersByTimeAsync(50);
    await sleeping;
    expect(jest.getTimerCount()).toBe(0);
  });

  test('ends at once, without error, when the signal aborts; no timer is left', async () => {
    const abort = new AbortController();
    const sleeping = realClock.sleep(1_000_000, abort.signal);
    abort.abort();
    await sleeping;
    await realClock.sleep(1_000_000, abort.signal);
    expect(jest.getTimerCount()).toBe(0);
  });

  test('leaves no listener on the signal', async () => {
    const abort = new AbortController();
    const removed = jest.spyOn(abort.signal, 'removeEventListener');
    const fires: (() => void)[] = [];
    const setTimer = (_delayMs: number, fire: () => void) => {
      fires.push(fire);
      return { cancel: () => undefined };
    };
    const sleeping = sleepWith({ setTimer }, 1, abort.signal);
    for (const fire of fires) fire();
    await sleeping;
    expect(removed).toHaveBeenCalledTimes(1);
  });
});

test('a timestamp is RFC 3339 in UTC, with milliseconds', () => {
  expect(toTimestamp(0)).toBe('1970-01-01T00:00:00.000Z');
});
