/** The table of commands: what a listing shows and how to load one. Nothing of a command is loaded
 *  before its name was typed, so that `ps` does not pay for `attach`. */
import type { Command } from '../command.ts';

export type CommandGroup = 'supervisor' | 'talk' | 'look' | 'act' | 'approve';

export interface CommandEntry {
  readonly name: string;
  readonly aliases: readonly string[];
  /** Positional arguments as yargs writes them. */
  readonly usage: string;
  readonly summary: string;
  readonly group: CommandGroup;
  readonly load: () => Promise<{ readonly command: Command }>;
}

export const groupTitles: Readonly<Record<CommandGroup, string>> = {
  talk: 'Work with an agent',
  look: 'Look',
  act: 'Act on a session',
  approve: 'Approvals',
  supervisor: 'The supervisor and this machine',
};

type Row = Omit<CommandEntry, 'aliases'> & { readonly aliases?: readonly string[] };

const rows: readonly Row[] = [
  {
    name: 'run',
    usage: '[prompt..]',
    summary: 'Send a prompt, stream the answer, exit with the turn (- reads stdin)',
    group: 'talk',
    load: () => import('./run.ts'),
  },
  {
    name: 'new',
    usage: '',
    summary: 'Create a session',
    group: 'talk',
    load: () => import('./new.ts'),
  },
  {
    name: 'attach',
    usage: '<id>',
    summary: 'Open a live terminal on a session',
    group: 'talk',
    load: () => import('./attach.ts'),
  },
  {
    name: 'send',
    usage: '<id> <text..>',
    summary: 'Send an input without attaching',
    group: 'talk',
    load: () => import('./send.ts'),
  },
  {
    name: 'wait',
    usage: '<id>',
    summary: 'Block until a session is idle, done, or wants an approval',
    group: 'talk',
    load: () => import('./wait.ts'),
  },
  {
    name: 'acp',
    usage: '',
    summary: 'Serve an editor on stdio (Agent Client Protocol)',
    group: 'talk',
    load: () => import('./acp.ts'),
  },
  {
    name: 'mcp',
    usage: '',
    summary: 'Serve sessions as tools on stdio (Model Context Protocol)',
    group: 'talk',
    load: () => import('./mcp.ts'),
  },
  {
    name: 'ps',
    aliases: ['ls'],
    usage: '',
    summary: 'List sessions',
    group: 'look',
    load: () => import('./ps.ts'),
  },
  {
    name: 'top',
    usage: '',
    summary: 'Watch the supervisor and its sessions live',
    group: 'look',
    load: () => import('./top.ts'),
  },
  {
    name: 'inspect',
    usage: '<id>',
    summary: 'Show one session as JSON',
    group: 'look',
    load: () => import('./inspect.ts'),
  },
  {
    name: 'describe',
    usage: '<id>',
    summary: 'Explain one session in words',
    group: 'look',
    load: () => import('./describe.ts'),
  },
  {
    name: 'logs',
    usage: '<id>',
    summary: "Show a session's log for people",
    group: 'look',
    load: () => import('./logs.ts'),
  },
  {
    name: 'events',
    usage: '[id]',
    summary: "Print the journal's events of one session or all",
    group: 'look',
    load: () => import('./events.ts'),
  },
  {
    name: 'why',
    usage: '<id>',
    summary: 'Explain what went wrong in a session, and what to do next',
    group: 'look',
    load: () => import('./why.ts'),
  },
  {
    name: 'interrupt',
    usage: '<id>',
    summary: 'Stop the running turn; the session goes on',
    group: 'act',
    load: () => import('./interrupt.ts'),
  },
  {
    name: 'suspend',
    usage: '<id>',
    summary: 'Pause a session; inputs wait',
    group: 'act',
    load: () => import('./suspend.ts'),
  },
  {
    name: 'resume',
    usage: '<id>',
    summary: 'Let a suspended session go on',
    group: 'act',
    load: () => import('./resume.ts'),
  },
  {
    name: 'restart',
    usage: '<id>',
    summary: 'Open a closed or failed session again, or give it a new worker',
    group: 'act',
    load: () => import('./restart.ts'),
  },
  {
    name: 'close',
    usage: '<id>',
    summary: 'Stop a session; its journal stays',
    group: 'act',
    load: () => import('./close.ts'),
  },
  {
    name: 'rm',
    usage: '<ids..>',
    summary: 'Remove sessions with their journals',
    group: 'act',
    load: () => import('./rm.ts'),
  },
  {
    name: 'rename',
    usage: '<id> <name>',
    summary: 'Give a session a name',
    group: 'act',
    load: () => import('./rename.ts'),
  },
  {
    name: 'fork',
    usage: '<id>',
    summary: 'Begin another session as this one was, up to an event',
    group: 'act',
    load: () => import('./fork.ts'),
  },
  {
    name: 'approvals',
    usage: '',
    summary: 'List what waits for a decision',
    group: 'approve',
    load: () => import('./approvals.ts'),
  },
  {
    name: 'approve',
    usage: '<id> <call>',
    summary: 'Allow a waiting tool call',
    group: 'approve',
    load: () => import('./approve.ts'),
  },
  {
    name: 'deny',
    usage: '<id> <call>',
    summary: 'Refuse a waiting tool call',
    group: 'approve',
    load: () => import('./deny.ts'),
  },
  {
    name: 'policy',
    usage: '<action> <what> [arguments]',
    summary: 'explain: why a tool call is allowed, asked for or denied',
    group: 'approve',
    load: () => import('./policy.ts'),
  },
  {
    name: 'start',
    usage: '',
    summary: 'Start the supervisor (in the foreground unless --detach)',
    group: 'supervisor',
    load: () => import('./start.ts'),
  },
  {
    name: 'stop',
    usage: '',
    summary: 'Stop the supervisor gracefully',
    group: 'supervisor',
    load: () => import('./stop.ts'),
  },
  {
    name: 'status',
    usage: '',
    summary: 'Show health, capacity, sandbox level and versions',
    group: 'supervisor',
    load: () => import('./status.ts'),
  },
  {
    name: 'reload',
    usage: '',
    summary: 'Read the configuration again',
    group: 'supervisor',
    load: () => import('./reload.ts'),
  },
  {
    name: 'config',
    usage: '<action>',
    summary: 'check: is the configuration valid; show: every value and its source',
    group: 'supervisor',
    load: () => import('./config.ts'),
  },
  {
    name: 'token',
    usage: '<action> [name]',
    summary: 'create, ls or revoke what lets clients in at the TCP door',
    group: 'supervisor',
    load: () => import('./token.ts'),
  },
  {
    name: 'journal',
    usage: '<action> [id]',
    summary: 'verify, repair or export the durable truth',
    group: 'supervisor',
    load: () => import('./journal.ts'),
  },
  {
    name: 'secret',
    usage: '<action> [name]',
    summary: 'set, ls or rm secrets for agents; rotate the key of the vault',
    group: 'supervisor',
    load: () => import('./secret.ts'),
  },
  {
    name: 'backup',
    usage: '<file>',
    summary: 'Write journal and artifacts into one verified file',
    group: 'supervisor',
    load: () => import('./backup.ts'),
  },
  {
    name: 'restore',
    usage: '<file>',
    summary: 'Put a backup in the place of the journal (no supervisor running)',
    group: 'supervisor',
    load: () => import('./restore.ts'),
  },
  {
    name: 'doctor',
    usage: '',
    summary: 'Check this machine; each finding names its mend',
    group: 'supervisor',
    load: () => import('./doctor.ts'),
  },
  {
    name: 'chaos',
    usage: '',
    summary: 'Kill our own processes at random in a scratch folder and check every invariant',
    group: 'supervisor',
    load: () => import('./chaos.ts'),
  },
  {
    name: 'sandbox',
    usage: '<action> [command..]',
    summary: 'run: one command in the sandbox, as a tool runs it; explain: what it gives here',
    group: 'supervisor',
    load: () => import('./sandbox.ts'),
  },
  {
    name: 'service',
    usage: '<action>',
    summary: 'print: the systemd unit; install: put it where systemd finds it',
    group: 'supervisor',
    load: () => import('./service.ts'),
  },
  {
    name: 'completion',
    usage: '<shell>',
    summary: 'Print the completion script of a shell',
    group: 'supervisor',
    load: () => import('./completion.ts'),
  },
];

/** In the order in which help lists them. */
export const commandTable: readonly CommandEntry[] = rows.map((row) => ({ aliases: [], ...row }));

/** Every name and alias that can be typed. */
export const commandNames: readonly string[] = commandTable.flatMap((entry) => [
  entry.name,
  ...entry.aliases,
]);

export function findCommand(name: string): CommandEntry | undefined {
  return commandTable.find((entry) => entry.name === name || entry.aliases.includes(name));
}
