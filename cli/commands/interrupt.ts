/** Stops the running turn. Without one nothing happens. */
import { defineAction } from '../session-action.ts';

export const command = defineAction({
  past: 'interrupted',
  act: (client, id) => client.interrupt(id),
});
