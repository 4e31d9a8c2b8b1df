/** Pauses a session: inputs are kept and wait for `resume`. */
import { defineAction } from '../session-action.ts';

export const command = defineAction({
  past: 'suspended',
  act: (client, id) => client.suspend(id),
});
