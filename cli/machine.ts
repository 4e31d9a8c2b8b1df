/** What a command has of the world. Commands touch no global: main.ts hands them the real one,
 *  tests hand them streams of their own. */
import type { Readable } from 'node:stream';
import type { Clock } from '../base/clock.ts';

/** How this program is called: in help, hints and messages. */
export const PROGRAM = 'prx-supervisor';

export type Environment = Readonly<Record<string, string | undefined>>;

export type Input = Readable & {
  readonly isTTY?: boolean;
  setRawMode?(raw: boolean): unknown;
  ref?(): unknown;
  unref?(): unknown;
};

export interface Output {
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
  write(text: string): boolean;
  on(event: 'resize', listener: () => void): unknown;
  off(event: 'resize', listener: () => void): unknown;
}

export interface Machine {
  readonly env: Environment;
  readonly cwd: string;
  readonly stdin: Input;
  readonly stdout: Output;
  readonly stderr: Output;
  readonly clock: Clock;
  /** Our own Node: what to start programs of ours with. */
  readonly node: { readonly path: string; readonly args: readonly string[] };
  /** Calls `handler` at each Ctrl-C (SIGINT) or SIGTERM. Returns how to stop listening. */
  onInterrupt(handler: (signal: 'SIGINT' | 'SIGTERM') => void): () => void;
  /** Becomes another program; returns only where that is not possible. */
  replaceWith(command: string, args: readonly string[]): void;
}

const COLUMNS_DEFAULT = 80;
const ROWS_DEFAULT = 24;

export function columnsOf(output: Output): number {
  const columns = output.columns ?? 0;
  return columns > 0 ? columns : COLUMNS_DEFAULT;
}

export function rowsOf(output: Output): number {
  const rows = output.rows ?? 0;
  return rows > 0 ? rows : ROWS_DEFAULT;
}
