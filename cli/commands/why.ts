/** The post-mortem of a session: what died, what became of it, how it is now, what to do next. */
import type { KnownEvent } from '../../protocol/events.ts';
import { defineCommand } from '../command.ts';
import { EXIT } from '../outcome.ts';
import { toKnownEvent } from '../session/follow-turn.ts';
import { pageEvents } from '../session/history.ts';
import { adviseNext } from '../why/advice.ts';
import { summarize, toSections } from '../why/render.ts';
import { REPORT_TYPES, toReport } from '../why/report.ts';
import { describeSession } from './describe.ts';

export const command = defineCommand({
  build: (yargs) =>
    yargs
      .positional('id', { type: 'string', demandOption: true, describe: 'Id, name, or @last' })
      .example('prx-supervisor why @last', 'numbers such as #45 are those of `events`')
      .example('prx-supervisor why web --json', 'the same for programs'),
  run: async (context, { id }) => {
    const client = context.connect();
    const view = await client.getSession(id);
    const events: KnownEvent[] = [];
    const request = { client, sessionId: view.id, since: 0, types: REPORT_TYPES };
    for await (const event of pageEvents(request)) events.push(toKnownEvent(event));
    const report = toReport(events);
    const next = adviseNext(view, report, context.self);
    if (context.json) {
      context.printJson({ session: view, summary: summarize(report), report, next });
      return EXIT.done;
    }
    for (const line of describeSession(view, context.machine.clock.wallMs())) context.print(line);
    const { style, plain } = context;
    context.print(plain ? `summary: ${summarize(report)}` : `\n${style.bold(summarize(report))}`);
    for (const { title, label, lines } of toSections(report, next)) {
      if (plain) for (const line of lines) context.print(`${label}: ${line.trim()}`);
      else {
        context.print(`\n${style.bold(`${title}:`)}`);
        for (const line of lines) context.print(`  ${line}`);
      }
    }
    return EXIT.done;
  },
});
