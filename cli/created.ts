/** What is shown of a session that was just made: its id as data, how to go on as advice. */
import type { SessionView } from '../protocol/resources.ts';
import type { Context } from './command.ts';
import { toName } from './session-action.ts';
import { toShortId } from './text/format.ts';
import { sanitize } from './text/width.ts';

/** The id on stdout; what to do with it on stderr. */
export function showCreated(context: Context, view: SessionView): void {
  sayNotice(context, view);
  if (context.json) {
    context.printJson(view);
    return;
  }
  if (context.quiet) {
    context.print(view.id);
    return;
  }
  context.print(view.id);
  const id = toShortId(view.id);
  const { dim } = context.errorStyle;
  context.say(`session ${toName(view)} with agent ${view.agent}, in ${sanitize(view.workspace)}`);
  context.say(`  ${context.self} attach ${id}        ${dim('talk with it')}`);
  context.say(`  ${context.self} logs -f ${id}       ${dim('see what it does')}`);
  context.say(`  ${context.self} close ${id}         ${dim('stop it')}`);
}

/** What is special about the workspace, e.g. that it is read-only. */
export function sayNotice(context: Context, view: SessionView): void {
  if (view.workspace_notice === undefined) return;
  context.say(`${context.errorStyle.yellow('note:')} ${sanitize(view.workspace_notice)}`);
}
