/** Names in a workspace that make somebody else's program run something: an editor that opens the
 *  folder, a shell that enters it, git. A tool may read them; what exists of them is read-only
 *  inside, and what appears is put aside under another name. Pure. */

/** In the workspace's own folder: that is what a person opens or enters. */
const STARTERS: ReadonlySet<string> = new Set([
  // Editors: tasks and settings that run when the folder is opened.
  ...['.vscode', '.vscode-server', '.idea', '.cursor', '.zed', '.fleet', '.windsurf', '.vs'],
  ...['.devcontainer', '.devcontainer.json', '.exrc', '.nvimrc', '.nvim.lua', '.vimrc', '.lvimrc'],
  ...['.vim', '.lazy.lua', '.theia', '.trae', '.externalToolBuilders', '.bsp'],
  ...['.dir-locals.el', '.dir-locals-2.el', '.emacs', '.projectile', '.helix', '.lite_project.lua'],
  // Shells, and what hooks into them when the folder is entered.
  ...['.envrc', '.mise.toml', 'mise.toml', '.mise', '.rtx.toml', '.autoenv', '.autoenv.zsh'],
  ...['.mise.local.toml', 'mise.local.toml', '.rvmrc'],
  ...['.bashrc', '.bash_profile', '.bash_login', '.bash_logout', '.profile', '.zshrc', '.zshenv'],
  ...['.zprofile', '.zlogin', '.zlogout', '.kshrc', '.inputrc', '.gitconfig', '.ripgreprc'],
  // Agents, whose own settings start servers and hooks.
  ...['.mcp.json', '.claude', '.codex', '.gemini', '.agents', '.aider.conf.yml', '.continue'],
  ...['.kiro', '.roo', '.opencode', 'opencode.json'],
  ...['.junie', '.qwen', '.amazonq', '.crush.json', '.kilocode', '.factory'],
  // Interpreters and debuggers, when they are started in the folder.
  ...['.gdbinit', '.lldbinit', '.Rprofile', '.Renviron', '.ghci', '.irbrc', '.pryrc', '.octaverc'],
  ...[
    '.pdbrc',
    '.perldb',
    '.byebugrc',
    '.rdbgrc',
    '.iex.exs',
    '.erlang',
    '.ocamlinit',
    '.psysh.php',
  ],
  // Hooks that a package script points git at.
  ...['.husky', '.githooks'],
]);

/** In a git folder: the configuration, the hooks, and what moves git to another configuration. */
export const GIT_ENTRIES = ['config', 'config.worktree', 'hooks', 'commondir'] as const;

/** What was put aside carries this in its name, which nothing starts. */
const ASIDE = '.withheld-';

export const starterNames: readonly string[] = [...STARTERS];

/** Why a path, relative to the workspace, is not to be written; undefined: it may be. */
export function findGuard(relative: string): string | undefined {
  const [first = '', second = ''] = relative.split('/');
  if (STARTERS.has(first)) return `${first} is run by editors, shells or agents of its user`;
  if (relative === '.git' || (first === '.git' && isGitEntry(second))) {
    return `${relative} decides what git runs`;
  }
  return undefined;
}

function isGitEntry(name: string): boolean {
  return GIT_ENTRIES.some((entry) => entry === name);
}

export function toAsideName(name: string, mark: string): string {
  return `${name}${ASIDE}${mark}`;
}

/** Keys that only describe a repository. Any other can name a program to run, or a file with more
 *  keys; git has dozens of those and gains some, so the list is of what is known to be harmless. */
const PLAIN_KEYS =
  /^(core\.(repositoryformatversion|filemode|bare|logallrefupdates|ignorecase|precomposeunicode|symlinks|autocrlf|eol|safecrlf|abbrev|compression|sharedrepository)|user\.(name|email)|init\.defaultbranch|remote\.(.+\.)?(url|pushurl|fetch|mirror|prune|tagopt|partialclonefilter|promisor)|branch\.(.+\.)?(remote|merge|rebase|pushremote|description)|submodule\.(.+\.)?(url|active|branch)|submodule\.active|extensions\.(objectformat|partialclone|refstorage|preciousobjects)|pull\.(rebase|ff)|push\.(default|autosetupremote)|fetch\.prune|gc\.auto|advice\..*)$/;

