/** What systemd is told, against a recorded systemd-notify; the real one is in
 *  test/cli/service-real.test.ts. */
import { PassThrough } from 'node:stream';
import { describe, expect, test } from '@jest/globals';
import { silentLogger } from '../../base/logger.ts';
import type { ProcessExit, ProcessPort, ProcessSpec } from '../../base/process.ts';
import { findWatchdogMs, notifyReady, startWatchdog } from '../../supervisor/notify.ts';
import { createSteppedClock } from './stepped-clock.ts';

const env = { NOTIFY_SOCKET: '/run/notify', WATCHDOG_USEC: '60000000', WATCHDOG_PID: '7' };
const done: ProcessExit = { code: 0, signal: undefined };
const settle = (): Promise<void> => new Promise((next) => setImmediate(next));

function createNotify(exit: () => ProcessExit | Error = () => done) {
  const said: ProcessSpec[] = [];
  const logged: unknown[] = [];
  const processes: Pick<ProcessPort, 'start'> = {
    async start(spec) {
      said.push(spec);
      const end = exit();
      if (end instanceof Error) throw end;
      return {
        pid: 9,
        stdin: new PassThrough(),
        stdout: new PassThrough(),
        stderr: new PassThrough(),
        exited: Promise.resolve(end),
        kill: () => true,
        killGroup: () => true,
      };
    },
  };
  const logger = {
    ...silentLogger,
    error: (event: string, fields?: object) => logged.push([event, fields]),
  };
  return { said, logged, processes, logger, clock: createSteppedClock() };
}

describe('readiness', () => {
  test('is said with our pid, and with nothing of our environment but the path', async () => {
    const notify = createNotify();
    await notifyReady({ ...notify, env: { ...env, OPENAI_API_KEY: 'k', PATH: '/bin' } });
    expect(notify.said).toEqual([
      {
        command: 'systemd-notify',
        args: ['--ready', `--pid=${process.pid}`],
        env: { NOTIFY_SOCKET: '/run/notify', PATH: '/bin' },
        ownSession: false,
      },
    ]);
  });

  test('is not said where nobody listens', async () => {
    const notify = createNotify();
    await notifyReady({ ...notify, env: {} });
    expect([notify.said, notify.logged]).toEqual([[], []]);
  });

  test('that cannot be said is logged; the supervisor goes on', async () => {
    const notify = createNotify(() => new Error('ENOENT'));
    await notifyReady({ ...notify, env });
    expect(notify.logged).toEqual([['notify.failed', { reason: 'ENOENT' }]]);
  });
});

describe('the interval of the watchdog', () => {
  test.each<[string, Record<string, string>, number | undefined]>([
    ['nobody watches', {}, undefined],
    ['for anybody', { WATCHDOG_USEC: '2000000' }, 2000],
    ['for us', { WATCHDOG_USEC: '2000000', WATCHDOG_PID: '7' }, 2000],
    ['for the one that started us', { WATCHDOG_USEC: '2000000', WATCHDOG_PID: '6' }, 2000],
    ['for another service', { WATCHDOG_USEC: '2000000', WATCHDOG_PID: '5' }, undefined],
    ['zero', { WATCHDOG_USEC: '0' }, undefined],
    ['no number', { WATCHDOG_USEC: 'soon' }, undefined],
  ])('%s', (_name, given, expected) => {
    expect(findWatchdogMs(given, [7, 6])).toBe(expected);
  });
});

describe('the watchdog', () => {
  const pids = [7];

  test('is told at once, then at half of the interval, until stopped', async () => {
    const notify = createNotify();
    const watchdog = startWatchdog({ ...notify, env, pids, check: async () => undefined });
    for (const expected of [1, 2, 3]) {
      await settle();
      expect(notify.said).toHaveLength(expected);
      notify.clock.advance(29_999);
      await settle();
      expect(notify.said).toHaveLength(expected);
      notify.clock.advance(1);
    }
    await settle();
    watchdog?.stop();
    notify.clock.advance(120_000);
    await settle();
    expect(notify.said).toHaveLength(4);
    expect(notify.said.every(({ args }) => args.join() === 'WATCHDOG=1')).toBe(true);
    expect(notify.clock.waiting()).toBe(0);
  });

  test('is not told while the journal fails, and is again when it works', async () => {
    const notify = createNotify();
    let failure: Error | undefined = new Error('the journal failed');
    const check = async (): Promise<void> => {
      if (failure !== undefined) throw failure;
    };
    const watchdog = startWatchdog({ ...notify, env, pids, check });
    await settle();
    expect(notify.said).toEqual([]);
    expect(notify.logged).toEqual([['watchdog.withheld', { reason: 'the journal failed' }]]);
    failure = undefined;
    notify.clock.advance(7_500);
    await settle();
    expect(notify.said).toHaveLength(1);
    watchdog?.stop();
  });

  test('is not told while the journal does not answer', async () => {
    const notify = createNotify();
    const check = (): Promise<void> => new Promise(() => undefined);
    const watchdog = startWatchdog({ ...notify, env, pids, check });
    await settle();
    notify.clock.advance(15_000);
    await settle();
    const reason = 'no answer from the journal within 15000 ms';
    expect([notify.said, notify.logged]).toEqual([[], [['watchdog.withheld', { reason }]]]);
    watchdog?.stop();
  });

  test.each<[string, () => ProcessExit | Error]>([
    ['no process could be started', () => new Error('EAGAIN')],
    ['systemd-notify failed', () => ({ code: 1, signal: undefined })],
  ])('%s: tried again before the interval is over', async (_name, exit) => {
    const notify = createNotify(exit);
    const watchdog = startWatchdog({ ...notify, env, pids, check: async () => undefined });
    for (let tries = 1; tries <= 4; tries += 1) {
      await settle();
      expect(notify.said).toHaveLength(tries);
      notify.clock.advance(7_500);
    }
    watchdog?.stop();
  });

  test('does not exist where nobody watches', () => {
    const notify = createNotify();
    const options = { ...notify, env: {}, pids, check: async () => undefined };
    expect(startWatchdog(options)).toBeUndefined();
  });
});
