/** Creates a session in the current folder and says how to go on. */
import { resolve } from 'node:path';
import type { CreateSession } from '../../protocol/resources.ts';
import { defineCommand } from '../command.ts';
import { showCreated } from '../created.ts';
import { parseLabels } from '../labels.ts';
import { sayNeighbours } from '../neighbours.ts';
import { EXIT } from '../outcome.ts';
import { checkPrompt } from '../prompt-input.ts';

export const command = defineCommand({
  build: (yargs) =>
    yargs
      .option('agent', { type: 'string', requiresArg: true, describe: 'Agent of the config file' })
      .option('name', { type: 'string', requiresArg: true, describe: 'A name; works as an id' })
      .option('workspace', {
        type: 'string',
        requiresArg: true,
        describe: 'Folder to work in (default: this one)',
      })
      .option('label', {
        type: 'string',
        array: true,
        requiresArg: true,
        describe: 'K=V to find the session by (repeatable)',
      })
      .option('prompt', { type: 'string', requiresArg: true, describe: 'Send this at once' })
      .example('prx-supervisor new --name review --label team=web', '')
      .example('id=$(prx-supervisor new -q)', 'the id alone'),
  run: async (context, args) => {
    const text = args.prompt === undefined ? undefined : checkPrompt(args.prompt);
    const labels = parseLabels(args.label ?? []);
    const params: CreateSession = {
      workspace: resolve(context.machine.cwd, args.workspace ?? '.'),
      ...(args.agent === undefined ? {} : { agent: args.agent }),
      ...(args.name === undefined ? {} : { name: args.name }),
      ...(Object.keys(labels).length === 0 ? {} : { labels }),
    };
    const client = context.connect();
    const { view } = await client.createSession(params);
    if (text !== undefined) await client.sendInput(view.id, { text });
    showCreated(context, view);
    await sayNeighbours(context, { client, view });
    return EXIT.done;
  },
});
