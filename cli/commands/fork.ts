/** A second session that begins as the first one was, up to an event. */
import { PrxError } from '../../base/errors.ts';
import { defineCommand } from '../command.ts';
import { showCreated } from '../created.ts';
import { sayNeighbours } from '../neighbours.ts';
import { EXIT } from '../outcome.ts';

export const command = defineCommand({
  build: (yargs) =>
    yargs
      .positional('id', { type: 'string', demandOption: true, describe: 'Id, name, or @last' })
      .option('at', {
        type: 'number',
        requiresArg: true,
        describe: 'Last event to take over, as `events` numbers them (default: the newest)',
      })
      .option('name', { type: 'string', requiresArg: true, describe: 'A name for the new one' })
      .example('prx-supervisor fork @last --at 12', 'go on differently from event 12')
      .example('id=$(prx-supervisor fork web -q)', 'the new id alone'),
  run: async (context, { id, at, name }) => {
    if (at !== undefined) checkAt(at);
    const client = context.connect();
    const view = await client.fork(id, {
      ...(at === undefined ? {} : { at }),
      ...(name === undefined ? {} : { name }),
    });
    showCreated(context, view);
    await sayNeighbours(context, { client, view });
    return EXIT.done;
  },
});

function checkAt(at: number): void {
  if (Number.isSafeInteger(at) && at > 0) return;
  const message = `--at ${at} is no sequence number: they begin with 1`;
  throw new PrxError('INVALID_REQUEST', message, { data: { at } });
}
