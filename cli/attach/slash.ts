/** The few words that an attached terminal takes as commands. Pure. */
import { findNearest } from '../../base/nearest.ts';

export type Slash =
  | { readonly kind: 'help' }
  | { readonly kind: 'detach' }
  | { readonly kind: 'interrupt' }
  | {
      readonly kind: 'approve';
      readonly callId: string | undefined;
      readonly scope: 'once' | 'session' | 'rule';
    }
  | {
      readonly kind: 'deny';
      readonly callId: string | undefined;
      readonly reason: string | undefined;
    }
  | { readonly kind: 'unknown'; readonly message: string };

const NAMES = ['help', 'detach', 'quit', 'exit', 'interrupt', 'approve', 'deny'];

/** Undefined: an input for the agent. Two slashes send a text that begins with one. */
export function parseSlash(text: string): Slash | undefined {
  if (!text.startsWith('/') || text.startsWith('//')) return undefined;
  const [name = '', ...words] = text.slice(1).trim().split(/\s+/);
  // A path is no command: /etc/hosts is something to talk about.
  if (name.includes('/')) return undefined;
  switch (name) {
    case 'help':
      return { kind: 'help' };
    case 'detach':
    case 'quit':
    case 'exit':
      return { kind: 'detach' };
    case 'interrupt':
      return { kind: 'interrupt' };
    case 'approve': {
      const callId = words.find((word) => /^[\d.]+$/.test(word));
      const scope = (['session', 'rule'] as const).find((each) => words.includes(each));
      return { kind: 'approve', callId, scope: scope ?? 'once' };
    }
    case 'deny': {
      const hasCall = /^[\d.]+$/.test(words[0] ?? '');
      const reason = words.slice(hasCall ? 1 : 0).join(' ');
      return { kind: 'deny', callId: hasCall ? words[0] : undefined, reason: reason || undefined };
    }
    default: {
      const nearest = findNearest(name, NAMES);
      const hint = nearest === undefined ? '' : ` Did you mean /${nearest}?`;
      return { kind: 'unknown', message: `there is no /${name}.${hint} /help lists them.` };
    }
  }
}

export const SLASH_HELP: readonly string[] = [
  '/interrupt             stop the turn (Ctrl-C)',
  '/approve [CALL] [session|rule]  allow what waits (y, a, r)',
  '/deny [CALL] [REASON]  refuse what waits (n), or decline a question',
  '/detach                leave; the session goes on (Ctrl-D)',
  '//text                 send a text that begins with a slash',
  'Alt-Enter              a new line in the input; up and down: earlier inputs',
];
