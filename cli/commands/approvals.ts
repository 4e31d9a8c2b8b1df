/** Lists what waits for a decision, in all sessions. */
import { type Context, defineCommand } from '../command.ts';
import { columnsOf } from '../machine.ts';
import { EXIT } from '../outcome.ts';
import { summarizeArguments } from '../session/tool-summary.ts';
import { formatAge, toShortId } from '../text/format.ts';
import { renderTable } from '../text/table.ts';
import { sanitizeLine } from '../text/width.ts';

export const command = defineCommand({
  build: (yargs) =>
    yargs
      .option('rules', {
        type: 'boolean',
        default: false,
        describe: 'The rules that were kept with approvals, instead',
      })
      .option('forget', {
        type: 'string',
        requiresArg: true,
        describe: 'Remove this kept rule: its calls are asked for again',
      }),
  run: async (context, { rules, forget }) => {
    if (forget !== undefined) return forgetRule(context, forget);
    if (rules) return listRules(context);
    const approvals = await context.connect().listApprovals();
    if (context.json) {
      context.printJson(approvals);
      return EXIT.done;
    }
    if (context.quiet) {
      for (const { session, call_id } of approvals) context.print(`${session} ${call_id}`);
      return EXIT.done;
    }
    const { machine, style, plain } = context;
    const nowMs = machine.clock.wallMs();
    const rows = approvals.map((approval) => [
      toShortId(approval.session),
      approval.call_id,
      approval.tool,
      summarizeArguments(approval.tool, approval.arguments),
      formatAge(Date.parse(approval.expires_at) - nowMs),
    ]);
    const columns = [
      { title: 'SESSION' },
      { title: 'CALL' },
      { title: 'TOOL' },
      { title: 'ARGUMENTS', flexible: true },
      { title: 'EXPIRES IN', align: 'right' as const },
    ];
    const width = machine.stdout.isTTY ? columnsOf(machine.stdout) : Number.POSITIVE_INFINITY;
    const layout = plain ? 'labelled' : 'columns';
    for (const line of renderTable(columns, rows, { layout, width, style })) context.print(line);
    if (machine.stdout.isTTY === true) sayNext(context, approvals.length);
    return EXIT.done;
  },
});

async function listRules(context: Context): Promise<number> {
  const rules = await context.connect().listKeptRules();
  if (context.json) {
    context.printJson(rules);
    return EXIT.done;
  }
  const { describeKeptRule } = await import('../../protocol/approval-words.ts');
  const { machine, style, plain } = context;
  const rows = rules.map((rule) => [
    rule.id,
    sanitizeLine(describeKeptRule(rule)),
    rule.by,
    rule.kept_at,
  ]);
  const columns = [
    { title: 'RULE' },
    { title: 'ALLOWS', flexible: true },
    { title: 'BY' },
    { title: 'KEPT AT' },
  ];
  const width = machine.stdout.isTTY ? columnsOf(machine.stdout) : Number.POSITIVE_INFINITY;
  const layout = plain ? 'labelled' : 'columns';
  for (const line of renderTable(columns, rows, { layout, width, style })) context.print(line);
  if (rules.length === 0 && machine.stdout.isTTY === true) context.say('no rule is kept');
  return EXIT.done;
}

async function forgetRule(context: Context, rule: string): Promise<number> {
  await context.connect().removeKeptRule(rule);
  if (context.json) context.printJson({ rule, removed: true });
  else if (!context.quiet) context.print(`forgot ${rule}`);
  return EXIT.done;
}

function sayNext(context: { say(line: string): void; self: string }, count: number): void {
  if (count === 0) context.say('nothing waits for a decision');
  else context.say(`decide with: ${context.self} approve SESSION CALL, or deny SESSION CALL`);
}
