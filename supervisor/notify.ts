/** What systemd is told (Type=notify): that we are ready, and from then on, where the unit sets
 *  WatchdogSec, that we still work. The runtime has no datagram sockets, so systemd's own small
 *  program is asked: wherever there is a systemd there is a systemd-notify, and it waits until its
 *  message was read, so that the sender is still known. It costs 4 to 5 ms a message (measured),
 *  at one in 30 s; a helper that stays costs memory all day and needs an interpreter. It is a
 *  child of ours, which is why the unit has NotifyAccess=all. */
import { background } from '../base/background.ts';
import type { Clock, Timer } from '../base/clock.ts';
import { toPrxError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { ProcessPort } from '../base/process.ts';
import type { Environment } from './config.ts';

/** systemd-notify itself gives up after 5 s. */
const NOTIFY_TIMEOUT_MS = 10_000;

export interface NotifyDeps {
  readonly processes: Pick<ProcessPort, 'start'>;
  readonly clock: Clock;
  readonly env: Environment;
  readonly logger: Logger;
}

/** Where nobody listens nothing is said. Where it cannot be said we go on: systemd's start timeout
 *  ends us, and the log tells why. */
export async function notifyReady(deps: NotifyDeps): Promise<void> {
  const failure = await notify(deps, ['--ready', `--pid=${process.pid}`]);
  if (failure !== undefined) deps.logger.error('notify.failed', { reason: failure });
}

export interface WatchdogOptions extends NotifyDeps {
  /** Resolves while we work; rejects or stays away when only a new start would help. */
  readonly check: () => Promise<unknown>;
  /** Ours, and that of the process that started us. */
  readonly pids: readonly number[];
}

export interface Watchdog {
  stop(): void;
}

/** Tells systemd at half of the interval that we work, each time after a check. That this runs at
 *  all shows that the event loop turns. A failed check or message is tried again at an eighth of
 *  the interval; systemd restarts us when none gets through for the whole of it.
 *  @returns undefined where no watchdog watches us. */
export function startWatchdog(options: WatchdogOptions): Watchdog | undefined {
  const intervalMs = findWatchdogMs(options.env, options.pids);
  return intervalMs === undefined ? undefined : runWatchdog(options, intervalMs);
}

function runWatchdog(options: WatchdogOptions, intervalMs: number): Watchdog {
  const { clock, logger } = options;
  let isStopped = false;
  let timer: Timer | undefined;
  async function beat(): Promise<void> {
    const askedMs = clock.nowMs();
    const failure = await findFailure(options, intervalMs / 4);
    if (isStopped) return;
    if (failure !== undefined) logger.error('watchdog.withheld', { reason: failure });
    const nextMs = intervalMs / (failure === undefined ? 2 : 8);
    const tookMs = clock.nowMs() - askedMs;
    timer = clock.setTimer(Math.max(0, nextMs - tookMs), () => beatOnce());
  }
  const beatOnce = (): void => background(beat(), 'watchdog.beat', logger);
  beatOnce();
  return {
    stop() {
      isStopped = true;
      timer?.cancel();
    },
  };
}

/** WATCHDOG_PID says who is watched: a supervisor that was started from inside another service
 *  must not answer for it. Our parent's pid is ours where a process cannot become another one.
 *  @returns the interval, ms, within which systemd must hear from us. */
export function findWatchdogMs(env: Environment, pids: readonly number[]): number | undefined {
  const watched = env['WATCHDOG_PID'];
  if (watched !== undefined && watched !== '' && !pids.includes(Number(watched))) return undefined;
  const ms = Number(env['WATCHDOG_USEC'] ?? 0) / 1000;
  return Number.isFinite(ms) && ms > 0 ? ms : undefined;
}

/** Checks and tells. @returns what went wrong, if something did. Never rejects. */
async function findFailure(
  options: WatchdogOptions,
  timeoutMs: number,
): Promise<string | undefined> {
  const settled = new AbortController();
  const late = options.clock
    .sleep(timeoutMs, settled.signal)
    .then(() => `no answer from the journal within ${timeoutMs} ms`);
  const checked = options.check().then(
    () => undefined,
    (error: unknown) => toPrxError(error).message,
  );
  const failure = await Promise.race([checked, late]);
  settled.abort();
  return failure ?? notify(options, ['WATCHDOG=1']);
}

/** @returns what went wrong, if something did. Never rejects. */
async function notify(deps: NotifyDeps, args: readonly string[]): Promise<string | undefined> {
  const { processes, clock, env } = deps;
  const socket = env['NOTIFY_SOCKET'];
  if (socket === undefined || socket === '') return undefined;
  try {
    const running = await processes.start({
      command: 'systemd-notify',
      args,
      env: { NOTIFY_SOCKET: socket, PATH: env['PATH'] ?? '/usr/bin:/bin' },
      ownSession: false,
    });
    const timer = clock.setTimer(NOTIFY_TIMEOUT_MS, () => running.kill('SIGKILL'));
    const { code, signal } = await running.exited;
    timer.cancel();
    return code === 0 ? undefined : `systemd-notify ended with ${signal ?? code}`;
  } catch (error) {
    return toPrxError(error).message;
  }
}
