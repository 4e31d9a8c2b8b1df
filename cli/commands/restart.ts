/** Opens a closed or failed session again; a running one gets a new worker. */
import { defineAction } from '../session-action.ts';

export const command = defineAction({
  past: 'restarted',
  act: (client, id) => client.restart(id),
});
