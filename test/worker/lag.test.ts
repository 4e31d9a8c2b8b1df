import { describe, expect, test } from '@jest/globals';
import { createLagMeter } from '../../worker/lag.ts';

/** A clock that is moved by hand; a timer fires when its time is passed, however late. */
function createHandClock() {
  let now = 0;
  let timers: { at: number; fire: () => void }[] = [];
  return {
    nowMs: () => now,
    setTimer(delayMs: number, fire: () => void) {
      const timer = { at: now + delayMs, fire };
      timers.push(timer);
      return {
        cancel() {
          timers = timers.filter((other) => other !== timer);
        },
      };
    },
    advance(ms: number) {
      now += ms;
      const due = timers.filter(({ at }) => at <= now);
      timers = timers.filter(({ at }) => at > now);
      for (const { fire } of due) fire();
    },
    pending: () => timers.length,
  };
}

describe('the lag meter', () => {
  test('sleeps while no turn runs', () => {
    const clock = createHandClock();
    const lag = createLagMeter(clock);
    expect(clock.pending()).toBe(0);
    lag.start();
    lag.start();
    expect(clock.pending()).toBe(1);
    lag.stop();
    lag.stop();
    expect(clock.pending()).toBe(0);
    expect(lag.takeMaxMs()).toBe(0);
  });

  test('keeps the longest delay until it is taken', () => {
    const clock = createHandClock();
    const lag = createLagMeter(clock);
    lag.start();
    for (const ms of [500, 620, 500, 530]) clock.advance(ms);
    expect(lag.takeMaxMs()).toBe(120);
    expect(lag.takeMaxMs()).toBe(0);
  });

  test('counts a sample that is overdue', () => {
    let now = 0;
    const lag = createLagMeter({
      nowMs: () => now,
      setTimer: () => ({ cancel: () => undefined }),
    });
    lag.start();
    now = 2_500;
    expect(lag.takeMaxMs()).toBe(2_000);
  });
});
