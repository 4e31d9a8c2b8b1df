/** Health, capacity, sandbox level and versions of the running supervisor. Exit code 1 when it is
 *  degraded, 3 when it does not run. */
import type { DeepStatus, StatusView } from '../../protocol/resources.ts';
import { type Context, defineCommand } from '../command.ts';
import { EXIT } from '../outcome.ts';
import { formatAge, formatBytes } from '../text/format.ts';
import { renderFields } from '../text/table.ts';

export const command = defineCommand({
  build: (yargs) =>
    yargs.option('deep', {
      type: 'boolean',
      default: false,
      describe: 'Also processes, journal check, versions of what is inside',
    }),
  run: async (context, { deep }) => {
    const status = await context.connect().getStatus({ deep });
    if (context.json) context.printJson(status);
    else if (context.quiet) context.print(status.status);
    else for (const line of renderStatus(context, status)) context.print(line);
    return status.status === 'degraded' ? EXIT.failed : EXIT.done;
  },
});

export function renderStatus(
  context: Pick<Context, 'style' | 'plain' | 'machine'>,
  status: StatusView,
): string[] {
  const { capacity, sandbox } = status;
  const upMs = context.machine.clock.wallMs() - Date.parse(status.started_at);
  const sessions = Object.entries(status.sessions).map(([state, count]) => `${count} ${state}`);
  const fields: [string, string][] = [
    ['status', [status.status, ...status.reasons].join('; ')],
    ['version', status.version],
    ['pid', `${status.pid}, up ${formatAge(upMs)}`],
    ['socket', status.socket],
    ...(status.listen === undefined ? [] : [['url', status.listen] as [string, string]]),
    ['state dir', status.state_dir],
    ['config', status.config_file ?? 'none: built-in defaults'],
    ['model', `${status.model}, provider ${status.provider}`],
    ['sandbox', [sandbox.level, sandbox.reason].filter((part) => part !== undefined).join(': ')],
    ...(sandbox.offered === undefined ? [] : [['offered', sandbox.offered] as [string, string]]),
    ...(sandbox.policy === undefined ? [] : [['policy', sandbox.policy] as [string, string]]),
    ...(sandbox.mend === undefined ? [] : [['mend', sandbox.mend] as [string, string]]),
    ...(status.mcp ?? []).map(
      (each) => [`mcp ${each.server}`, describeServer(each)] as [string, string],
    ),
    ...(status.custom_tools ?? []).map(
      (each) => ['tool file', describeCustomTool(each)] as [string, string],
    ),
    ['workers', status.worker_confinement.join(', ') || 'none has started yet'],
    [
      'capacity',
      `${capacity.resident} of ${capacity.max_concurrent_sessions} resident, ` +
        `${capacity.queued} queued, ${capacity.warm} warm`,
    ],
    ['sessions', sessions.join(', ') || 'none'],
    ...(status.deep === undefined ? [] : toDeepFields(status.deep)),
  ];
  const layout = context.plain ? 'labelled' : 'columns';
  return renderFields(fields, { layout, style: context.style });
}

function toDeepFields({ node, sqlite, processes, journal }: DeepStatus): [string, string][] {
  const verdict =
    journal.problems.length === 0 ? 'no damage' : `${journal.problems.length} problems`;
  return [
    ['node', node],
    ['sqlite', sqlite],
    ...processes.map((each) => ['process', describeProcess(each)] as [string, string]),
    ['journal', `${journal.sessions} sessions, ${journal.events} events: ${verdict}`],
    ...journal.problems.map(
      ({ session, seq, problem }) =>
        ['problem', `${session}, event ${seq}: ${problem}`] as [string, string],
    ),
  ];
}

function describeProcess({ kind, pid, generation, rss_bytes }: DeepStatus['processes'][number]) {
  const facts = [
    `${kind} ${pid}`,
    ...(generation === undefined ? [] : [`generation ${generation}`]),
    ...(rss_bytes === undefined ? [] : [formatBytes(rss_bytes)]),
  ];
  return facts.join(', ');
}

function describeCustomTool(each: NonNullable<StatusView['custom_tools']>[number]): string {
  const { file, tool, effect, problem } = each;
  return tool === undefined ? `none from ${file}: ${problem}` : `${tool} (${effect}) from ${file}`;
}

function describeServer(each: NonNullable<StatusView['mcp']>[number]): string {
  const { state, processes, tools, level, problems } = each;
  const count = processes === 1 ? 'one process' : `${processes} processes`;
  const facts = [
    state,
    `${tools} tools`,
    count,
    ...(level === undefined ? [] : [`level ${level}`]),
  ];
  return [facts.join(', '), ...problems].join('; ');
}
