/** An error as people or programs read it on stderr: what happened, then what to do next. */
import type { PrxError } from '../base/errors.ts';
import type { Context } from './command.ts';
import { type Door, quoteArgument } from './locate.ts';
import { toErrorExit } from './outcome.ts';
import { sanitize } from './text/width.ts';

type ReportContext = Pick<Context, 'json' | 'say' | 'errorStyle' | 'self'> & {
  readonly door: Door | undefined;
};

/** Says the error on stderr. @returns the exit code that goes with it. */
export function reportError(context: ReportContext, error: PrxError): number {
  const exit = toErrorExit(error);
  if (context.json) {
    const { code, message, data } = error;
    context.say(JSON.stringify({ error: { code, message, exit, data } }));
    return exit;
  }
  const { red, dim } = context.errorStyle;
  // A mistake in the command line needs no code to look up.
  const code = error.code === 'INVALID_REQUEST' ? '' : ` ${dim(`(${error.code})`)}`;
  context.say(`${red('error:')} ${sanitize(toMessage(error))}${code}`);
  for (const hint of toHints(context, error)) context.say(hint);
  return exit;
}

function toMessage(error: PrxError): string {
  const { at, system_code: systemCode } = error.data;
  // Where in a request a value was is of no use to who typed a command.
  if (error.code === 'INVALID_REQUEST') return error.message.replace(/^(body|query|path)\./, '');
  if (error.code !== 'NOT_RUNNING' || typeof at !== 'string') return error.message;
  return `no supervisor answers at ${at} (${String(systemCode)})`;
}

function toHints(context: ReportContext, error: PrxError): string[] {
  const { self, door } = context;
  switch (error.code) {
    case 'NOT_RUNNING':
      return door === undefined ? [] : notRunningHints(self, door);
    case 'SESSION_NOT_FOUND':
      return error.message.includes(' ps -a') ? [] : [`list all sessions with: ${self} ps -a`];
    case 'SESSION_AMBIGUOUS':
      return candidateHints(error);
    case 'UNAUTHORIZED':
      return [
        'put a valid token into PRX_TOKEN; that of a local supervisor is in STATE_DIR/api-token',
      ];
    case 'AT_CAPACITY':
    case 'QUEUE_FULL': {
      const seconds = error.data['retry_after_secs'];
      return typeof seconds === 'number' ? [`try again in ${seconds} s`] : [];
    }
    case 'CONFIG_INVALID':
      return [`check it with: ${self} config check${toFileOption(error)}`];
    case 'SESSION_NOT_OPEN':
      return error.message.includes(' restart ') ? [] : [`open it again with: ${self} restart ID`];
    case 'STATE_INVALID':
      return isClosed(error) ? [`open it again with: ${self} restart ID`] : [];
    default:
      return [];
  }
}

/** The file is the supervisor's, which may have been started with another one than ours. */
function toFileOption({ data: { file } }: PrxError): string {
  return typeof file === 'string' ? ` --config ${quoteArgument(file)}` : '';
}

function isClosed({ data }: PrxError): boolean {
  return data['from'] === 'stopped' || data['from'] === 'failed';
}

function notRunningHints(self: string, door: Door): string[] {
  if (door.kind === 'url') return ['check PRX_URL or --url, and that the supervisor listens there'];
  return [`start it with: ${self} start --detach`];
}

function candidateHints(error: PrxError): string[] {
  const { candidates } = error.data;
  if (!Array.isArray(candidates)) return [];
  return ['candidates:', ...candidates.map((candidate) => `  ${toText(candidate)}`)];
}

function toText(value: unknown): string {
  if (typeof value !== 'object' || value === null) return sanitize(String(value));
  return sanitize(Object.values(value).join(' · '));
}
