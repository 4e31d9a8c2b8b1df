/** Who else is where a new session is: two agents in one folder see, and overwrite, each other's
 *  files, and a name that two sessions have means neither. Said, never refused. */
import type { ApiClient, SessionFilter } from '../api/client.ts';
import type { SessionView } from '../protocol/resources.ts';
import type { Context } from './command.ts';
import { toName } from './session-action.ts';

const SHOWN_MAX = 3;

export interface Newcomer {
  readonly client: Pick<ApiClient, 'listSessions'>;
  readonly view: SessionView;
  /** True: only of sessions that do something now. Those of earlier `run`s stay open, and idle. */
  readonly onlyBusy?: boolean;
}

/** Says it on stderr; nothing with -q, and nothing where the sessions cannot be listed. */
export async function sayNeighbours(context: Context, newcomer: Newcomer): Promise<void> {
  if (context.quiet) return;
  const { client, view, onlyBusy = false } = newcomer;
  // The session is made, whatever becomes of these questions: what they are about fails on its own.
  const list = async (filter: SessionFilter): Promise<readonly SessionView[]> => {
    const listed = await client.listSessions(filter).catch(() => []);
    return listed.filter(({ id }) => id !== view.id);
  };
  const { workspace, name } = view;
  const [neighbours, namesakes] = await Promise.all([
    list({ workspace }),
    name === undefined ? [] : list({ name }),
  ]);
  const inFolder = neighbours.filter(
    ({ state, activity }) =>
      state !== 'stopped' && state !== 'failed' && (!onlyBusy || activity !== 'idle'),
  );
  const note = context.errorStyle.yellow('note:');
  if (inFolder.length > 0) {
    const verb = inFolder.length === 1 ? 'works' : 'work';
    context.say(
      `${note} ${toList(inFolder)} ${verb} in this folder, too, and may change its files`,
    );
  }
  if (namesakes.length > 0) {
    context.say(`${note} the name is also that of ${toList(namesakes)}; give an id instead`);
  }
}

function toList(views: readonly SessionView[]): string {
  const shown = views.slice(0, SHOWN_MAX).map(toName).join(', ');
  const more = views.length - SHOWN_MAX;
  const noun = views.length === 1 ? 'session' : `${views.length} sessions:`;
  return more > 0 ? `${noun} ${shown} and ${more} more` : `${noun} ${shown}`;
}
