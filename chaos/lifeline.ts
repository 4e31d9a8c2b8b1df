/** The supervisor of a run: started, killed, started again. It is started by its own program file,
 *  as systemd would; its log goes to a file. One that ends, or does not start, without our doing
 *  is a finding. */
import { appendFileSync } from 'node:fs';
import type { Clock } from '../base/clock.ts';
import { toPrxError } from '../base/errors.ts';
import {
  findIdentity,
  isAlive,
  type ProcessIdentity,
  type RunningProcess,
  signalIdentity,
  startProcess,
} from '../base/process.ts';
import type { Home } from './home.ts';

export interface Lifeline {
  /** Starts it when it is down; resolves when it is ready, also where that took several tries. */
  up(): Promise<void>;
  isUp(): boolean;
  identity(): ProcessIdentity | undefined;
  /** Sends the signal and waits for the end. False: there was none, or it lives on. */
  end(signal: 'SIGKILL' | 'SIGTERM', waitMs: number): Promise<boolean>;
  /** Wall times of the starts. */
  readonly startsMs: readonly number[];
}

export interface LifelineDeps {
  readonly home: Home;
  readonly clock: Clock;
  readonly path: string;
  /** A start may fail for a reason of ours, such as a full disk. */
  readonly isExcused: () => boolean;
  readonly onFinding: (message: string) => void;
}

interface Life {
  readonly process: RunningProcess;
  readonly identity: ProcessIdentity | undefined;
  /** Its end is our doing. */
  expected: boolean;
  ready: boolean;
}

const READY_MS = 20_000;
const TRIES_MAX = 50;
const RETRY_MS = 200;
const LOG_BYTES_MAX = 64 * 2 ** 20;

export function createLifeline(deps: LifelineDeps): Lifeline {
  const { home, clock } = deps;
  const startsMs: number[] = [];
  let life: Life | undefined;
  let starting: Promise<void> | undefined;
  let logged = 0;
  let tail = '';

  function log(text: string): void {
    tail = (tail + text).slice(-2000);
    logged += text.length;
    if (logged <= LOG_BYTES_MAX) appendFileSync(home.logFile, text);
  }

  async function launch(): Promise<Life> {
    startsMs.push(clock.wallMs());
    const options = { config: home.configFile, stateDir: home.stateDir };
    const process = await startProcess({
      command: globalThis.process.execPath,
      args: [
        '--max-semi-space-size=2',
        '--no-parallel-scavenge',
        home.supervisor,
        JSON.stringify(options),
      ],
      cwd: '/',
      env: { PATH: deps.path, HOME: home.dir, TMPDIR: home.tmpDir },
      ownSession: false,
    });
    const started: Life = {
      process,
      identity: findIdentity(process.pid),
      expected: false,
      ready: false,
    };
    const firstLine = new Promise<boolean>((resolve) => {
      process.stdout.once('data', () => resolve(true));
    });
    process.stdout.resume();
    process.stderr.setEncoding('utf8');
    process.stderr.on('data', log);
    void process.exited.then(({ code, signal }) => onExit(started, `${code ?? signal}`));
    life = started;
    const waited = new AbortController();
    started.ready = await Promise.race([
      firstLine,
      process.exited.then(() => false),
      clock.sleep(READY_MS, waited.signal).then(() => false),
    ]);
    waited.abort();
    return started;
  }

  function onExit(ended: Life, how: string): void {
    if (life === ended) life = undefined;
    if (ended.expected || deps.isExcused()) return;
    const last = tail.trim().split('\n').at(-1) ?? '';
    deps.onFinding(`the supervisor ended by itself (${how}); its last words: ${last}`);
  }

  async function start(): Promise<void> {
    for (let left = TRIES_MAX; left > 0; left -= 1) {
      const started = await launch();
      if (started.ready || started.expected) return;
      if (started.identity !== undefined && isAlive(started.identity)) {
        deps.onFinding(`the supervisor was not ready within ${READY_MS} ms`);
        started.expected = true;
        started.process.kill('SIGKILL');
        await started.process.exited;
      }
      await clock.sleep(RETRY_MS);
    }
    deps.onFinding(`the supervisor did not start in ${TRIES_MAX} tries`);
  }

  return {
    startsMs,
    isUp: () => life?.ready === true,
    identity: () => life?.identity,
    up() {
      if (life?.ready === true) return Promise.resolve();
      starting ??= start()
        .catch((error: unknown) => deps.onFinding(toPrxError(error).message))
        .finally(() => {
          starting = undefined;
        });
      return starting;
    },
    async end(signal, waitMs) {
      const ending = life;
      if (ending?.identity === undefined) return false;
      ending.expected = true;
      signalIdentity(ending.identity, signal);
      const waited = new AbortController();
      const isGone = await Promise.race([
        ending.process.exited.then(() => true),
        clock.sleep(waitMs, waited.signal).then(() => false),
      ]);
      waited.abort();
      return isGone;
    },
  };
}
