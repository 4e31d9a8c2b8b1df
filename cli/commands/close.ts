/** Stops a session; its journal stays and can be read. */
import { defineAction } from '../session-action.ts';

export const command = defineAction({
  past: 'closed',
  act: (client, id) => client.close(id),
});
