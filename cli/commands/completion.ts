/** Completion scripts. The words come from yargs (--get-yargs-completions): each shell only asks
 *  for them, so a new option completes without a new script. */
import { defineCommand } from '../command.ts';
import { EXIT } from '../outcome.ts';

const SHELLS = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof SHELLS)[number];

export const command = defineCommand({
  build: (yargs) =>
    yargs
      .positional('shell', { choices: SHELLS, demandOption: true, describe: 'Which shell' })
      .example('prx-supervisor completion bash >> ~/.bashrc', '')
      .example(
        'prx-supervisor completion fish > ~/.config/fish/completions/prx-supervisor.fish',
        '',
      ),
  run: async (context, { shell }) => {
    context.machine.stdout.write(renderCompletion(shell));
    return EXIT.done;
  },
});

const NAMES = ['prx-supervisor', 'prx'];

export function renderCompletion(shell: Shell): string {
  switch (shell) {
    case 'bash':
      return BASH;
    case 'zsh':
      return ZSH;
    case 'fish':
      return FISH;
  }
}

// SHELL is set for the one call: yargs shapes its answer by it, and the login shell may be another.
const BASH = `# prx-supervisor completion for bash
_prx_supervisor() {
  local current="\${COMP_WORDS[COMP_CWORD]}"
  local IFS=$'\\n'
  COMPREPLY=($(compgen -W "$(SHELL=bash "\${COMP_WORDS[0]}" --get-yargs-completions "\${COMP_WORDS[@]:1}" 2>/dev/null)" -- "$current"))
}
complete -o default -F _prx_supervisor ${NAMES.join(' ')}
`;

const ZSH = `#compdef ${NAMES.join(' ')}
# prx-supervisor completion for zsh
_prx_supervisor() {
  local -a reply
  reply=("\${(@f)$(SHELL=zsh "\${words[1]}" --get-yargs-completions "\${words[@]:1}" 2>/dev/null)}")
  if [[ -n "\${reply[1]}" ]]; then
    _describe 'values' reply
  else
    _default
  fi
}
compdef _prx_supervisor ${NAMES.join(' ')}
`;

const FISH = `# prx-supervisor completion for fish
function __prx_supervisor
  set -l words (commandline -opc) (commandline -ct)
  SHELL=fish $words[1] --get-yargs-completions $words[2..-1] 2>/dev/null
end
${NAMES.map((name) => `complete -c ${name} -f -a '(__prx_supervisor)'`).join('\n')}
`;
