/** What the tools need from an isolation level, whichever it is. */
import type { Readable, Writable } from 'node:stream';
import type { EffectId } from '../../protocol/ids.ts';
import type { NetworkPolicy } from '../../protocol/network.ts';
import type { SandboxLevel } from '../../protocol/sandbox-levels.ts';
import type { View } from './arguments.ts';
import type { CommandTree } from './command-tree.ts';

export type Level = SandboxLevel;

/** none: there is no workspace inside. */
export type WorkspaceAccess = 'write' | 'read-only' | 'none';

/** exited: the command ran to its end by itself and has a code. lost: it ended without one, so
 *  how far it came is not known (killed from outside, or the sandbox could not be built).
 *  unstarted: it ended before it knew what to run, so that nothing of it ran. */
export type CommandEnd =
  | { readonly kind: 'exited'; readonly code: number }
  | { readonly kind: 'lost'; readonly detail: string }
  | { readonly kind: 'unstarted' };

export interface RunningCommand {
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Settles when the first process is gone; the pipes may still hold bytes. Never rejects. */
  readonly ended: Promise<CommandEnd>;
  /** Ends everything the command started. Idempotent. */
  kill(): void;
  readonly tree: CommandTree;
}

/** The process that serves the file tools: JSON-RPC on its standard streams. */
export interface FileHostProcess {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  readonly exited: Promise<unknown>;
  kill(): void;
}

/** The process that runs custom tools, or an MCP server: watched like a command. */
export interface ToolHostProcess extends FileHostProcess {
  readonly tree: CommandTree;
}

/** One that is spoken to while it runs. */
export interface StartedCommand extends RunningCommand {
  readonly stdin: Writable;
}

/** For whom a command runs, and what it alone is given. */
export interface CommandUse {
  readonly call: EffectId;
  /** Value by name; files of /run/prx/call/secrets in there. */
  readonly secrets?: Readonly<Record<string, string>>;
}

export interface Backend {
  readonly level: Level;
  /** The user the tools are on the host. */
  readonly uid: number;
  /** The real path of the workspace. */
  readonly workspace: string;
  readonly workspaceAccess: WorkspaceAccess;
  /** Said with each result; undefined: nothing to say. */
  readonly notice: string | undefined;
  /** The search program as a command sees it; undefined: there is none. */
  readonly searchProgram: string | undefined;
  /** Node as a command sees it. */
  readonly nodeProgram: string;
  /** Who keeps the memory of a call: the kernel by a control group, or a watch over its tree. */
  readonly memoryKeeper: 'cgroup v1' | 'cgroup v2' | 'watch';
  /** Where commands keep temporary files on the disk; undefined: in memory, with a size. */
  readonly temporaryFolder: string | undefined;
  /** What of the network is in reach. */
  readonly network: NetworkPolicy['mode'];
  /** What is shown inside; undefined: whatever the user may see. */
  view(): View | undefined;
  /** Runs a shell script. Throws SANDBOX_UNAVAILABLE when no sandbox can be had. */
  run(script: string, use?: CommandUse): Promise<RunningCommand>;
  /** Runs a shell script with a standard input. `admit` is asked when all is ready and nothing has
   *  run; where it rejects nothing runs. It may be asked again before the start. Throws
   *  SANDBOX_UNAVAILABLE, and what `admit` throws. */
  start(script: string, use: CommandUse, admit: () => Promise<void>): Promise<StartedCommand>;
  startFileHost(): Promise<FileHostProcess>;
  startToolHost(): Promise<ToolHostProcess>;
  /** A root of custom tools as the tool host finds it. */
  toToolPath(root: string, index: number): string;
  /** Runs a shell script that is spoken to on its standard streams. Throws SANDBOX_UNAVAILABLE. */
  startServer(script: string): Promise<ToolHostProcess>;
  /** Kills all that runs and gives everything back; resolves when it is gone. Idempotent. */
  close(): Promise<void>;
}
