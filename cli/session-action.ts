/** The commands that do one thing to one session and show what came of it. */
import type { ApiClient } from '../api/client.ts';
import type { SessionView } from '../protocol/resources.ts';
import { type Command, defineCommand } from './command.ts';
import { EXIT } from './outcome.ts';
import { toShortId } from './text/format.ts';

export interface SessionAction {
  /** How the answer begins: "closed 1a2b3c4d (now stopped)". */
  readonly past: string;
  /** How it begins where there is nothing to do, which is asked of the session as it was before:
   *  "nothing to interrupt in 1a2b3c4d". Undefined: there is something. */
  readonly findVain?: (before: SessionView) => string | undefined;
  readonly act: (client: ApiClient, id: string) => Promise<SessionView>;
}

export function defineAction(action: SessionAction): Command {
  return defineCommand({
    build: (yargs) =>
      yargs.positional('id', {
        type: 'string',
        demandOption: true,
        describe: 'Id, part of one, name, or @last',
      }),
    run: async (context, { id }) => {
      const client = context.connect();
      const isShown = !context.json && !context.quiet;
      // Only the words depend on it: a turn that ends meanwhile is none that was not interrupted.
      const before = isShown && action.findVain ? await client.getSession(id) : undefined;
      const view = await action.act(client, id);
      if (context.json) context.printJson(view);
      else if (isShown) {
        const done = (before && action.findVain?.(before)) ?? action.past;
        const now = `state ${view.state}, activity ${view.activity}`;
        context.print(`${done} ${toName(view)}: ${now}`);
      }
      return EXIT.done;
    },
  });
}

/** How a session is called in a sentence: short id, and its name if it has one. */
export function toName(view: Pick<SessionView, 'id' | 'name'>): string {
  const id = toShortId(view.id);
  return view.name === undefined ? id : `${id} (${view.name})`;
}
