/** Stops the running turn, or the one that is about to begin. Without one nothing happens. */
import { defineAction } from '../session-action.ts';

export const command = defineAction({
  past: 'interrupted',
  findVain: ({ state, activity, queued_inputs }) =>
    activity === 'idle' && (state !== 'running' || queued_inputs === 0)
      ? 'nothing to interrupt in'
      : undefined,
  act: (client, id) => client.interrupt(id),
});