/** The first key of a git configuration that may make git run something; undefined: none. What
 *  cannot be read as plain sections and keys counts. Pure.
 *  @param isOwnWorktree  whether `core.worktree`, which may lead anywhere, leads to the folder that
 *    belongs to this repository, as in a submodule; absent: never. */
export function findActiveKey(
  text: string,
  isOwnWorktree: (path: string) => boolean = () => false,
): string | undefined {
  let section = '';
  for (const raw of text.split('\n')) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#') || line.startsWith(';')) continue;
    const header = /^\[([A-Za-z0-9.-]+)(?:\s+"((?:[^"\\]|\\.)*)")?\]$/.exec(line);
    if (header !== null) {
      const [, name = '', sub] = header;
      section = sub === undefined ? name.toLowerCase() : `${name.toLowerCase()}.${sub}`;
      continue;
    }
    const name = /^([A-Za-z][A-Za-z0-9-]*)\s*(?:=|$)/.exec(line)?.[1]?.toLowerCase();
    if (name === undefined) return line.slice(0, 60);
    const key = `${section}.${name}`;
    const value = line.slice(line.indexOf('=') + 1).trim();
    if (key === 'core.worktree' && isOwnWorktree(value)) continue;
    // A value that goes on in the next line would be read as a key: then it is not plain.
    if (!PLAIN_KEYS.test(key) || line.endsWith('\\')) return key.slice(0, 120);
    // Quotes may stand anywhere in a value, and git takes them away.
    if (/::|^-/.test(value.replaceAll(/["\\]/g, ''))) return key.slice(0, 120);
  }
  return undefined;
}

/** Whether the steps that a rebase has left hold a command to run. Pure. */
export function holdsCommand(steps: string): boolean {
  return /^[ \t]*(exec|x)([ \t]|$)/m.test(steps);
}

/** Git's own. Any other is a program, and may be written as a path to one. */
const STRATEGY = /^(ort|recursive|resolve|octopus|ours|subtree)?$/;

/** Whether the strategy that a rebase has noted is none of git's. Pure. */
export function isForeignStrategy(text: string): boolean {
  return !STRATEGY.test(text.trim());
}

/** Whether the options that a cherry-pick or revert has noted, a git configuration, name such a
 *  strategy. What is not written as git writes it counts. Pure. */
export function holdsForeignStrategy(options: string): boolean {
  return options.split('\n').some((line) => {
    if (line === '' || line === '[options]') return false;
    const [, key = '', value = ''] = /^\t([a-z-]+) = (.*[^\\])$/.exec(line) ?? [];
    return key === '' || (key === 'strategy' && isForeignStrategy(value));
  });
}

/** What else a repository's configuration leads git to: folders of hooks, and files with more
 *  keys; as they are written there. Pure. */
export function findLeads(text: string): { readonly hooks: string[]; readonly includes: string[] } {
  const leads = { hooks: [] as string[], includes: [] as string[] };
  let section = '';
  for (const raw of text.split('\n')) {
    const header = /^\s*\[\s*([A-Za-z0-9.-]+)[^\]]*\]/.exec(raw);
    if (header !== null) section = (header[1] ?? '').toLowerCase();
    const line = header === null ? raw : raw.slice(header[0].length);
    const [, name = '', value = ''] =
      /^\s*([A-Za-z][A-Za-z0-9-]*)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    const path = value.replaceAll('"', '').trim();
    if (path === '') continue;
    const key = `${section}.${name.toLowerCase()}`;
    if (key === 'core.hookspath') leads.hooks.push(path);
    if (key === 'include.path' || key === 'includeif.path') leads.includes.push(path);
  }
  return leads;
}
