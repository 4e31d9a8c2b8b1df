/** A machine for the CLI in tests: its streams are memory, its clock is real. */
import { PassThrough, Readable } from 'node:stream';
import { realClock } from '../../base/clock.ts';
import type { Input, Machine, Output } from '../../cli/machine.ts';

export class FakeOutput implements Output {
  text = '';
  isTTY: boolean;
  columns = 80;
  rows = 24;
  readonly #waiting: { readonly test: (text: string) => boolean; readonly done: () => void }[] = [];

  constructor(isTTY: boolean) {
    this.isTTY = isTTY;
  }

  write(text: string): boolean {
    this.text += text;
    for (const one of this.#waiting.splice(0)) {
      if (one.test(this.text)) one.done();
      else this.#waiting.push(one);
    }
    return true;
  }

  on(): this {
    return this;
  }

  off(): this {
    return this;
  }

  /** Asked for by node:readline. */
  removeListener(): this {
    return this;
  }

  /** Resolves once the text holds `part` (or `count` of them). */
  until(part: string, count = 1): Promise<void> {
    const test = (text: string): boolean => text.split(part).length > count;
    if (test(this.text)) return Promise.resolve();
    return new Promise((done) => this.#waiting.push({ test, done }));
  }
}

export interface FakeMachine extends Machine {
  readonly stdout: FakeOutput;
  readonly stderr: FakeOutput;
  readonly keyboard: PassThrough;
  /** Presses Ctrl-C, or sends the signal. */
  signal(name?: 'SIGINT' | 'SIGTERM'): void;
  readonly replaced: string[][];
}

export interface FakeOptions {
  readonly env?: Record<string, string>;
  readonly tty?: boolean;
  /** What is piped in; absent on a terminal: a keyboard. */
  readonly stdin?: string | Buffer;
  readonly cwd?: string;
  /** What is run in place of Node. */
  readonly node?: string;
}

export function createFakeMachine(options: FakeOptions = {}): FakeMachine {
  const tty = options.tty ?? false;
  const keyboard = new PassThrough();
  const piped = Readable.from(options.stdin === undefined ? [] : [Buffer.from(options.stdin)]);
  const stdin = Object.assign((tty ? keyboard : piped) as Input, {
    isTTY: tty,
    setRawMode: () => undefined,
  });
  const handlers = new Set<(signal: 'SIGINT' | 'SIGTERM') => void>();
  const replaced: string[][] = [];
  return {
    env: { TERM: 'xterm', ...options.env },
    cwd: options.cwd ?? '/work-of-test',
    stdin,
    stdout: new FakeOutput(tty),
    stderr: new FakeOutput(tty),
    keyboard,
    clock: realClock,
    node: { path: options.node ?? process.execPath, args: [] },
    replaced,
    onInterrupt: (handler) => {
      handlers.add(handler);
      return () => handlers.delete(handler);
    },
    replaceWith: (command, args) => {
      replaced.push([command, ...args]);
      throw new Error('replaced'); // The real one does not come back either.
    },
    signal: (name = 'SIGINT') => {
      for (const handler of handlers) handler(name);
    },
  };
}
