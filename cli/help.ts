/** What `--help` without a command prints: the commands by group, the options they share, a few
 *  ways to begin. A command's own help comes from yargs. */
import { type CommandGroup, commandTable, groupTitles } from './commands/index.ts';
import type { Style } from './text/style.ts';
import { padEnd } from './text/width.ts';

const NAME_COLUMNS = 24;

export function renderHelp(self: string, style: Style): string {
  const groups = Object.keys(groupTitles) as CommandGroup[];
  const sections = groups.map((group) => {
    const rows = commandTable
      .filter((entry) => entry.group === group)
      .map((entry) => {
        const name = [entry.name, ...entry.aliases].join(', ');
        return row(style, `${name} ${entry.usage}`.trim(), entry.summary);
      });
    return [style.bold(`${groupTitles[group]}:`), ...rows].join('\n');
  });
  return [
    `${style.bold(self)}: crash-only hosting for LLM agents`,
    `Usage: ${self} COMMAND [options]`,
    ...sections,
    [style.bold('Options of every command:'), ...optionRows(style)].join('\n'),
    [style.bold('Examples:'), ...exampleRows(self, style)].join('\n'),
    `${self} COMMAND --help explains one command. Ids may be shortened; a name or @last works too.`,
  ].join('\n\n');
}

function row(style: Style, left: string, right: string): string {
  return `  ${style.cyan(padEnd(left, NAME_COLUMNS))} ${right}`;
}

function optionRows(style: Style): string[] {
  return [
    row(style, '--state-dir DIR', 'where the supervisor keeps its state (PRX_STATE_DIR)'),
    row(style, '--url URL', 'a supervisor on TCP (PRX_URL, with PRX_TOKEN)'),
    row(style, '--json', 'one stable JSON shape; JSON lines where it streams'),
    row(style, '--plain', 'flat labelled lines, no colour, no movement (PRX_A11Y=1)'),
    row(style, '-q, --quiet', 'only what a script needs'),
    row(style, '-h, --help', 'help, of a command when one is named'),
    row(style, '--version', 'the version'),
  ];
}

function exampleRows(self: string, style: Style): string[] {
  const example = (line: string, why: string): string => `  ${padEnd(line, 52)} ${style.dim(why)}`;
  return [
    example(`${self} start --detach`, 'start the supervisor'),
    example(`${self} run 'What is in this folder?'`, 'one prompt, here'),
    example(`git diff | ${self} run --approve never -`, 'the prompt from stdin'),
    example(`id=$(${self} new -q) && ${self} attach $id`, 'a session to talk with'),
    example(`${self} ps -a --json`, 'all sessions, for a program'),
  ];
}
