/** The run_code tool: a program as the standard input of its interpreter, in a fresh sandbox. */
import type { z } from 'zod';
import type { runCodeArgumentsSchema } from '../../protocol/tools.ts';
import { quote } from '../launch/quote.ts';
import { type ToolResult, toFailure } from '../outcome.ts';
import { runShell, type ShellCall } from './shell.ts';

export type CodeArguments = z.infer<typeof runCodeArgumentsSchema>;

export interface CodeCall extends Omit<ShellCall, 'arguments'> {
  readonly arguments: CodeArguments;
}

/** Throws SANDBOX_UNAVAILABLE; every other end is a result. */
export async function runCode(call: CodeCall): Promise<ToolResult> {
  const { code, timeout_secs } = call.arguments;
  if (code.includes('\0')) return toFailure('The code holds a NUL character; write it as \\0.');
  const command = toCodeScript(call.backend.nodeProgram, call.arguments);
  const limit = timeout_secs === undefined ? {} : { timeout_secs };
  return runShell({ ...call, arguments: { command, ...limit } });
}

/** The command line for /bin/sh. Pure. */
export function toCodeScript(node: string, { language, code }: CodeArguments): string {
  const end = findDelimiter(code);
  const document = `- <<'${end}'\n${code}\n${end}\n`;
  if (language === 'javascript') return `exec ${quote(node)} ${document}`;
  const missing = 'python3 is not installed here: use language javascript, or shell';
  const check = `command -v python3 >/dev/null || { echo ${quote(missing)} >&2; exit 127; }`;
  return `${check}\nexec python3 ${document}`;
}

/** A line that the code does not have. */
function findDelimiter(code: string): string {
  const lines = new Set(code.split('\n'));
  for (let count = 0; ; count += 1) {
    const delimiter = `PRX_CODE_${count}`;
    if (!lines.has(delimiter)) return delimiter;
  }
}
