/** Lets a suspended session go on. */
import { defineAction } from '../session-action.ts';

export const command = defineAction({
  past: 'resumed',
  findVain: ({ state }) => (state === 'suspended' ? undefined : 'nothing to resume in'),
  act: (client, id) => client.resume(id),
});
