/** Lets a suspended session go on. */
import { defineAction } from '../session-action.ts';

export const command = defineAction({
  past: 'resumed',
  act: (client, id) => client.resume(id),
});
