/** What the tools need from an isolation level, whichever it is. */
import type { Readable, Writable } from 'node:stream';

export type Level = 'bubblewrap' | 'none';

/** exited: the command ran to its end by itself and has a code. lost: it ended without one, so
 *  how far it came is not known (killed from outside, or the sandbox could not be built). */
export type CommandEnd =
  | { readonly kind: 'exited'; readonly code: number }
  | { readonly kind: 'lost'; readonly detail: string };

export interface RunningCommand {
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Settles when the first process is gone; the pipes may still hold bytes. Never rejects. */
  readonly ended: Promise<CommandEnd>;
  /** Ends everything the command started. Idempotent. */
  kill(): void;
}

/** The process that serves the file tools: JSON-RPC on its standard streams. */
export interface FileHostProcess {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  readonly exited: Promise<unknown>;
  kill(): void;
}

export interface Backend {
  readonly level: Level;
  /** The user the tools are on the host. */
  readonly uid: number;
  readonly workspaceAccess: 'write' | 'read-only';
  /** Said with each result; undefined: nothing to say. */
  readonly notice: string | undefined;
  /** The search program as a command sees it; undefined: there is none. */
  readonly searchProgram: string | undefined;
  /** Runs a shell script. Throws SANDBOX_UNAVAILABLE when no sandbox can be had. */
  run(script: string): Promise<RunningCommand>;
  startFileHost(): Promise<FileHostProcess>;
  /** Kills all that runs and gives everything back; resolves when it is gone. Idempotent. */
  close(): Promise<void>;
}
