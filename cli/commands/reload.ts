/** Makes the supervisor read its configuration again; a bad one leaves the last good in force. */
import { defineCommand } from '../command.ts';
import { EXIT } from '../outcome.ts';

export const command = defineCommand({
  build: (yargs) => yargs,
  run: async (context) => {
    const result = await context.connect().reload();
    if (context.json) {
      context.printJson(result);
      return EXIT.done;
    }
    const { changed, needs_restart: needsRestart } = result;
    context.print(changed.length === 0 ? 'nothing changed' : `changed: ${changed.join(', ')}`);
    if (needsRestart.length > 0) {
      context.say(`these take effect at the next start: ${needsRestart.join(', ')}`);
    }
    return EXIT.done;
  },
});
